"""The lock of a workflow, compatible with FireWorks' own, which has no owner and no end.

FireWorks marks a workflow `locked` while it changes it, and waits five minutes for a mark that a
dead process left before it gives up. Here the mark says whose it is; one that stands unchanged,
over a workflow that does not change either, is broken after a few seconds.
"""

from __future__ import annotations

import random
import time
import uuid
from types import TracebackType
from typing import Any

from pymongo.collection import Collection

BREAK_AFTER = 15.0
"""Seconds. Living processes hold the lock for a few writes."""


class WorkflowLock:
    """Hold the lock of the workflow that has a Firework; a context manager.

    Raises:
        LookupError: no workflow has that Firework.
    """

    def __init__(self, workflows: Collection[dict[str, Any]], fw_id: int) -> None:
        self._workflows, self._fw_id = workflows, fw_id
        self._mark = uuid.uuid4().hex

    def __enter__(self) -> None:
        seen: Any = None
        since = time.monotonic()
        while True:
            # Claims by filter are never doubled, whatever image the server returns.
            free = {"nodes": self._fw_id, "locked": {"$exists": False}}
            taken = self._workflows.update_one(free, {"$set": {"locked": self._mark}})
            if taken.matched_count:
                return
            row = self._workflows.find_one({"nodes": self._fw_id}, {"locked": 1, "updated_on": 1})
            if row is None:
                raise LookupError(f"no workflow has the Firework {self._fw_id}")
            found = (row.get("locked"), row.get("updated_on"))
            if found != seen:
                seen, since = found, time.monotonic()
            elif time.monotonic() - since > BREAK_AFTER:
                same = {"_id": row["_id"], "locked": found[0], "updated_on": found[1]}
                self._workflows.update_one(same, {"$unset": {"locked": True}})
            time.sleep(random.uniform(0.02, 0.1))  # noqa: S311  # only spreads the waiting

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        # FireWorks writes True over our mark when it writes the workflow.
        ours = {"nodes": self._fw_id, "locked": {"$in": [self._mark, True]}}
        self._workflows.update_one(ours, {"$unset": {"locked": True}})
