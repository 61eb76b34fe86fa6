"""The name of a worker, as FireWorks stores it with every launch."""

from __future__ import annotations

import socket
from dataclasses import dataclass

from voltscreen.cluster.job import Job
from voltscreen.process import ProcessId

HEARTBEAT_SECONDS = 20.0
"""How often a worker tells the database that it lives."""


@dataclass(frozen=True, slots=True)
class WorkerId:
    """A worker: its machine and its process there."""

    host: str
    process: ProcessId

    @property
    def name(self) -> str:
        """What FireWorks stores with every launch."""
        return f"{self.host}|{self.process.pid}|{self.process.started}"

    @classmethod
    def current(cls) -> WorkerId:
        """This process."""
        return cls(this_machine(), ProcessId.current())


def this_machine() -> str:
    """Name of this machine: SLURM's name of the node in a job, else the host's."""
    job = Job.current()
    return job.node if job and job.node else socket.gethostname()


def parse_worker_name(name: str) -> WorkerId | None:
    """The inverse of `WorkerId.name`; None for a worker that is not ours (`rlaunch`)."""
    parts = name.split("|")
    if len(parts) != 3 or not parts[1].isdigit():
        return None
    return WorkerId(parts[0], ProcessId(int(parts[1]), parts[2]))


_EXPORTED = "exported to "


def exported_name(folder: str) -> str:
    """The worker of a batch that was written to a file for nodes without the database."""
    return f"{_EXPORTED}{folder}"


def is_exported(name: str) -> bool:
    """Whether a worker's name is that of a folder of exported batch files."""
    return name.startswith(_EXPORTED)
