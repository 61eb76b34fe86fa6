"""Times the database calls of a process, for benchmarks/whole_pool.py.

Python imports a module of this name as it starts, so that with this folder on PYTHONPATH every
worker of a campaign is measured and none of voltscreen's code knows of it. What was found is
written as the process ends, to a file of its own in the folder that CALLS_FOLDER names.
"""

from __future__ import annotations

import atexit
import json
import os
from pathlib import Path

from pymongo import monitoring


class Calls(monitoring.CommandListener):
    """Number and seconds of calls by collection and command, as the client waited for them."""

    def __init__(self) -> None:
        self.found: dict[str, tuple[int, float]] = {}
        self._names: dict[int, str] = {}

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        """Note what the call is about; its end does not say."""
        key = "collection" if event.command_name == "getMore" else event.command_name
        collection = event.command.get(key)
        name = collection if isinstance(collection, str) else "-"
        self._names[event.request_id] = f"{name} {event.command_name}"

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        """Add it up."""
        self._add(event.request_id, event.duration_micros)

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        """As one that succeeded: the client waited all the same."""
        self._add(event.request_id, event.duration_micros)

    def _add(self, request: int, microseconds: int) -> None:
        name = self._names.pop(request, "- -")
        count, seconds = self.found.get(name, (0, 0.0))
        self.found[name] = count + 1, seconds + 1e-6 * microseconds

    def write(self, folder: Path) -> None:
        """To a file named by the process."""
        folder.joinpath(f"{os.getpid()}.json").write_text(json.dumps(self.found))


if "CALLS_FOLDER" in os.environ:
    calls = Calls()
    monitoring.register(calls)
    atexit.register(calls.write, Path(os.environ["CALLS_FOLDER"]))
