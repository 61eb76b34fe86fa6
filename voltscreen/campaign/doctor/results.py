"""Batches, their Fireworks and their voltages."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from itertools import islice

from voltscreen.campaign import control
from voltscreen.campaign.doctor.finding import Finding, Kind, Patient
from voltscreen.campaign.doctor.fireworks import planned_now
from voltscreen.campaign.plan import REUSED_CHUNK
from voltscreen.campaign.workflow import FINISHED_STATES
from voltscreen.store.connection import find_by_ids, insert_new
from voltscreen.store.documents import (
    BatchDocument,
    BatchKind,
    BatchState,
    CampaignState,
    voltage_id,
)

KEPT = "kept:"
"""Begins the campaign of batches that hold voltages of no campaign; no campaign's name has `:`."""


def _living_campaigns(patient: Patient) -> Iterator[tuple[str, str]]:
    """Name and model of campaigns that are not cancelled, and that nobody plans just now."""
    busy = planned_now(patient)
    rows = patient.store.campaigns.find(
        {"state": {"$ne": CampaignState.CANCELLED}}, {"model_id": 1}
    )
    for row in rows:
        if row["_id"] not in busy:
            yield row["_id"], row["model_id"]


def holes(patient: Patient) -> Iterator[Finding]:
    """Batches that are done and whose voltages are not all there."""
    store = patient.store
    for name, model_id in _living_campaigns(patient):
        done = {"campaign": name, "kind": BatchKind.PREDICT, "state": BatchState.DONE}
        for batch in store.batches.find(done, {"structure_ids": 1}):
            ids = [voltage_id(key, model_id) for key in batch["structure_ids"]]
            found = sum(1 for _ in find_by_ids(store.voltages, ids, ("_id",)))
            if found < len(ids):
                yield Finding(
                    Kind.HOLE,
                    batch["_id"],
                    f"{len(ids) - found} of its {len(ids)} structures have no voltages document",
                    "the batch is made ready, and what it lacks is predicted",
                    partial(_predict_again, patient, name, batch["_id"]),
                )


def idle_batches(patient: Patient) -> Iterator[Finding]:
    """Batches that are not done, and that no Firework will do."""
    store = patient.store
    for name, _ in _living_campaigns(patient):
        have = {
            row["spec"]["batch"]
            for row in patient.launchpad.fireworks.find(
                {
                    "spec.campaign": name,
                    "spec.batch": {"$exists": True},
                    "state": {"$nin": FINISHED_STATES},
                },
                {"spec.batch": 1},
            )
        }
        undone = {
            "campaign": name,
            "kind": BatchKind.PREDICT,
            "state": {"$ne": BatchState.DONE},
        }
        for batch in store.batches.find(undone, {"state": 1}):
            if batch["_id"] not in have:
                yield Finding(
                    Kind.BATCH,
                    batch["_id"],
                    f"the batch is {batch['state']}, and nobody will take it up",
                    "it gets a Firework, and the campaign is ranked after it",
                    partial(_predict_again, patient, name, batch["_id"]),
                )


def _predict_again(patient: Patient, campaign: str, batch: str) -> None:
    patient.store.batches.update_one({"_id": batch}, {"$set": {"state": BatchState.READY}})
    control.resume(patient.store, patient.launchpad, campaign)


def loose_voltages(patient: Patient) -> Iterator[Finding]:
    """Voltages that are in no batch of a campaign of their model."""
    store = patient.store
    models = {row["_id"]: row["model_id"] for row in store.campaigns.find({}, {"model_id": 1})}
    members: dict[str, set[str]] = {}
    for batch in store.batches.find({}, {"campaign": 1, "structure_ids": 1}):
        name = batch["campaign"]
        model_id = models.get(name, name.removeprefix(KEPT))
        members.setdefault(model_id, set()).update(batch["structure_ids"])
    loose: dict[str, list[str]] = {}
    nobody: set[str] = set()
    for row in store.voltages.find({}, {"structure_id": 1, "model_id": 1}):
        if row["structure_id"] not in members.get(row["model_id"], nobody):
            loose.setdefault(row["model_id"], []).append(row["structure_id"])
    for model_id, ids in loose.items():
        yield Finding(
            Kind.LOOSE,
            f"{len(ids)} voltages of model {model_id}",
            "their campaign was deleted, or its batches were; a campaign with the same "
            "structures and model uses them again",
            "they are noted in batches of their own, so that nothing is lost or asked twice",
            partial(_keep, patient, model_id, ids),
        )


def _keep(patient: Patient, model_id: str, ids: list[str]) -> None:
    store, name = patient.store, f"{KEPT}{model_id}"
    last = store.batches.find_one({"campaign": name}, {"number": 1}, sort=[("number", -1)])
    first = int(last["number"]) + 1 if last else 1
    insert_new(
        store.batches,
        [
            BatchDocument(
                id=f"{name}:{number:06d}",
                campaign=name,
                number=number,
                kind=BatchKind.REUSED,
                state=BatchState.DONE,
                structure_ids=chunk,
                n_structures=len(chunk),
                atoms=0,
            )
            for number, chunk in enumerate(_chunks(ids), start=first)
        ],
    )


def _chunks(ids: Iterable[str]) -> Iterator[list[str]]:
    iterator = iter(ids)
    while chunk := list(islice(iterator, REUSED_CHUNK)):
        yield chunk
