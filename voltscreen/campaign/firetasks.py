"""The Firetasks of a campaign. Each can be run again and does only what is missing.

Ids alone travel through their specs; arrays stay in the collections. FireWorks imports this module
to read a Firework, be it for `campaign status`: what needs torch or the potential is imported by
the task that runs.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fireworks import FiretaskBase, FWAction
from fireworks.utilities.fw_utilities import explicit_serialize

from voltscreen.campaign.plan import ingest_campaign, plan_campaign
from voltscreen.campaign.predict import model_cache, predict_batch
from voltscreen.campaign.rank import rank_campaign
from voltscreen.campaign.register import register
from voltscreen.campaign.shift import BatchEnd, Shift
from voltscreen.campaign.spec import CampaignSpec, parse_spec
from voltscreen.campaign.spool import spool_folder
from voltscreen.campaign.stage import stage
from voltscreen.campaign.turn import Turn, TurnLostError
from voltscreen.campaign.workflow import (
    pending_fireworks,
    substitute_firework,
    substitute_workflow,
)
from voltscreen.errors import CampaignError, DatabaseError
from voltscreen.failpoints import reach
from voltscreen.logs import log
from voltscreen.screening import RefineSpec, SubstituteSpec
from voltscreen.settings import settings
from voltscreen.store import Store, get_campaign
from voltscreen.store.documents import (
    BatchKind,
    BatchState,
    CampaignDocument,
    CampaignState,
    now,
)
from voltscreen.store.models import model_file

if TYPE_CHECKING:
    from voltscreen.model import VoltageModel
    from voltscreen.potentials.chgnet import ChgnetPotential


@explicit_serialize
class IngestTask(FiretaskBase):  # type: ignore[misc]  # FireWorks has no type hints
    """Read the campaign's source into `structures`."""

    def run_task(self, fw_spec: dict[str, Any]) -> None:
        """Spec: campaign, campaign_spec (the whole spec, so that `lpad add` is enough)."""
        with stage(fw_spec, "ingest") as store:
            spec = parse_spec(fw_spec["campaign_spec"])
            register(store, spec)
            store.campaigns.update_one(
                {"_id": spec.name},
                {"$set": {"state": CampaignState.RUNNING, "started_at": now()}},
            )
            reach("ingest.begun")
            ingest_campaign(store, spec)


@explicit_serialize
class PlanTask(FiretaskBase):  # type: ignore[misc]
    """Cut what has no voltage yet into batches, and add a predict Firework for each."""

    def run_task(self, fw_spec: dict[str, Any]) -> FWAction:
        """Spec: campaign."""
        with stage(fw_spec, "plan") as store:
            campaign = get_campaign(store, fw_spec["campaign"])
            spec = parse_spec(campaign.spec)
            reach("plan.begun")
            plan_campaign(store, spec.name, campaign.model_id, spec.batch.max_atoms)
            reach("plan.done")
            return FWAction(detours=pending_fireworks(store, spec.name, campaign.model_id))


@explicit_serialize
class PredictTask(FiretaskBase):  # type: ignore[misc]
    """Predict the structures of a batch and write their voltages."""

    # Set by FireWorks, because the spec asks for it.
    fw_id: int | None = None
    launchpad: Any = None

    def run_task(self, fw_spec: dict[str, Any]) -> None:
        """Spec: campaign, batch, model."""
        with stage(fw_spec, "predict") as store:
            reach("claim.begun")
            path = model_file(store, fw_spec["model"], model_cache(settings().home))
            shift: Shift | None = getattr(self.launchpad, "shift", None)
            end = predict_batch(store, fw_spec["batch"], _loaded(str(path)), self.fw_id, shift)
            if shift is not None:
                # What follows is the worker's affair: its LaunchPad asks when the launch ends.
                shift.last_end = end
            elif end is BatchEnd.SPOOLED:
                raise DatabaseError(
                    f"MongoDB stayed away; the results are in {spool_folder()}: "
                    f"voltscreen campaign recover {spool_folder()}"
                )


@explicit_serialize
class RankTask(FiretaskBase):  # type: ignore[misc]
    """Rank the campaign's members for each ion; ask for second looks, or close the campaign."""

    def run_task(self, fw_spec: dict[str, Any]) -> FWAction:
        """Spec: campaign, refined (whether the second looks were taken already)."""
        with stage(fw_spec, "rank") as store:
            campaign = get_campaign(store, fw_spec["campaign"])
            planned = {"campaign": campaign.id, "kind": {"$ne": BatchKind.INGESTED}}
            if not store.batches.count_documents(planned, limit=1):
                raise CampaignError(
                    f"campaign {campaign.id!r} has no structures to rank: its source gave none, "
                    "or its ingest failed"
                )
            try:
                return _rank(store, campaign, refined=bool(fw_spec.get("refined")))
            except TurnLostError as lost:
                # We were given up. The other ranks what we would have, and closes the campaign.
                log(str(lost))
                return FWAction()


