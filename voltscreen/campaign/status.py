"""Where campaigns stand."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from voltscreen.store import Store, get_campaign
from voltscreen.store.connection import find_by_ids
from voltscreen.store.documents import (
    BatchKind,
    BatchState,
    CampaignDocument,
    CampaignState,
    VoltageStatus,
    now,
    voltage_id,
)


class Failure(BaseModel):
    """A structure that has no voltage, and why."""

    model_config = ConfigDict(frozen=True)

    structure_id: str
    source_ids: list[str]
    reason: str


class CampaignStatus(BaseModel):
    """Where a campaign stands."""

    model_config = ConfigDict(frozen=True)

    name: str
    state: CampaignState
    structures: int = Field(description="members known so far")
    expected: int | None = Field(description="structures that the source holds, while it is read")
    batches: dict[BatchState, int] = Field(description="predict batches by state")
    predicted: int = Field(description="members with a voltage")
    failed: int = Field(description="members without one, with a reason")
    reused: int = Field(description="members that had a voltage before")
    seconds: float | None = Field(description="from first ingest to last ranking, or until now")
    ions: list[str]
    model_id: str
    spec: dict[str, Any]
    errors: list[dict[str, Any]] = Field(description="stages that failed: {stage, batch, reason}")
    notices: list[str] = Field(description="what one should know of the last ingest")


def campaign_status(store: Store, name: str) -> CampaignStatus:
    """Where a campaign stands.

    Raises:
        CampaignError: no campaign of that name.
    """
    campaign = get_campaign(store, name)
    batches = dict.fromkeys(BatchState, 0)
    structures = predicted = failed = reused = 0
    planned = False
    columns = {"kind": 1, "state": 1, "n_structures": 1, "predicted": 1, "failed": 1}
    for row in store.batches.find({"campaign": name}, columns):
        structures += row["n_structures"]
        predicted += row["predicted"]
        failed += row["failed"]
        planned = planned or row["kind"] != BatchKind.INGESTED
        if row["kind"] == BatchKind.PREDICT:
            batches[BatchState(row["state"])] += 1
        elif row["kind"] == BatchKind.REUSED:
            reused += row["n_structures"]
    if campaign.state is CampaignState.DONE:
        # The ranking has looked at every member, reused ones included.
        predicted, failed = campaign.counts["predicted"], campaign.counts["failed"]
    else:
        predicted += reused
    return CampaignStatus(
        name=name,
        state=campaign.state,
        structures=structures,
        expected=None if planned else campaign.expected,
        batches=batches,
        predicted=predicted,
        failed=failed,
        reused=reused,
        seconds=_seconds(campaign),
        ions=list(campaign.spec["ions"]),
        model_id=campaign.model_id,
        spec=campaign.spec,
        errors=campaign.errors,
        notices=campaign.notices,
    )


def list_campaigns(store: Store) -> list[CampaignStatus]:
    """All campaigns, the oldest first."""
    rows = store.campaigns.find({}, {"_id": 1}).sort("submitted_at", 1)
    return [campaign_status(store, row["_id"]) for row in rows]


def failures(store: Store, name: str, limit: int) -> Iterator[Failure]:
    """Members without a voltage, at most so many.

    Raises:
        CampaignError: no campaign of that name.
    """
    campaign = get_campaign(store, name)
    wanted = {"campaign": name, "$or": [{"failed": {"$gt": 0}}, {"kind": BatchKind.REUSED}]}
    left = limit
    for batch in store.batches.find(wanted, {"structure_ids": 1}).sort("number", 1):
        ids = (voltage_id(key, campaign.model_id) for key in batch["structure_ids"])
        for row in find_by_ids(store.voltages, ids, ("structure_id", "status", "reason")):
            if row["status"] != VoltageStatus.FAILED:
                continue
            if not left:
                return
            left -= 1
            yield _failure(store, row)


def _failure(store: Store, row: dict[str, Any]) -> Failure:
    structure = store.structures.find_one({"_id": row["structure_id"]}, {"sources.id": 1}) or {}
    return Failure(
        structure_id=row["structure_id"],
        source_ids=[entry["id"] for entry in structure.get("sources", [])],
        reason=row.get("reason", ""),
    )


def _seconds(campaign: CampaignDocument) -> float | None:
    if campaign.started_at is None:
        return None
    running = campaign.state in (CampaignState.NEW, CampaignState.RUNNING)
    end = now() if running or campaign.finished_at is None else campaign.finished_at
    return round((end - campaign.started_at).total_seconds(), 3)
