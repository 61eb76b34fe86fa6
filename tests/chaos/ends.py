"""What the collections hold when a campaign has come to its end, and whether that is all of it."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

from voltscreen.campaign import control
from voltscreen.campaign.launchpad import VoltscreenLaunchPad
from voltscreen.store import Store
from voltscreen.store.documents import BatchKind, CampaignState

Collections = dict[str, dict[str, Any]]
"""By collection and `_id`."""

NAMES = (
    "structures", "campaigns", "batches", "voltages", "rankings", "ranking_columns",
    "refinements", "substitutions", "models",
)  # fmt: skip
_OF_THE_RUN = {
    "written_at", "fetched_at", "attempts", "fw_id", "claim", "errors", "submitted_at",
    "started_at", "finished_at", "workflow_id", "weights", "ranked_at", "stages", "ranker",
    "environments", "sha256", "seconds",
    # of the cell's own copy of the source
    "path", "spec_hash", "source_fingerprint",
}  # fmt: skip
"""What two undisturbed runs differ in."""


def collections(store: Store) -> Collections:
    """Every document of every collection, without what is another in every run."""
    return {
        name: {str(row["_id"]): _lasting(row) for row in store.database[name].find()}
        for name in NAMES
    }


def _lasting(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _lasting(v) for key, v in value.items() if key not in _OF_THE_RUN}
    return [_lasting(each) for each in value] if isinstance(value, list) else value


def compare(expected: Collections, found: Collections) -> str:
    """The first difference in a sentence; empty for none."""
    for name in NAMES:
        want, have = expected[name], found[name]
        if missing := want.keys() - have.keys():
            return f"{name}: {len(missing)} missing, such as {min(missing)}"
        if extra := have.keys() - want.keys():
            return f"{name}: {len(extra)} too many, such as {min(extra)}"
        for key, row in want.items():
            fields = [f for f in {*row, *have[key]} if not _same(row.get(f), have[key].get(f))]
            if fields:
                return f"{name} {key}: differs in {', '.join(sorted(fields))}"
    return ""


def _same(one: Any, other: Any) -> bool:
    """Equal; numbers within what float32 makes of other structures in the same pass."""
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, abs_tol=1e-5)
    return bool(one == other)


def unfinished(store: Store, launchpad: VoltscreenLaunchPad, campaign: str) -> str:
    """What is not at its end, or was done twice, in a sentence; empty for nothing."""
    document = store.campaigns.find_one({"_id": campaign}) or {}
    batches = list(store.batches.find({"kind": {"$ne": BatchKind.INGESTED}}))
    states = Counter(row["state"] for row in batches)
    launches = [row["launch_id"] for row in launchpad.launches.find({}, {"launch_id": 1})]
    members = [key for row in batches for key in row["structure_ids"]]
    locked = launchpad.workflows.count_documents({"locked": {"$exists": True}})
    problems = {
        f"the campaign is {document.get('state')}": document.get("state") != CampaignState.DONE,
        "Fireworks are open": bool(control.open_fireworks(launchpad, campaign)),
        f"batches are {dict(states)}": set(states) != {"done"},
        "a Firework is fizzled": launchpad.fireworks.count_documents({"state": "FIZZLED"}) > 0,
        "a workflow is locked": locked > 0,
        "a launch id was given twice": len(launches) != len(set(launches)),
        "a structure is in two batches": len(members) != len(set(members)),
    }
    return "; ".join(problem for problem, is_so in problems.items() if is_so)
