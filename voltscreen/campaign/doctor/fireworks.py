"""What deaths between two writes leave in FireWorks' collections."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from typing import Any

from voltscreen.campaign import mend
from voltscreen.campaign.doctor.finding import Finding, Kind, Patient
from voltscreen.campaign.liveness import Liveness, Verdict
from voltscreen.campaign.lock import BREAK_AFTER
from voltscreen.campaign.reconcile import free

Row = dict[str, Any]

TAKEN = {"state": {"$in": ["RUNNING", "RESERVED"]}, "spec.campaign": {"$exists": True}}
_COLUMNS = {
    "fw_id": 1, "state": 1, "launches": 1, "claim": 1, "updated_on": 1,
    "spec.batch": 1, "spec.campaign": 1,
}  # fmt: skip
_BLINK = 1.0
"""Seconds that a living process may take between two writes."""


def taken(patient: Patient) -> list[tuple[Row, Verdict]]:
    """Fireworks that somebody took, and what is known of them."""
    rows = list(patient.launchpad.fireworks.find(TAKEN, _COLUMNS))
    verdicts = Liveness(patient.launchpad).judge(rows)
    return [(row, verdicts[row["fw_id"]]) for row in rows]


def planned_now(patient: Patient) -> set[str]:
    """Campaigns that a living process ingests, plans or ranks: what is half written stays so."""
    return {
        _spec(row, "campaign")
        for row, verdict in taken(patient)
        if not verdict.lost and not _spec(row, "batch")
    }


def worked_now(patient: Patient) -> set[str]:
    """Campaigns that somebody works."""
    return {_spec(row, "campaign") for row, verdict in taken(patient) if not verdict.lost}


def _spec(row: Row, key: str) -> str:
    return str(row["spec"].get(key) or "")


def locked_workflows(patient: Patient) -> Iterator[Finding]:
    """Locks that no living process holds."""
    workflows = patient.launchpad.workflows
    columns = {"locked": 1, "updated_on": 1, "name": 1, "metadata": 1}
    locked = list(workflows.find({"locked": {"$exists": True}}, columns))
    if not locked:
        return
    busy = worked_now(patient)
    names = {str(row["metadata"].get("voltscreen_campaign")) for row in locked}
    time.sleep(BREAK_AFTER if names & busy else _BLINK)
    for row in locked:
        same = {key: row[key] for key in ("_id", "locked", "updated_on")}
        if workflows.find_one(same, {"_id": 1}) is None:
            continue
        yield Finding(
            Kind.LOCK,
            f"workflow {row['name']!r}",
            "a process died while it changed the workflow; others wait for its lock",
            "the lock is taken away",
            partial(workflows.update_one, same, {"$unset": {"locked": True}}),
        )


def halves(patient: Patient) -> Iterator[Finding]:
    """Workflows that name Fireworks that do not exist."""
    launchpad = patient.launchpad
    there = {row["fw_id"] for row in launchpad.fireworks.find({}, {"fw_id": 1})}
    busy = planned_now(patient)
    for workflow in _campaign_workflows(patient):
        missing = set(workflow["nodes"]) - there
        name = workflow["metadata"]["voltscreen_campaign"]
        if missing and name not in busy:
            yield Finding(
                Kind.HALF,
                f"workflow {workflow['name']!r}",
                f"a submit died before it wrote {len(missing)} of its Fireworks",
                "the workflow is deleted; what it should have done is planned again below",
                partial(launchpad.workflows.delete_one, {"_id": workflow["_id"]}),
            )


def orphans(patient: Patient) -> Iterator[Finding]:
    """Fireworks that no workflow names."""
    launchpad = patient.launchpad
    named = {node for row in launchpad.workflows.find({}, {"nodes": 1}) for node in row["nodes"]}
    rows = launchpad.fireworks.find(
        {"spec.campaign": {"$exists": True}}, {"fw_id": 1, "name": 1, "spec.campaign": 1}
    )
    busy = planned_now(patient)
    for row in rows:
        if row["fw_id"] not in named and row["spec"]["campaign"] not in busy:
            yield Finding(
                Kind.ORPHAN,
                f"Firework {row['fw_id']} ({row['name']})",
                "a process died before its workflow named it; nothing that it does is counted",
                "it is deleted; its batch gets another below",
                partial(launchpad.fireworks.delete_one, {"fw_id": row["fw_id"]}),
            )


def lost_runs(patient: Patient) -> Iterator[Finding]:
    """Fireworks that are reserved or run, and that nobody works any more."""
    for row, verdict in taken(patient):
        if not verdict.lost:
            continue
        reserved = row["state"] == "RESERVED"
        yield Finding(
            Kind.RESERVED if reserved else Kind.LOST,
            _spec(row, "batch") or f"Firework {row['fw_id']} of {_spec(row, 'campaign')}",
            (
                "somebody took it and died before beginning"
                if reserved
                else "its worker died at work"
            )
            + f": {verdict.reason}",
            "it is made ready again; what its batch has written stays",
            partial(free, patient.launchpad, row),
        )


def sleepers(patient: Patient) -> Iterator[Finding]:
    """Workflows whose states differ from their Fireworks', so that children wait for ever."""
    launchpad = patient.launchpad
    busy = worked_now(patient)
    states = {
        row["fw_id"]: row["state"] for row in launchpad.fireworks.find({}, {"fw_id": 1, "state": 1})
    }
    for workflow in _campaign_workflows(patient):
        name = workflow["metadata"]["voltscreen_campaign"]
        nodes = workflow["nodes"]
        if name in busy or not all(node in states for node in nodes):
            continue
        held = workflow["fw_states"]
        differ = [node for node in nodes if held.get(str(node)) != states[node]]
        if differ:
            yield Finding(
                Kind.WAITING,
                f"workflow {workflow['name']!r}",
                f"a process died before it wrote down that {len(differ)} of its Fireworks went on",
                "the workflow is brought in line, and children whose parents are done are woken",
                partial(mend.agree, launchpad, name),
            )


def _campaign_workflows(patient: Patient) -> list[Row]:
    wanted = {"metadata.voltscreen_campaign": {"$exists": True}}
    columns = {"nodes": 1, "name": 1, "metadata": 1, "fw_states": 1}
    return list(patient.launchpad.workflows.find(wanted, columns))
