"""Whether somebody still works a Firework: asked of the machine, of SLURM, or of the heartbeat."""

from __future__ import annotations

import getpass
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any

from voltscreen.campaign.launchpad import VoltscreenLaunchPad
from voltscreen.campaign.worker_id import (
    HEARTBEAT_SECONDS,
    is_exported,
    parse_worker_name,
    this_machine,
)
from voltscreen.cluster.commands import SlurmError, slurm_is_here
from voltscreen.cluster.job import Job
from voltscreen.cluster.queue import Queue, QueuedJob, read_queue

Row = dict[str, Any]

LOST_AFTER = timedelta(seconds=6 * HEARTBEAT_SECONDS)
"""Where nobody else can be asked, a worker whose heart did not beat for that long is lost."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is known of the one who took a Firework.

    lost: nobody works it any more; reason: how we know; job: name of its SLURM job; exported: it is
    in a file, and comes back when a person brings it.
    """

    lost: bool
    reason: str
    job: str | None = None
    exported: bool = False


class Liveness:
    """Judges Fireworks that are RUNNING or RESERVED, all by one look at SLURM's queue.

    Args:
        idle: name of a worker that is known to have nothing in hand.
    """

    def __init__(self, launchpad: VoltscreenLaunchPad, idle: str | None = None) -> None:
        self._launchpad, self._idle = launchpad, idle

    @cached_property
    def _queue(self) -> Queue | SlurmError | None:
        """SLURM's queue; the error where it does not answer; None where there is no SLURM."""
        if not slurm_is_here():
            return None
        try:
            return read_queue()
        except SlurmError as error:
            return error

    def judge(self, rows: Iterable[Row]) -> dict[int, Verdict]:
        """A verdict for each Firework, by its id.

        Args:
            rows: of the collection `fireworks`, with `fw_id`, `claim` and `updated_on`.
        """
        # Launches first, the queue afterwards: a job that began in between must not seem gone.
        launches = [(row, self._last_launch(row)) for row in rows]
        return {row["fw_id"]: self._verdict(row, launch) for row, launch in launches}

    def _last_launch(self, row: Row) -> Row | None:
        # By Firework, not by the Firework's own list: that one is written after the launch.
        launch: Row | None = self._launchpad.launches.find_one(
            {"fw_id": row["fw_id"]},
            {"fworker": 1, "state": 1, "state_history": 1},
            sort=[("launch_id", -1)],
        )
        return launch

    def _verdict(self, row: Row, launch: Row | None) -> Verdict:
        claim = row.get("claim")
        if claim is not None:
            # Checked out, and its launch is not written yet: that of an earlier attempt may be.
            return self._of_worker(claim["worker"], claim.get("job"), claim["at"])
        if launch is None:
            return Verdict(lost=True, reason="taken by somebody who died before it began")
        worker = launch["fworker"]
        if launch["state"] == "RESERVED":
            return self._of_reservation(launch)
        if is_exported(worker["name"]):
            return Verdict(lost=False, reason="in an exported batch file", exported=True)
        job = worker.get("env", {}).get("job")
        return self._of_worker(worker["name"], job, _last_sign(launch))

    def _of_worker(self, name: str, job: Row | None, last: datetime | None) -> Verdict:
        ours = parse_worker_name(name)
        of_job = Job.from_plain(job)
        if name == self._idle:
            return Verdict(lost=True, reason="its worker has nothing in hand")
        if ours and ours.host == this_machine():
            alive = ours.process.is_alive()
            reason = f"process {ours.process.pid} {'runs' if alive else 'is gone'}"
            return Verdict(not alive, reason, of_job.name if of_job else None)
        if of_job is not None:
            found = self._of_job(of_job, last)
            if found is not None:
                return found
        silent = _silence(last)
        return Verdict(
            lost=silent > LOST_AFTER,
            reason=f"no heartbeat for {silent.total_seconds():.0f} s",
            job=of_job.name if of_job else None,
        )

    def _of_job(self, job: Job, last: datetime | None) -> Verdict | None:
        """What SLURM says; None where it cannot know: another cluster, or hidden by its policy."""
        us = Job.current()
        if us and (us.cluster, us.name) == (job.cluster, job.name) and us.restart > job.restart:
            return Verdict(lost=True, reason="its job was requeued", job=job.name)
        queue = self._queue
        if isinstance(queue, SlurmError):
            return Verdict(lost=False, reason=f"SLURM does not answer: {queue}", job=job.name)
        if queue is None or queue.cluster != job.cluster:
            return None
        found = queue.jobs.get(job.name)
        if found is None and job.user != getpass.getuser():
            return None  # a site may hide the jobs of others
        return _of_queued(job, found, last)

    def _of_reservation(self, launch: Row) -> Verdict:
        """Reserved for a job that FireWorks' qlaunch submitted."""
        number = next(
            (
                str(entry["reservation_id"])
                for entry in launch["state_history"]
                if entry.get("reservation_id")
            ),
            None,
        )
        silent = _silence(_last_sign(launch))
        if number is None:
            return Verdict(silent > LOST_AFTER, "reserved, and no job was submitted for it")
        queue = self._queue
        if not isinstance(queue, Queue):
            return Verdict(lost=False, reason=f"reserved for job {number}", job=number)
        found = queue.jobs.get(number)
        if found is None or found.has_ended:
            return Verdict(
                lost=True, reason=f"reserved for job {number}, which is gone", job=number
            )
        return Verdict(lost=False, reason=f"reserved for job {number}: {found.state}", job=number)


def _of_queued(job: Job, found: QueuedJob | None, last: datetime | None) -> Verdict:
    """What the queue says of a job; None for one that it no longer has."""
    if found is None:
        return Verdict(lost=True, reason="its job is gone", job=job.name)
    if found.has_ended:
        return Verdict(lost=True, reason=f"its job ended: {found.state}", job=job.name)
    if found.restart > job.restart or found.state.startswith(("PENDING", "REQUEUE")):
        return Verdict(lost=True, reason="its job was requeued", job=job.name)
    if found.state == "COMPLETING" and _silence(last) > LOST_AFTER:
        return Verdict(lost=True, reason="its job is ending and silent", job=job.name)
    return Verdict(lost=False, reason=f"its job is {found.state}", job=job.name)


def _silence(last: datetime | None) -> timedelta:
    return timedelta.max if last is None else datetime.now(UTC) - _utc(last)


def _last_sign(launch: Row) -> datetime | None:
    stamps = [
        entry.get("updated_on") or entry.get("created_on") for entry in launch["state_history"]
    ]
    return max((_utc(stamp) for stamp in stamps if stamp), default=None)


def _utc(stamp: Any) -> datetime:
    """FireWorks writes naive UTC, as dates or as text."""
    moment = stamp if isinstance(stamp, datetime) else datetime.fromisoformat(str(stamp))
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
