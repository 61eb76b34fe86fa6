"""What SLURM knows of jobs: `squeue` for those that it still has, `sacct` where there is one."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from voltscreen.cluster.commands import SlurmError, ask, table

ENDED = frozenset(
    "BOOT_FAIL CANCELLED COMPLETED DEADLINE FAILED NODE_FAIL OUT_OF_MEMORY PREEMPTED REVOKED "
    "TIMEOUT".split()
)
"""States of a job that will not run again. squeue keeps showing them for a while (MinJobAge)."""
HELD_BY_SLURM = ("launch failed requeued held", "JobHoldMaxRequeue")
"""Reasons of jobs that SLURM itself holds: a node's prolog failed, or nodes did too often."""
_FIELDS = (
    "JobArrayID", "ArrayJobID", "State", "RestartCnt", "UserName", "Reason", "NodeList",
    "exit_code", "Comment",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class QueuedJob:
    """A job, or a task of an array.

    name: `12` or `12_3`; array: the number that sbatch gave; state: SLURM's word; restart: how
    often it was requeued; reason: why it waits or how it ended; exit_code: 0 while it runs;
    comment: as it was submitted with.
    """

    name: str
    array: str
    state: str
    restart: int
    user: str
    reason: str
    nodes: str
    exit_code: int
    comment: str

    @property
    def has_ended(self) -> bool:
        """Whether it will not run again."""
        return self.state in ENDED

    @property
    def is_held_by_slurm(self) -> bool:
        """Whether it waits for good, and not because a person wants it to."""
        return self.state == "PENDING" and self.reason.replace("_", " ").startswith(HELD_BY_SLURM)


@dataclass(frozen=True)
class Queue:
    """The jobs of a cluster at one moment, by name."""

    cluster: str
    jobs: Mapping[str, QueuedJob] = field(default_factory=dict)

    def with_comment(self, comment: str, arrays: Iterable[str] = ()) -> list[QueuedJob]:
        """Jobs that carry a comment, or belong to one of these arrays."""
        known = set(arrays)
        return [job for job in self.jobs.values() if job.comment == comment or job.array in known]


def read_queue() -> Queue:
    """The jobs of all users that SLURM shows us, ended ones as long as it keeps them.

    Raises:
        SlurmError: SLURM is not here or does not answer: nothing is known then.
    """
    rows = table(_FIELDS, "squeue", "--noheader", "--array", "--states=all")
    jobs = [
        QueuedJob(
            name=row["JobArrayID"],
            array=row["ArrayJobID"],
            state=row["State"],
            restart=int(row["RestartCnt"] or 0),
            user=row["UserName"],
            reason=row["Reason"],
            nodes=row["NodeList"],
            exit_code=_exit_code(row["exit_code"]),
            comment=row["Comment"],
        )
        for row in rows
    ]
    return Queue(cluster_name(), {job.name: job for job in jobs})


def _exit_code(shown: str) -> int:
    """Squeue shows what wait() gives: the exit code in the upper byte."""
    return int(shown) >> 8 if shown.isdigit() else 0


def cluster_name() -> str:
    """SLURM's name of the cluster that this machine submits to."""
    found = re.search(r"^ClusterName\s*=\s*(\S+)", ask("scontrol", "show", "config"), re.MULTILINE)
    return found[1] if found else ""


def max_array_size() -> int:
    """Most tasks that an array may have here."""
    found = re.search(r"MaxArraySize\s*=\s*(\d+)", ask("scontrol", "show", "config"))
    return int(found[1]) - 1 if found else 1000


@dataclass(frozen=True, slots=True)
class EndedJob:
    """How a job ended. exit_code: of its script; signal: that killed it, 0 for none."""

    name: str
    state: str
    exit_code: int
    signal: int


def how_they_ended(names: Iterable[str]) -> dict[str, EndedJob]:
    """How jobs ended, by name, those that accounting knows; empty where there is no accounting."""
    wanted = sorted(set(names))
    ended: dict[str, EndedJob] = {}
    with contextlib.suppress(SlurmError):
        for start in range(0, len(wanted), 500):
            answer = ask(
                "sacct", "--allocations", "--noheader", "--parsable2",
                "--format=JobID,State,ExitCode", "--jobs=" + ",".join(wanted[start : start + 500]),
            )  # fmt: skip
            for line in answer.splitlines():
                name, state, code = line.split("|")
                number, _, killed = code.partition(":")
                word = state.split(" ")[0]  # "CANCELLED by 1000"
                if word in ENDED:
                    ended[name] = EndedJob(name, word, int(number), int(killed or 0))
    return ended
