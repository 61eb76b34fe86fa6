"""A batch: packed structures in, voltages out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from voltscreen.campaign.shift import BatchEnd, Shift
from voltscreen.campaign.writer import BatchWriter
from voltscreen.errors import StructureError
from voltscreen.failpoints import reach
from voltscreen.store import Store, load_structures, unpack
from voltscreen.store.connection import find_by_ids
from voltscreen.store.documents import (
    BatchDocument,
    IonVoltage,
    StructureDocument,
    VoltageDocument,
    VoltageStatus,
    voltage_id,
)
from voltscreen.structures import PackedStructure

if TYPE_CHECKING:
    from voltscreen.model import PredictionColumns, VoltageModel

CHUNK = 200
"""Structures predicted and written at once. A chunk is always predicted whole, so that a batch
that was cut off and worked again gives the same numbers to the last bit."""


def predict_batch(
    store: Store,
    batch_id: str,
    model: VoltageModel,
    fw_id: int | None,
    shift: Shift | None = None,
) -> BatchEnd:
    """Predict what the batch still lacks, write it, and mark the batch.

    Once it has begun it does not need the database: what cannot be written goes to a spool file,
    and from there to the database when it is back. An exception marks the batch as failed, with
    the reason, and goes on up.

    Args:
        shift: of the worker; without one the batch may take as long as it likes.

    Returns:
        How it ended.
    """
    row = store.batches.find_one({"_id": batch_id})
    if row is None:
        raise LookupError(f"there is no batch {batch_id}: its campaign was deleted")
    batch = BatchDocument.from_mongo(row)
    writer = BatchWriter(store, batch, fw_id, shift or Shift(), str(model.device))
    writer.begin()
    reach("predict.begun")
    end = work_batch(
        writer, batch.structure_ids, read_batch(store, batch.structure_ids, model.id), model
    )
    reach("finish.batch")
    return end


def work_batch(
    writer: BatchWriter, structure_ids: Sequence[str], work: BatchWork, model: VoltageModel
) -> BatchEnd:
    """Predict chunk after chunk, as far as the time allows; see `predict_batch`."""
    try:
        for ids in _chunks(structure_ids):
            if not writer.has_time_for_a_chunk():
                return writer.end(complete=False)
            missing = [key for key in ids if key not in work.done]
            # A chunk is predicted whole whatever it lacks, so that its numbers are the same.
            documents = predict_structures(work.structures, ids, model) if missing else []
            reach("predict.chunk")
            writer.write([d for d in documents if d.structure_id not in work.done])
            statuses = {d.structure_id: d.status for d in documents} | work.done
            reach("write.chunk")
            writer.count(statuses[key] for key in ids)
        reach("write.batch")
        return writer.end(complete=True)
    except BaseException as cause:
        writer.fail(cause)
        raise


@dataclass(frozen=True, slots=True)
class BatchWork:
    """What a batch needs of the database.

    structures: documents by structure id, those that exist; done: status of those that have a
    voltage.
    """

    structures: dict[str, StructureDocument]
    done: dict[str, VoltageStatus]


def read_batch(store: Store, ids: list[str], model_id: str) -> BatchWork:
    """Everything that the batch needs, so that the database may go away meanwhile."""
    done = {
        row["structure_id"]: VoltageStatus(row["status"])
        for row in find_by_ids(
            store.voltages, (voltage_id(key, model_id) for key in ids), ("structure_id", "status")
        )
    }
    needed = [key for chunk in _chunks(ids) if not done.keys() >= set(chunk) for key in chunk]
    return BatchWork(load_structures(store, needed), done)


def predict_structures(
    found: Mapping[str, StructureDocument], ids: Sequence[str], model: VoltageModel
) -> list[VoltageDocument]:
    """Voltages of a chunk of structures, in their order."""
    from voltscreen.model import predict_columns

    packed: dict[str, PackedStructure] = {}
    refused: dict[str, str] = {}
    for key in ids:
        try:
            if key not in found:
                raise StructureError("the structure is no longer in the database")
            packed[key] = unpack(found[key])
        except StructureError as error:
            refused[key] = str(error)
    columns = predict_columns(model, list(packed.values()))
    predicted = dict(zip(packed, zip(_ions(columns), columns.errors, strict=True), strict=True))
    nothing: tuple[dict[str, IonVoltage], dict[str, str]] = ({}, {})
    return [
        _document(key, found.get(key), model.id, *predicted.get(key, nothing), refused.get(key))
        for key in ids
    ]


def _ions(columns: PredictionColumns) -> Iterator[dict[str, IonVoltage]]:
    """What a candidate's document says of every ion, candidate by candidate.

    The numbers are what the model computed, so that they are not validated one by one.
    """
    offsets, hosts = columns.offsets.tolist(), columns.host.T.tolist()
    voltage, site = columns.voltage.tolist(), columns.site.tolist()
    undercoordinated = columns.undercoordinated.tolist()
    percentile = _lists(columns.out_of_domain, columns.voltage.shape)
    sd, lo80, hi80, lo90, hi90 = _lists(columns.uncertainty, (5, *columns.voltage.shape))
    additive = columns.additive.astype("<f4")
    linear = None if columns.linear is None else columns.linear.astype("<f4")
    for host_of, errors in zip(hosts, columns.errors, strict=True):
        ions = {ion: IonVoltage(error=reason) for ion, reason in errors.items()}
        for x, (ion, h) in enumerate(zip(columns.ions, host_of, strict=True)):
            if h < 0:
                continue
            begin, end = offsets[h], offsets[h + 1]
            ions[ion] = IonVoltage.model_construct(
                voltage=voltage[x][h],
                sd=sd[x][h],
                lo80=lo80[x][h],
                hi80=hi80[x][h],
                lo90=lo90[x][h],
                hi90=hi90[x][h],
                out_of_domain=percentile[x][h],
                host_state=columns.host_state[h].value,
                undercoordinated=undercoordinated[h],
                linear=None if linear is None else linear[x, begin:end].tobytes(),
                additive=additive[x, begin:end].tobytes(),
                site=site[x][h],
            )
        yield ions


def _lists(values: NDArray[np.float64] | None, shape: tuple[int, ...]) -> Any:
    """Nested lists of an array, or of None where there is no array."""
    return np.full(shape, None).tolist() if values is None else values.tolist()


def _document(
    key: str,
    structure: StructureDocument | None,
    model_id: str,
    ions: dict[str, IonVoltage],
    errors: Mapping[str, str],
    refused: str | None,
) -> VoltageDocument:
    predicted = len(ions) > len(errors)
    reasons = "; ".join(dict.fromkeys(errors.values()))
    return VoltageDocument.model_construct(
        id=voltage_id(key, model_id),
        structure_id=key,
        model_id=model_id,
        formula=structure.formula if structure else "",
        chemsys=structure.chemsys if structure else "",
        elements=structure.elements if structure else [],
        element_counts=structure.element_counts if structure else {},
        nsites=structure.nsites if structure else 0,
        energy_above_hull=_hull(structure),
        status=VoltageStatus.OK if predicted else VoltageStatus.FAILED,
        reason=None if predicted else refused or reasons,
        ions=ions,
    )


def _hull(structure: StructureDocument | None) -> float | None:
    """eV/atom; a source may hold text or nothing there."""
    value = structure.properties.get("energy_above_hull") if structure else None
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None


def _chunks(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(ids), CHUNK):
        yield ids[start : start + CHUNK]


def model_cache(home: Path) -> Path:
    """Where workers keep the model files that they fetched."""
    return home / "models-cache"
