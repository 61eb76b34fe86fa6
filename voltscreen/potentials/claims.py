"""Claims: several processes share a folder of work, and each piece is done by one of them.

A claim is a file that names its process: machine, number and start time, for a number alone is
used again. A claim whose process is gone is taken over by the next on the same machine; of a
process on another machine nobody here can tell.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from voltscreen.process import ProcessId

_GUARD = ".guard"


@contextlib.contextmanager
def guarded(folder: Path) -> Iterator[None]:
    """Only one process at a time is inside, for one folder; the system lets go of a dead one."""
    with (folder / _GUARD).open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def claim(path: Path) -> bool:
    """Whether this process now holds the claim at that path.

    The folder must be guarded: between finding a dead owner and writing the new one, nobody
    else may look.
    """
    try:
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    except FileExistsError:
        if holder(path) is not None:
            return False
        path.unlink(missing_ok=True)
        return claim(path)
    with os.fdopen(handle, "w") as file:
        file.write(_signature(os.getpid()))
    return True


def holder(path: Path) -> str | None:
    """Machine of a claim's owner; None where there is no claim, or its process is gone.

    An empty claim has no owner: its process died between creating it and writing its name.
    """
    try:
        text = path.read_text()
    except FileNotFoundError:
        return None
    machine, _, rest = text.partition("|")
    pid = rest.partition("|")[0]
    if not pid.isdecimal():
        return None
    if machine == socket.gethostname() and text != _signature(int(pid)):
        return None
    return machine


def _signature(pid: int) -> str:
    """`machine|pid|start time`, the start time empty where no such process runs."""
    process = ProcessId.of(pid)
    return f"{socket.gethostname()}|{pid}|{process.started if process else ''}"
