"""The SLURM job that this process runs in."""

from __future__ import annotations

import contextlib
import getpass
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Self

from voltscreen.cluster.commands import SlurmError, ask, table

KILL_WAIT = 30.0
"""Seconds between SIGTERM and SIGKILL where the controller does not say (SLURM's default)."""
JOB_END = "VOLTSCREEN_JOB_END"
"""Our script's own reckoning of the end of its wall time, seconds since 1970."""


@dataclass(frozen=True, slots=True)
class Job:
    """A job, or a task of a job array.

    cluster: SLURM's name of the cluster; id: the number that SLURM keeps it under; name: what
    people call it, such as `12` or `12_3`; restart: how often it was requeued before; node: where
    it runs; user: whose it is; gpus: CUDA_VISIBLE_DEVICES as the allocation gave it.
    """

    cluster: str
    id: str
    name: str
    restart: int
    node: str
    user: str
    gpus: str | None = None

    @classmethod
    def current(cls, environment: Mapping[str, str] = os.environ) -> Self | None:
        """The job of this process; None outside of SLURM."""
        number = environment.get("SLURM_JOB_ID")
        if not number:
            return None
        array, task = (environment.get(f"SLURM_ARRAY_{part}") for part in ("JOB_ID", "TASK_ID"))
        return cls(
            cluster=environment.get("SLURM_CLUSTER_NAME", ""),
            id=number,
            name=f"{array}_{task}" if array and task else number,
            restart=int(environment.get("SLURM_RESTART_COUNT", "0")),
            node=environment.get("SLURMD_NODENAME", ""),
            user=environment.get("SLURM_JOB_USER") or getpass.getuser(),
            gpus=environment.get("CUDA_VISIBLE_DEVICES"),
        )

    def to_plain(self) -> dict[str, Any]:
        """As FireWorks stores it with a launch."""
        return asdict(self)

    @classmethod
    def from_plain(cls, values: Mapping[str, Any] | None) -> Self | None:
        """The inverse of `to_plain`; None for a launch outside of SLURM."""
        return cls(**values) if values else None


def ends_at(job: Job, environment: Mapping[str, str] = os.environ) -> float | None:
    """When the job's wall time is over, seconds since 1970; None when nobody knows."""
    if stamp := environment.get("SLURM_JOB_END_TIME"):  # SLURM 23.02 and newer
        return float(stamp)
    with contextlib.suppress(SlurmError, ValueError):
        (row,) = table(("EndTime",), "squeue", "--noheader", f"--jobs={job.id}")
        # squeue writes local time without a zone.
        return datetime.fromisoformat(row["EndTime"]).astimezone().timestamp()
    reckoned = environment.get(JOB_END)
    return float(reckoned) if reckoned else None


def kill_wait() -> float:
    """Seconds that a job has between SIGTERM and SIGKILL."""
    with contextlib.suppress(SlurmError):
        found = re.search(r"KillWait\s*=\s*(\d+)", ask("scontrol", "show", "config", timeout=10))
        if found:
            return float(found[1])
    return KILL_WAIT
