"""Identity of a process: a pid alone is reused, a pid with its start time is not."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class ProcessId:
    """A process of this machine.

    pid: number of the process.
    started: when it started, as the system tells it (clock ticks since boot on Linux, a date
        elsewhere); empty where the system does not tell.
    """

    pid: int
    started: str

    @classmethod
    def of(cls, pid: int) -> ProcessId | None:
        """The process of that number as it is now; None when there is none (or a zombie)."""
        started = _start_time(pid)
        return None if started is None else cls(pid, started)

    @classmethod
    def current(cls) -> ProcessId:
        """This process."""
        return cls(os.getpid(), _start_time(os.getpid()) or "")

    def is_alive(self) -> bool:
        """Whether this very process, and not a later one of the same number, still runs."""
        now = ProcessId.of(self.pid)
        return now is not None and (not self.started or now.started == self.started)


def command_line(pid: int) -> str:
    """The command line of a process, its arguments separated by spaces; empty when unknown."""
    try:
        raw = Path(f"/proc/{pid}/cmdline").read_bytes()
        return raw.replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return _ps(pid, "command")


def _start_time(pid: int) -> str | None:
    """Start time of a running process; None when it does not run."""
    if pid <= 0:
        return None
    if Path("/proc/self/stat").exists():
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            return None
        # The name in parentheses may itself hold blanks and parentheses.
        fields = stat.rpartition(")")[2].split()
        return None if fields[0] in "ZX" else fields[19]
    return _ps(pid, "lstart") or None


def _ps(pid: int, column: str) -> str:
    """One column of `ps` where there is no /proc (macOS)."""
    try:
        done = subprocess.run(
            ["ps", "-o", f"{column}=", "-p", str(pid)],
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError:
        return ""
    return done.stdout.strip()
