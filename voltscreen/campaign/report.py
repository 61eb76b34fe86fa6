"""What a campaign took and what became of it: time by stage, rate, failures, cost."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from voltscreen.store import Store, get_campaign
from voltscreen.store.connection import find_by_ids
from voltscreen.store.documents import BatchKind, CampaignState, VoltageStatus, voltage_id


class StageTime(BaseModel):
    """A stage: its work added up over workers, and the time from its first begin to last end."""

    model_config = ConfigDict(frozen=True)

    stage: str
    runs: int
    seconds: float = Field(description="work, added up over all workers, s")
    wall_seconds: float = Field(description="from the first begin to the last end, s")


class FailureKind(BaseModel):
    """Structures without a voltage for one kind of reason."""

    model_config = ConfigDict(frozen=True)

    kind: str
    count: int
    example: str = Field(description="structure id")


class CampaignReport(BaseModel):
    """What a campaign took and what became of it."""

    model_config = ConfigDict(frozen=True)

    name: str
    state: CampaignState
    structures: int
    stages: list[StageTime]
    rate: float | None = Field(description="structures predicted in a second of wall time")
    failures: list[FailureKind]
    device_hours: dict[str, float] = Field(
        description="by kind of device (cpu, cuda): hours that a batch was in hand"
    )
    attempts: int = Field(description="at batches, those that were lost not counted")
    repeated: int = Field(description="attempts beyond one a batch")
    attempts_failed: int
    handed_back: int = Field(description="attempts that ended early because time was over")
    peak_memory: float | None = Field(description="of a worker, MiB")
    peak_gpu_memory: float | None = Field(description="of a GPU, MiB")
    workers: int = Field(description="processes that worked batches")


def campaign_report(store: Store, name: str) -> CampaignReport:
    """The report of a campaign, finished or not.

    Raises:
        CampaignError: no campaign of that name.
    """
    campaign = get_campaign(store, name)
    spans: dict[str, list[tuple[datetime, float]]] = {}
    for run in campaign.stages:
        spans.setdefault(run.stage, []).append((run.started_at, run.seconds))
    attempts: list[dict[str, Any]] = []
    structures = worked = batches = 0
    columns = {"kind": 1, "n_structures": 1, "attempts": 1, "predicted": 1, "failed": 1}
    for row in store.batches.find({"campaign": name}, columns):
        structures += row["n_structures"]
        if row["kind"] == BatchKind.PREDICT:
            attempts += row["attempts"]
            batches += bool(row["attempts"])
            worked += row["predicted"] + row["failed"]
    for attempt in attempts:
        spans.setdefault("predict", []).append((attempt["started_at"], attempt["seconds"]))
    stages = [_stage_time(stage, spans[stage]) for stage in _in_order(spans)]
    wall = next((one.wall_seconds for one in stages if one.stage == "predict"), 0.0)
    return CampaignReport(
        name=name,
        state=campaign.state,
        structures=structures,
        stages=stages,
        rate=worked / wall if wall else None,
        failures=failures_by_kind(store, name, campaign.model_id),
        device_hours=_device_hours(attempts),
        attempts=len(attempts),
        repeated=len(attempts) - batches,
        attempts_failed=sum("error" in attempt for attempt in attempts),
        handed_back=sum(bool(attempt.get("handed_back")) for attempt in attempts),
        peak_memory=max((attempt["peak_memory"] for attempt in attempts), default=None),
        peak_gpu_memory=max(
            (attempt["gpu_memory"] for attempt in attempts if "gpu_memory" in attempt),
            default=None,
        ),
        workers=len({(attempt["host"], attempt["pid"]) for attempt in attempts}),
    )


def failures_by_kind(store: Store, name: str, model_id: str) -> list[FailureKind]:
    """Members without a voltage by the kind of their reason, the commonest first.

    A reason begins with its kind, up to the first colon.
    """
    counts: Counter[str] = Counter()
    examples: dict[str, str] = {}
    with_failures = {"campaign": name, "$or": [{"failed": {"$gt": 0}}, {"kind": BatchKind.REUSED}]}
    for batch in store.batches.find(with_failures, {"structure_ids": 1}):
        ids = (voltage_id(key, model_id) for key in batch["structure_ids"])
        for row in find_by_ids(store.voltages, ids, ("structure_id", "status", "reason")):
            if row["status"] == VoltageStatus.FAILED:
                kind = str(row.get("reason", "")).partition(":")[0]
                counts[kind] += 1
                examples.setdefault(kind, row["structure_id"])
    return [
        FailureKind(kind=kind, count=count, example=examples[kind])
        for kind, count in counts.most_common()
    ]


_ORDER = ("ingest", "plan", "predict", "rank", "refine", "substitute")


def _in_order(spans: dict[str, Any]) -> list[str]:
    return sorted(spans, key=lambda name: (_ORDER.index(name) if name in _ORDER else 99, name))


def _stage_time(stage: str, spans: list[tuple[datetime, float]]) -> StageTime:
    first = min(begun for begun, _ in spans)
    ends = [(begun - first).total_seconds() + seconds for begun, seconds in spans]
    return StageTime(
        stage=stage,
        runs=len(spans),
        seconds=sum(seconds for _, seconds in spans),
        wall_seconds=max(ends),
    )


def _device_hours(attempts: list[dict[str, Any]]) -> dict[str, float]:
    hours: dict[str, float] = {}
    for attempt in attempts:
        kind = str(attempt["device"]).partition(":")[0]
        hours[kind] = hours.get(kind, 0.0) + attempt["seconds"] / 3600
    return hours
