"""A batch: packed structures in, voltages out."""

from __future__ import annotations

import math
import resource
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from voltscreen.errors import StructureError
from voltscreen.failpoints import reach
from voltscreen.model import CandidatePrediction, VoltageModel, predict_candidates
from voltscreen.process import ProcessId
from voltscreen.store import Store, unpack
from voltscreen.store.connection import find_by_ids, insert_new
from voltscreen.store.documents import (
    Attempt,
    BatchDocument,
    BatchState,
    IonVoltage,
    StructureDocument,
    VoltageDocument,
    VoltageStatus,
    now,
    voltage_id,
)
from voltscreen.structures import PackedStructure

CHUNK = 200
"""Structures predicted and written at once. A chunk is always predicted whole, so that a batch
that was cut off and worked again gives the same numbers to the last bit."""


def predict_batch(store: Store, batch_id: str, model: VoltageModel, fw_id: int | None) -> None:
    """Predict what the batch still lacks, write it, and mark the batch.

    An exception marks the batch as failed, with the reason, and goes on up.
    """
    row = store.batches.find_one({"_id": batch_id})
    if row is None:
        raise LookupError(f"there is no batch {batch_id}: its campaign was deleted")
    batch = BatchDocument.from_mongo(row)
    started, clock = now(), time.monotonic()
    store.batches.update_one(
        {"_id": batch_id}, {"$set": {"state": BatchState.RUNNING, "fw_id": fw_id}}
    )
    reach("predict.begun")
    state, error = BatchState.FAILED, None
    counts = {VoltageStatus.OK: 0, VoltageStatus.FAILED: 0}
    try:
        for ids in _chunks(batch.structure_ids):
            for status in _predict_chunk(store, ids, model):
                counts[status] += 1
            reach("write.chunk")
            store.batches.update_one({"_id": batch_id}, {"$set": _counted(counts)})
        reach("write.batch")
        state = BatchState.DONE
    except BaseException as cause:
        error = f"{type(cause).__name__}: {cause}"
        raise
    finally:
        attempt = Attempt(
            started_at=started,
            seconds=time.monotonic() - clock,
            host=socket.gethostname(),
            pid=ProcessId.current().pid,
            device=str(model.device),
            peak_memory=_peak_memory(),
            error=error,
        )
        store.batches.update_one(
            {"_id": batch_id},
            {
                "$set": {"state": state, **_counted(counts)},
                "$push": {"attempts": attempt.model_dump(exclude_none=True)},
            },
        )
    reach("finish.batch")


def _counted(counts: dict[VoltageStatus, int]) -> dict[str, int]:
    return {"predicted": counts[VoltageStatus.OK], "failed": counts[VoltageStatus.FAILED]}


def _predict_chunk(store: Store, ids: list[str], model: VoltageModel) -> Iterator[VoltageStatus]:
    """Status of each structure of the chunk, predicted now or before."""
    done = {
        row["structure_id"]: VoltageStatus(row["status"])
        for row in find_by_ids(
            store.voltages, (voltage_id(key, model.id) for key in ids), ("structure_id", "status")
        )
    }
    if len(done) < len(ids):
        documents = _predict(store, ids, model)
        reach("predict.chunk")
        insert_new(store.voltages, [d for d in documents if d.structure_id not in done])
        done |= {document.structure_id: document.status for document in documents}
    yield from done.values()


def _predict(store: Store, ids: list[str], model: VoltageModel) -> list[VoltageDocument]:
    found = {
        row["_id"]: StructureDocument.from_mongo(row) for row in find_by_ids(store.structures, ids)
    }
    packed: dict[str, PackedStructure] = {}
    refused: dict[str, str] = {}
    for key in ids:
        try:
            if key not in found:
                raise StructureError("the structure is no longer in the database")
            packed[key] = unpack(found[key])
        except StructureError as error:
            refused[key] = str(error)
    predictions = dict(zip(packed, predict_candidates(model, list(packed.values())), strict=True))
    return [
        _document(
            key,
            found.get(key),
            model.id,
            predictions.get(key) or CandidatePrediction(),
            refused.get(key),
        )
        for key in ids
    ]


def _document(
    key: str,
    structure: StructureDocument | None,
    model_id: str,
    prediction: CandidatePrediction,
    refused: str | None,
) -> VoltageDocument:
    ions: dict[str, IonVoltage] = {ion: IonVoltage(error=e) for ion, e in prediction.errors.items()}
    for ion, found in prediction.ions.items():
        ions[ion] = IonVoltage(
            voltage=found.voltage,
            sd=found.sd,
            lo80=found.lo80,
            hi80=found.hi80,
            lo90=found.lo90,
            hi90=found.hi90,
            out_of_domain=found.out_of_domain,
            host_state=found.host_state.value,
            undercoordinated=found.undercoordinated,
            linear=None if found.linear is None else _float32(found.linear),
            additive=_float32(found.additive),
            site=found.site,
        )
    reasons = list(dict.fromkeys(prediction.errors.values()))
    return VoltageDocument(
        id=voltage_id(key, model_id),
        structure_id=key,
        model_id=model_id,
        formula=structure.formula if structure else "",
        chemsys=structure.chemsys if structure else "",
        elements=structure.elements if structure else [],
        element_counts=structure.element_counts if structure else {},
        nsites=structure.nsites if structure else 0,
        energy_above_hull=_hull(structure),
        status=VoltageStatus.OK if prediction.ions else VoltageStatus.FAILED,
        reason=None if prediction.ions else refused or "; ".join(reasons),
        ions={} if refused else ions,
    )


def _hull(structure: StructureDocument | None) -> float | None:
    """eV/atom; a source may hold text or nothing there."""
    value = structure.properties.get("energy_above_hull") if structure else None
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None


def _float32(values: np.ndarray) -> bytes:
    return values.astype("<f4").tobytes()


def _chunks(ids: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(ids), CHUNK):
        yield ids[start : start + CHUNK]


def _peak_memory() -> float:
    """MiB of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def model_cache(home: Path) -> Path:
    """Where workers keep the model files that they fetched."""
    return home / "models-cache"
