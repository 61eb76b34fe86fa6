"""A campaign as a FireWorks workflow: ingest and plan, a predict Firework a batch, rank, refine.

The predict Fireworks are detours of the first Firework, so the ranking waits for all of them.
It also runs when some of them fizzled: one failed batch does not withhold the others' ranking.
Where the spec asks for second looks, the ranking adds a Firework for every few of its best, and
another ranking after them. Where it asks for substitutions, the last ranking adds a Firework an
ion, and each of these one for its next generation, as long as something improves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fireworks import Firework, Workflow

from voltscreen.campaign.spec import CampaignSpec
from voltscreen.screening import RefineSpec
from voltscreen.store import Store
from voltscreen.store.documents import BatchKind, BatchState

FINISHED_STATES = ("COMPLETED", "ARCHIVED", "DEFUSED")


def campaign_workflow(spec: CampaignSpec) -> Workflow:
    """The workflow of a new campaign."""
    from voltscreen.campaign.firetasks import IngestTask, PlanTask

    first = Firework(
        [IngestTask(), PlanTask()],
        spec={"campaign": spec.name, "campaign_spec": spec.canonical()},
        name=f"{spec.name} ingest",
    )
    last = _rank_firework(spec.name, parents=[first])
    return Workflow([first, last], name=spec.name, metadata={"voltscreen_campaign": spec.name})


def continued_workflow(store: Store, name: str, model_id: str) -> Workflow:
    """What is left to do of a campaign that was planned: its new batches, and the ranking."""
    fireworks = pending_fireworks(store, name, model_id)
    last = _rank_firework(name, parents=fireworks)
    return Workflow([*fireworks, last], name=name, metadata={"voltscreen_campaign": name})


def pending_fireworks(store: Store, name: str, model_id: str) -> list[Firework]:
    """A predict Firework for each batch that is ready and has none."""
    from voltscreen.campaign.firetasks import PredictTask

    have = {
        row["spec"]["batch"]
        for row in store.database["fireworks"].find(
            {"spec.campaign": name, "spec.batch": {"$exists": True},
             "state": {"$nin": FINISHED_STATES}},
            {"spec.batch": 1},
        )
    }  # fmt: skip
    ready = store.batches.find(
        {"campaign": name, "kind": BatchKind.PREDICT, "state": BatchState.READY}, {"number": 1}
    ).sort("number", 1)
    return [
        Firework(
            [PredictTask()],
            spec={
                "campaign": name,
                "batch": row["_id"],
                "model": model_id,
                "_add_launchpad_and_fw_id": True,
            },
            name=f"{name} predict {row['number']:06d}",
        )
        for row in ready
        if row["_id"] not in have
    ]


def refine_workflow(
    name: str, chosen: Mapping[str, Sequence[str]], spec: RefineSpec, size: int
) -> Workflow:
    """Second looks at structures, so many a Firework, and the ranking anew after them.

    Args:
        chosen: structure ids by ion.
    """
    from voltscreen.campaign.firetasks import RefineTask

    fireworks = [
        Firework(
            [RefineTask()],
            spec={
                "campaign": name,
                "ion": ion,
                "structures": list(ids[start : start + size]),
                "refine": spec.model_dump(mode="json"),
            },
            name=f"{name} refine {ion} {start // size + 1:04d}",
        )
        for ion, ids in chosen.items()
        for start in range(0, len(ids), size)
    ]
    last = _rank_firework(name, parents=fireworks, refined=True)
    return Workflow([*fireworks, last], name=name, metadata={"voltscreen_campaign": name})


def substitute_workflow(name: str, ions: Sequence[str]) -> Workflow:
    """The first generation of substitutions, a Firework an ion."""
    fireworks = [substitute_firework(name, ion, 1, []) for ion in ions]
    return Workflow(fireworks, name=name, metadata={"voltscreen_campaign": name})


def substitute_firework(name: str, ion: str, generation: int, parents: Sequence[str]) -> Firework:
    """One generation of substitutions for an ion.

    Args:
        generation: from 1. parents: structure ids; of the first generation those of the ranking.
    """
    from voltscreen.campaign.firetasks import SubstituteTask

    return Firework(
        [SubstituteTask()],
        spec={
            "campaign": name,
            "ion": ion,
            "generation": generation,
            "structures": list(parents),
        },
        name=f"{name} substitute {ion} {generation}",
    )


def _rank_firework(name: str, parents: list[Any], *, refined: bool = False) -> Firework:
    """refined: after the second looks, so that it asks for no more of them."""
    from voltscreen.campaign.firetasks import RankTask

    return Firework(
        [RankTask()],
        spec={"campaign": name, "refined": refined, "_allow_fizzled_parents": True},
        name=f"{name} rank",
        parents=parents,
    )
