"""Refined voltages of the structures of a campaign that had a second look."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from pymongo import UpdateOne

from voltscreen.errors import ModelError
from voltscreen.store import Store, unpack
from voltscreen.store.connection import INSERT_CHUNK, Row, find_by_ids
from voltscreen.store.documents import (
    RefinementDocument,
    StructureDocument,
    VoltageStatus,
    refinement_id,
)
from voltscreen.structures import make_host

if TYPE_CHECKING:
    from voltscreen.model.refiner import Refiner
    from voltscreen.train.refined import RefinedVoltage

_FIELDS = ("voltage", "sd", "lo80", "hi80", "lo90", "hi90")


def refined_voltages(
    store: Store, fast: Mapping[str, Row], ion: str, model_id: str
) -> dict[str, RefinedVoltage]:
    """By structure id; of those whose second look succeeded, by the model of the refiner.

    What is on record for this model and refiner is used again; what is new is put on record.

    Args:
        fast: by structure id, the network's voltage, lo90 and hi90 for the ion.
    """
    if not store.refinements.count_documents({}, limit=1):
        return {}
    from voltscreen.train.refined import RefinedVoltage  # torch

    refiner = _refiner_for(model_id)
    if refiner is None:
        return {}
    keys = (refinement_id(key, ion, refiner.card.potential) for key in fast)
    looks = [
        RefinementDocument.from_mongo(row)
        for row in find_by_ids(store.refinements, keys)
        if row["status"] == VoltageStatus.OK
    ]
    found: dict[str, RefinedVoltage] = {}
    waiting: list[RefinementDocument] = []
    for one in looks:
        if one.voltage is not None and (one.model_id, one.refiner_id) == (model_id, refiner.id):
            found[one.structure_id] = RefinedVoltage(**{n: getattr(one, n) for n in _FIELDS})
        elif one.insertion and one.insertion_energies:
            waiting.append(one)
    fresh = _refine(store, waiting, fast, refiner)
    _record(store, waiting, fresh, model_id, refiner.id)
    return found | fresh


def _refiner_for(model_id: str) -> Refiner | None:
    """The shipped refiner, where it was fitted to this model's voltages."""
    from voltscreen.model.refiner import load_refiner, refiner_path

    if not refiner_path().exists():
        return None
    try:
        refiner = load_refiner()
    except ModelError:
        return None
    return refiner if refiner.card.model_id == model_id else None


def _refine(
    store: Store, looks: list[RefinementDocument], fast: Mapping[str, Row], refiner: Refiner
) -> dict[str, RefinedVoltage]:
    from voltscreen.train.refined import SecondLook, refine_voltages

    ids = [one.structure_id for one in looks]
    structures = {
        row["_id"]: StructureDocument.from_mongo(row) for row in find_by_ids(store.structures, ids)
    }
    usable = [one for one in looks if one.structure_id in structures]
    seconds = []
    for one in usable:
        own = fast[one.structure_id]
        low, high = own.get("lo90"), own.get("hi90")
        seconds.append(
            SecondLook(
                host=make_host(unpack(structures[one.structure_id]), one.ion).structure,
                ion=one.ion,
                fast=own["voltage"],
                half90=float("nan") if low is None or high is None else (high - low) / 2,
                insertion=one.insertion,
                energies=one.insertion_energies,
                short=one.short_look,
                crystal=one.crystal,
            )
        )
    refined = refine_voltages(refiner, seconds)
    return {one.structure_id: each for one, each in zip(usable, refined, strict=True)}


def _record(
    store: Store, looks: Iterable[RefinementDocument], refined: Mapping[str, RefinedVoltage],
    model_id: str, refiner_id: str,
) -> None:  # fmt: skip
    updates = [
        UpdateOne(
            {"_id": one.id},
            {
                "$set": {name: getattr(refined[one.structure_id], name) for name in _FIELDS}
                | {"model_id": model_id, "refiner_id": refiner_id}
            },
        )
        for one in looks
        if one.structure_id in refined
    ]
    for start in range(0, len(updates), INSERT_CHUNK):
        store.refinements.bulk_write(updates[start : start + INSERT_CHUNK], ordered=False)
