"""Where a campaign stands on SLURM: its jobs, its batches, how fast, and what failed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from voltscreen.campaign.spool import spool_files
from voltscreen.campaign.worker import WorkerEnd
from voltscreen.cluster.queue import QueuedJob, how_they_ended, read_queue
from voltscreen.cluster.submit import task_names
from voltscreen.store import Store, get_campaign
from voltscreen.store.documents import BatchKind, BatchState, CampaignState, JobArrayDocument, now

RATE_WINDOW = timedelta(minutes=10)
"""The rate is that of the batches that ended in this time."""


class FailedJob(BaseModel):
    """A job that did not end well."""

    model_config = ConfigDict(frozen=True)

    job: str = Field(description="array_task")
    reason: str = Field(description="SLURM's word, or what the workers' exit code says")
    log: str = Field(description="path of its log")


class FailedAttempt(BaseModel):
    """An attempt at a batch that failed."""

    model_config = ConfigDict(frozen=True)

    batch: str
    reason: str
    job: str | None
    log: str | None = Field(description="path of its job's log")


class SlurmStatus(BaseModel):
    """Where a campaign stands on SLURM."""

    model_config = ConfigDict(frozen=True)

    campaign: str
    state: CampaignState
    jobs: dict[str, int] = Field(description="by state: SLURM's, or LEFT where it forgot them")
    waiting: dict[str, int] = Field(description="pending jobs by SLURM's reason")
    batches: dict[BatchState, int]
    structures: int = Field(description="in predict batches")
    structures_done: int = Field(description="of them in batches that are done")
    rate: float | None = Field(description="structures a second over the last ten minutes")
    ends_at: datetime | None = Field(description="at that rate, UTC")
    failed_jobs: list[FailedJob]
    failed_batches: list[FailedAttempt]
    spooled: int = Field(description="spool files that wait for `campaign recover`")
    spool_folders: list[str]


def slurm_status(store: Store, name: str) -> SlurmStatus:
    """Where a campaign stands on SLURM.

    Raises:
        CampaignError: no such campaign.
        SlurmError: SLURM is not here or does not answer.
    """
    campaign = get_campaign(store, name)
    arrays = [
        JobArrayDocument.from_mongo(row)
        for row in store.job_arrays.find({"campaign": name}).sort("submitted_at", 1)
    ]
    logs = {
        task: array.log.replace("%A", array.number).replace("%a", task.partition("_")[2])
        for array in arrays
        for task in task_names([array])
    }
    known = {name: job for name, job in read_queue().jobs.items() if name in logs}
    states, failed = _jobs(known, logs)
    rows = list(
        store.batches.find(
            {"campaign": name, "kind": BatchKind.PREDICT},
            {"state": 1, "n_structures": 1, "attempts": 1},
        )
    )
    batches = dict.fromkeys(BatchState, 0)
    for row in rows:
        batches[BatchState(row["state"])] += 1
    structures = sum(row["n_structures"] for row in rows)
    done = sum(row["n_structures"] for row in rows if row["state"] == BatchState.DONE)
    rate = _rate(rows)
    left = structures - done
    folders = sorted({array.spool for array in arrays})
    return SlurmStatus(
        campaign=name,
        state=campaign.state,
        jobs=states,
        waiting=dict(Counter(job.reason for job in known.values() if job.state == "PENDING")),
        batches=batches,
        structures=structures,
        structures_done=done,
        rate=rate,
        ends_at=now() + timedelta(seconds=left / rate) if rate and left else None,
        failed_jobs=failed,
        failed_batches=_failed_batches(rows, logs),
        spooled=sum(1 for folder in folders for _ in spool_files(Path(folder))),
        spool_folders=folders,
    )


def _jobs(
    known: dict[str, QueuedJob], logs: dict[str, str]
) -> tuple[dict[str, int], list[FailedJob]]:
    """Jobs by state, and those that failed; known: those that SLURM still has."""
    running = {name for name, job in known.items() if not job.has_ended}
    ended = how_they_ended(set(logs) - running)
    states: Counter[str] = Counter()
    failed = []
    for name, log in logs.items():
        job, end = known.get(name), ended.get(name)
        state = job.state if job else end.state if end else "LEFT"
        code = end.exit_code if end else job.exit_code if job and job.has_ended else 0
        if state == "FAILED" and code >= WorkerEnd.OUT_OF_TIME and code in set(WorkerEnd):
            # SLURM calls every exit code but 0 a failure.
            if code == WorkerEnd.SPOOLED:
                failed.append(FailedJob(job=name, reason=WorkerEnd(code).sentence, log=log))
            state = "COMPLETED"
        elif state not in ("COMPLETED", "LEFT") and name not in running:
            failed.append(FailedJob(job=name, reason=_reason(state, code, log), log=log))
        states[state] += 1
    return dict(states), failed


def _reason(state: str, code: int, log: str) -> str:
    """How a job ended, with the last line of its log where it can be read."""
    reason = state
    if state == "FAILED":
        known = code in set(WorkerEnd)
        reason = f"{WorkerEnd(code).sentence}" if known else f"exit code {code}"
    try:
        lines = Path(log).read_text(errors="replace").strip().splitlines()
    except OSError:
        return reason
    return f"{reason}; {lines[-1]}" if lines else reason


def _failed_batches(rows: Iterable[dict[str, Any]], logs: dict[str, str]) -> list[FailedAttempt]:
    failed = []
    for row in rows:
        last = row["attempts"][-1] if row["attempts"] else {}
        if row["state"] == BatchState.FAILED and "error" in last:
            job = last.get("job")
            log = logs.get(job) if job else None
            failed.append(FailedAttempt(batch=row["_id"], reason=last["error"], job=job, log=log))
    return failed


def _rate(rows: Iterable[dict[str, Any]]) -> float | None:
    """Structures a second of the batches that ended lately; None when none did."""
    moment = now()
    since = moment - RATE_WINDOW
    first, count = moment, 0
    for row in rows:
        if row["state"] == BatchState.DONE and row["attempts"]:
            last = row["attempts"][-1]
            began = last["started_at"]
            if began + timedelta(seconds=last["seconds"]) > since:
                first, count = min(first, max(began, since)), count + row["n_structures"]
    seconds = (moment - first).total_seconds()
    return count / seconds if seconds > 0 and count else None
