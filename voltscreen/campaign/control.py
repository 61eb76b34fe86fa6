"""Submit, resume and cancel campaigns."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from voltscreen.campaign import mend
from voltscreen.campaign.launchpad import VoltscreenLaunchPad
from voltscreen.campaign.liveness import Liveness
from voltscreen.campaign.materials_project import foreseen
from voltscreen.campaign.plan import ingest_campaign, plan_campaign, source_is_unchanged
from voltscreen.campaign.reconcile import free
from voltscreen.campaign.register import register
from voltscreen.campaign.spec import CampaignSpec, parse_spec
from voltscreen.campaign.workflow import (
    FINISHED_STATES,
    campaign_workflow,
    continued_workflow,
    pending_fireworks,
)
from voltscreen.errors import CampaignError
from voltscreen.sources import estimate
from voltscreen.store import Store, get_campaign
from voltscreen.store.documents import CampaignDocument, CampaignState
from voltscreen.store.lease import lease

SUBMIT_SECONDS = 600.0
"""Longest submit: of a campaign that is done, whose source has grown."""
WAIT_SECONDS = 15.0
"""For another submit of the same campaign."""


@dataclass(frozen=True, slots=True)
class Submission:
    """What became of a submit. workflow_id: None when there was nothing to do."""

    campaign: str
    workflow_id: int | None
    message: str


def submit(store: Store, launchpad: VoltscreenLaunchPad, spec: CampaignSpec) -> Submission:
    """Make the campaign's workflow; a campaign that is done gets only what is new to it.

    Raises:
        CampaignError: the name is taken by another spec or model, or was cancelled.
        SpecError, FileFormatError: the source is not there, or of a kind that cannot be read.
    """
    foretold = _foretell(store, spec)
    register(store, spec)
    # Two at once would make two workflows of it.
    with lease(store, f"submit {spec.name}", seconds=SUBMIT_SECONDS, wait=WAIT_SECONDS):
        return _submit(store, launchpad, spec, foretold)


def _submit(
    store: Store, launchpad: VoltscreenLaunchPad, spec: CampaignSpec, foretold: str
) -> Submission:
    campaign = get_campaign(store, spec.name)
    if campaign.state is CampaignState.CANCELLED:
        raise CampaignError(
            f"campaign {spec.name!r} was cancelled: give the spec another name to start anew; "
            "what was predicted is used again"
        )
    if open_fireworks(launchpad, spec.name):
        return Submission(
            spec.name,
            None,
            f"Nothing to do: campaign {spec.name!r} is already submitted. "
            f"Work it with: voltscreen campaign run {spec.name}",
        )
    if campaign.state is not CampaignState.DONE:
        workflow_id = add_workflow(store, launchpad, spec.name, campaign_workflow(spec))
        return Submission(spec.name, workflow_id, f"Submitted campaign {spec.name!r}.{foretold}")
    fresh = 0
    if not source_is_unchanged(campaign, spec):
        ingest_campaign(store, spec)
        fresh = plan_campaign(store, spec.name, campaign.model_id, spec.batch.max_atoms)
    # A submit that died after its plan left batches that no workflow has.
    if not fresh and not pending_fireworks(store, spec.name, campaign.model_id):
        return Submission(
            spec.name,
            None,
            f"Nothing to do: campaign {spec.name!r} is done, and its source has nothing new.",
        )
    workflow = continued_workflow(store, spec.name, campaign.model_id)
    workflow_id = add_workflow(store, launchpad, spec.name, workflow)
    return Submission(
        spec.name, workflow_id, f"Submitted {fresh} new structures of campaign {spec.name!r}."
    )


def _foretell(store: Store, spec: CampaignSpec) -> str:
    """What will be read, where it is worth saying.

    A source that is not there is better refused now than by a worker in an hour.
    """
    parts = spec.source.parts
    if "mp" in parts and store.campaigns.find_one({"_id": spec.name}, {"_id": 1}):
        return ""
    found = {kind: estimate(kind, value, Path("/")) for kind, value in parts.items()}
    if "mp" not in found:
        return ""
    return f" From the Materials Project, less what is stored: {foreseen(found['mp'])}."


def add_workflow(store: Store, launchpad: VoltscreenLaunchPad, name: str, workflow: Any) -> int:
    """Write a campaign's workflow and mark the campaign as not done; the workflow's id."""
    mapping = launchpad.add_wf(workflow)
    workflow_id = min(mapping.values())
    store.campaigns.update_one(
        {"_id": name},
        {"$set": {"workflow_id": workflow_id, "state": CampaignState.NEW}},
    )
    return workflow_id


def open_fireworks(launchpad: VoltscreenLaunchPad, name: str) -> list[dict[str, Any]]:
    """Fireworks of a campaign that are neither finished nor given up."""
    wanted = {"spec.campaign": name, "state": {"$nin": [*FINISHED_STATES, "FIZZLED"]}}
    columns = {"fw_id": 1, "state": 1, "spec.generation": 1}
    return list(launchpad.fireworks.find(wanted, columns))


@dataclass(frozen=True, slots=True)
class Resumed:
    """What a resume found: lost launches, failed Fireworks and orphaned reservations."""

    lost: int
    failed: int
    open: int

    @property
    def message(self) -> str:
        """One sentence."""
        return (
            f"{self.lost} lost and {self.failed} failed Fireworks will run again; "
            f"{self.open} are open."
        )


def resume(store: Store, launchpad: VoltscreenLaunchPad, name: str) -> Resumed:
    """Make what was lost or failed ready again; what is done stays, what runs is left alone.

    Raises:
        CampaignError: no such campaign, or it was cancelled.
    """
    campaign = get_campaign(store, name)
    if campaign.state is CampaignState.CANCELLED:
        raise CampaignError(f"campaign {name!r} was cancelled and cannot be resumed")
    rows = list(
        launchpad.fireworks.find(
            {"spec.campaign": name, "state": {"$in": ["RUNNING", "RESERVED", "FIZZLED"]}},
            {
                "fw_id": 1,
                "state": 1,
                "launches": 1,
                "claim": 1,
                "spec.batch": 1,
                "spec.campaign": 1,
            },
        )
    )
    running = [row for row in rows if row["state"] != "FIZZLED"]
    verdicts = Liveness(launchpad).judge(running)
    lost = [row for row in running if verdicts[row["fw_id"]].lost]
    failed = [row for row in rows if row["state"] == "FIZZLED"]
    living = [row for row in running if row not in lost]
    if all("batch" in row["spec"] for row in living):
        # Nobody plans: what is half written stays so.
        mend.free_locks(launchpad, name, alone=not living)
        mend.drop_halves(launchpad, name)
        rerun = [
            row
            for row in (*lost, *failed)
            if launchpad.fireworks.find_one({"fw_id": row["fw_id"]}, {"_id": 1})
        ]
    else:
        rerun = [*lost, *failed]
    for row in rerun:
        free(launchpad, row)
    if not living:
        _plan_again(store, launchpad, campaign)
    mend.agree(launchpad, name)
    still_open = open_fireworks(launchpad, name)
    # Substitutions come after the ranking that closes a campaign, and close none.
    before = [row for row in still_open if "generation" not in row["spec"]]
    if before and campaign.state is CampaignState.DONE:
        store.campaigns.update_one({"_id": name}, {"$set": {"state": CampaignState.RUNNING}})
    if not still_open and campaign.state is not CampaignState.DONE:
        # Died between the campaign's document and its workflow.
        add_workflow(store, launchpad, name, campaign_workflow(parse_spec(campaign.spec)))
        still_open = open_fireworks(launchpad, name)
    return Resumed(len(lost), len(failed), len(still_open))


def _plan_again(store: Store, launchpad: VoltscreenLaunchPad, campaign: CampaignDocument) -> None:
    """See to it that each batch that is ready has a Firework: its planner died before it had."""
    if not pending_fireworks(store, campaign.id, campaign.model_id):
        return
    ingest = launchpad.fireworks.find_one(
        {"spec.campaign": campaign.id, "spec.campaign_spec": {"$exists": True}},
        {"fw_id": 1, "state": 1},
        sort=[("fw_id", -1)],
    )
    if not open_fireworks(launchpad, campaign.id):
        add_workflow(
            store, launchpad, campaign.id,
            continued_workflow(store, campaign.id, campaign.model_id),
        )  # fmt: skip
    elif ingest is not None and ingest["state"] == "COMPLETED":
        launchpad.ready_again(ingest["fw_id"])


def cancel(store: Store, launchpad: VoltscreenLaunchPad, name: str) -> int:
    """Stop a campaign: what is not running is not started any more.

    Returns:
        Number of Fireworks that were taken back.
    """
    campaign = get_campaign(store, name)
    rows = open_fireworks(launchpad, name)
    if campaign.state is not CampaignState.DONE:
        store.campaigns.update_one({"_id": name}, {"$set": {"state": CampaignState.CANCELLED}})
    elif not rows:
        raise CampaignError(f"campaign {name!r} is done: there is nothing to cancel")
    # Children first: a Firework that is taken back last releases nothing.
    for row in sorted(rows, key=lambda row: -int(row["fw_id"])):
        if row["state"] != "RUNNING":
            launchpad.defuse_fw(row["fw_id"])
    return sum(row["state"] != "RUNNING" for row in rows)