def _rank(store: Store, campaign: CampaignDocument, *, refined: bool) -> FWAction:
    turn = Turn.begin(store, campaign.id)
    spec: CampaignSpec = parse_spec(campaign.spec)
    reach("rank.begun")
    counts = rank_campaign(store, spec, campaign.model_id, turn)
    reach("rank.written")
    if spec.refine and not refined:
        from voltscreen.campaign.refine import second_looks

        looks = second_looks(store, spec, spec.refine)
        if looks is not None:
            return FWAction(additions=looks)
    reused = store.batches.find(
        {"campaign": campaign.id, "kind": BatchKind.REUSED}, {"n_structures": 1}
    )
    counts["reused"] = sum(row["n_structures"] for row in reused)
    unfinished = store.batches.count_documents(
        {"campaign": campaign.id, "state": {"$ne": BatchState.DONE}}
    )
    # Cancelled while it was being ranked stays cancelled.
    store.campaigns.update_one(
        {**turn.ours, "state": {"$ne": CampaignState.CANCELLED}},
        {
            "$set": {
                "state": CampaignState.DONE,
                "counts": {**counts, "unfinished_batches": unfinished},
                "finished_at": now(),
            }
        },
    )
    if spec.substitute:
        return FWAction(additions=substitute_workflow(spec.name, spec.ions))
    return FWAction()


@explicit_serialize
class RefineTask(FiretaskBase):  # type: ignore[misc]
    """Take a second look at some structures with one ion."""

    def run_task(self, fw_spec: dict[str, Any]) -> None:
        """Spec: campaign, ion, structures (ids), refine (options)."""
        with stage(fw_spec, "refine") as store:
            from voltscreen.campaign.refine import refine_structures

            spec = RefineSpec.model_validate(fw_spec["refine"])
            refine_structures(store, fw_spec["structures"], fw_spec["ion"], _potential(), spec)


@explicit_serialize
class SubstituteTask(FiretaskBase):  # type: ignore[misc]
    """Suggest substitutions for one ion, score them, and ask for the next generation."""

    def run_task(self, fw_spec: dict[str, Any]) -> FWAction:
        """Spec: campaign, ion, generation, structures (parents' ids; none means the ranking's)."""
        with stage(fw_spec, "substitute") as store:
            from voltscreen.campaign.substitute import Substitutions

            campaign, ion = get_campaign(store, fw_spec["campaign"]), fw_spec["ion"]
            options = parse_spec(campaign.spec).substitute or SubstituteSpec()
            generation = int(fw_spec["generation"])
            path = model_file(store, campaign.model_id, model_cache(settings().home))
            run = Substitutions(store, campaign.id, ion, _loaded(str(path)), options)
            parents = fw_spec["structures"] if generation > 1 else run.ranked()
            following = run.next_parents(run.generation(generation, parents), generation)
            if not following or generation >= options.generations:
                return FWAction()
            return FWAction(
                additions=substitute_firework(campaign.id, ion, generation + 1, following)
            )


@explicit_serialize
class LabelTask(FiretaskBase):  # type: ignore[misc]
    """Label batches of a folder of `voltscreen refine label --submit`."""

    def run_task(self, fw_spec: dict[str, Any]) -> None:
        """Spec: labels (absolute path of the folder), batches (numbers)."""
        from voltscreen.campaign.label import work_labels

        work_labels(Path(fw_spec["labels"]), fw_spec["batches"], _potential())


@lru_cache(maxsize=1)
def _potential() -> ChgnetPotential:
    """The potential stays loaded: a worker reads it once."""
    import torch

    from voltscreen.potentials.chgnet import ChgnetPotential

    potential = ChgnetPotential(settings().device)
    if potential.device.type == "cpu":
        torch.set_num_threads(1)  # cells are small; more threads wait for each other
    return potential


@lru_cache(maxsize=1)
def _loaded(path: str) -> VoltageModel:
    """The model of the last batch stays loaded: a worker reads it once."""
    from voltscreen.model import load_model
    from voltscreen.model.device import prepare

    return prepare(load_model(path))
