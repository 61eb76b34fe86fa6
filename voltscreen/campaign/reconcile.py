"""Fireworks that nobody works any more become ready again; what still runs is left alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from voltscreen.campaign import mend
from voltscreen.campaign.launchpad import VoltscreenLaunchPad
from voltscreen.campaign.liveness import Liveness, Verdict
from voltscreen.cluster.job import Job
from voltscreen.store import Store
from voltscreen.store.documents import BatchState, CampaignState

Row = dict[str, Any]

TAKEN = ("RUNNING", "RESERVED")
_COLUMNS = {"fw_id": 1, "state": 1, "launches": 1, "claim": 1, "spec.batch": 1, "spec.campaign": 1}


@dataclass(frozen=True, slots=True)
class Found:
    """A Firework that somebody had taken, and what is known of them. batch: None for another."""

    fw_id: int
    batch: str | None
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Reconciled:
    """What a reconcile did. freed: are ready again; left: are worked, or may be."""

    freed: tuple[Found, ...] = ()
    left: tuple[Found, ...] = ()

    @property
    def message(self) -> str:
        """One sentence, and a line for each that was freed."""
        lines = [f"{len(self.freed)} lost Fireworks are ready again; {len(self.left)} run."]
        lines += [
            f"  {found.batch or f'Firework {found.fw_id}'}: {found.verdict.reason}"
            + (f" (job {found.verdict.job})" if found.verdict.job else "")
            for found in self.freed
        ]
        return "\n".join(lines)


def reconcile(launchpad: VoltscreenLaunchPad, campaign: str | None = None) -> Reconciled:
    """Compare FireWorks with SLURM, the processes of this machine and the heartbeats.

    Args:
        campaign: only this campaign's Fireworks; those of all campaigns when None.
    """
    wanted: Row = {"spec.campaign": campaign or {"$exists": True}, "state": {"$in": TAKEN}}
    rows = list(launchpad.fireworks.find(wanted, _COLUMNS))
    verdicts = Liveness(launchpad).judge(rows)
    freed, left = [], []
    for row in rows:
        found = Found(row["fw_id"], row["spec"].get("batch"), verdicts[row["fw_id"]])
        if not found.verdict.lost:
            left.append(found)
        elif free(launchpad, row):
            freed.append(found)
    campaigns = {campaign} if campaign else {row["spec"]["campaign"] for row in rows}
    _wake(launchpad, campaigns, left)
    return Reconciled(tuple(freed), tuple(left))


def reclaim(launchpad: VoltscreenLaunchPad, worker: str, job: Job | None) -> list[int]:
    """Free what this worker is said to have in hand and has not, and what its job lost.

    That is what a requeued job worked on before, what a dead worker beside this one left, and what
    an outage of the database cut off.

    Args:
        worker: name of this worker, which has nothing in hand now.
        job: its SLURM job.

    Returns:
        Fireworks to take up first.
    """
    mine: list[Row] = [{"fworker.name": worker}]
    claims: list[Row] = [{"claim.worker": worker}]
    if job is not None:
        mine.append({"fworker.env.job.name": job.name, "fworker.env.job.cluster": job.cluster})
        claims.append({"claim.job.name": job.name, "claim.job.cluster": job.cluster})
    launched = launchpad.launches.find({"state": "RUNNING", "$or": mine}, {"fw_id": 1})
    ids = [row["fw_id"] for row in launched]
    taken: Row = {"state": {"$in": TAKEN}, "$or": [{"fw_id": {"$in": ids}}, *claims]}
    rows = list(launchpad.fireworks.find(taken, _COLUMNS))
    verdicts = Liveness(launchpad, idle=worker).judge(rows)
    return [row["fw_id"] for row in rows if verdicts[row["fw_id"]].lost and free(launchpad, row)]


def free(launchpad: VoltscreenLaunchPad, row: Row) -> bool:
    """Make a lost Firework ready again, unless somebody else did and it has been taken anew.

    Args:
        row: of the collection `fireworks` as it was judged.
    """
    fw_id, batch = row["fw_id"], row["spec"].get("batch")
    store = Store(launchpad.db)
    with launchpad.locked(fw_id):
        now = launchpad.fireworks.find_one({"fw_id": fw_id}, _COLUMNS)
        if now is None or _taken_by(now) != _taken_by(row):
            return False
        if batch is not None:
            undone = {"_id": batch, "state": {"$ne": BatchState.DONE}}
            store.batches.update_one(undone, {"$set": {"state": BatchState.READY}})
        launchpad.ready_again_locked(fw_id)
    cancelled = {"_id": row["spec"]["campaign"], "state": CampaignState.CANCELLED}
    if store.campaigns.find_one(cancelled, {"_id": 1}):
        launchpad.defuse_fw(fw_id)
    return True


def _taken_by(row: Row) -> tuple[Any, ...]:
    return row["state"], row.get("launches"), row.get("claim")


def _wake(launchpad: VoltscreenLaunchPad, campaigns: set[str], left: list[Found]) -> None:
    """Children whose parents are done, and whose worker died before it told them."""
    if any(found.batch is None for found in left):
        return  # somebody plans, and is about to write
    for name in campaigns:
        mine = {"spec.campaign": name}
        waits = launchpad.fireworks.find_one({**mine, "state": "WAITING"}, {"_id": 1})
        moves = launchpad.fireworks.find_one(
            {**mine, "state": {"$in": ["READY", *TAKEN]}}, {"_id": 1}
        )
        if waits and not moves:
            mend.agree(launchpad, name)
