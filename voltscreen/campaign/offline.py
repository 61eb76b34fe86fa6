"""Batch files: work for nodes that never reach the database.

`export_batches` takes batches out of the database into files, with the model beside them;
`work_offline` works the files of a folder, any number of processes on any number of nodes at once,
and writes spool files beside them; `recover` brings those back.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from fireworks import FWorker
from pydantic import Field

from voltscreen.campaign.framed import Frame, read_frame, write_frame
from voltscreen.campaign.launchpad import VoltscreenLaunchPad
from voltscreen.campaign.liveness import LOST_AFTER
from voltscreen.campaign.predict import BatchWork, model_cache, read_batch, work_batch
from voltscreen.campaign.shift import BatchEnd, Shift
from voltscreen.campaign.worker_id import (
    HEARTBEAT_SECONDS,
    WorkerId,
    exported_name,
    parse_worker_name,
    this_machine,
)
from voltscreen.campaign.writer import BatchWriter
from voltscreen.errors import CampaignError, ModelError
from voltscreen.settings import settings
from voltscreen.store import Store, get_campaign
from voltscreen.store.documents import (
    BatchDocument,
    BatchKind,
    BatchState,
    StructureDocument,
    VoltageStatus,
)
from voltscreen.store.models import model_file

if TYPE_CHECKING:
    from voltscreen.model import VoltageModel

SUFFIX = ".batch"
CLAIM = ".claim"


class BatchFile(Frame):
    """What a batch file holds: documents of `structures`."""

    batch: BatchDocument
    model_id: str
    fw_id: int
    done: dict[str, VoltageStatus] = Field(description="structures that had a voltage already")


def export_batches(
    store: Store, launchpad: VoltscreenLaunchPad, name: str, folder: Path, limit: int | None = None
) -> list[Path]:
    """Write ready batches of a campaign to files; nobody else works them until they come back.

    Args:
        limit: at most so many.

    Raises:
        CampaignError: no such campaign, or its source was not read yet.
    """
    campaign = get_campaign(store, name)
    planned = {"campaign": name, "kind": BatchKind.PREDICT}
    if store.batches.find_one(planned, {"_id": 1}) is None:
        raise CampaignError(
            f"campaign {name!r} has no batches yet: a worker that reaches the database must read "
            f"its source first (voltscreen worker --campaign {name} --nlaunches 1)"
        )
    folder = folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    model = model_file(store, campaign.model_id, model_cache(settings().home))
    _copy(model, folder / model.name)
    worker = FWorker(
        name=exported_name(str(folder)),
        query={"spec.campaign": name, "spec.batch": {"$exists": True}},
    )
    paths: list[Path] = []
    while limit is None or len(paths) < limit:
        firework, _ = launchpad.checkout_fw(worker, str(folder))
        if firework is None:
            break
        paths.append(
            _export(store, firework.spec["batch"], campaign.model_id, firework.fw_id, folder)
        )
    return paths


def _export(store: Store, batch_id: str, model_id: str, fw_id: int, folder: Path) -> Path:
    batch = BatchDocument.from_mongo(store.batches.find_one({"_id": batch_id}) or {})
    work = read_batch(store, batch.structure_ids, model_id)
    header = BatchFile(batch=batch, model_id=model_id, fw_id=fw_id, done=work.done)
    documents = (document.to_mongo() for document in work.structures.values())
    path = write_frame(folder / f"{batch_id.replace(':', '-')}{SUFFIX}", header, documents)
    running = {"state": BatchState.RUNNING, "fw_id": fw_id}
    store.batches.update_one({"_id": batch_id}, {"$set": running})
    return path


def take_back(store: Store, launchpad: VoltscreenLaunchPad, name: str) -> int:
    """Make the exported batches of a campaign ready again; results that come later do no harm.

    Returns:
        Number of batches.
    """
    get_campaign(store, name)
    count = 0
    for row in list(
        launchpad.fireworks.find(
            {"spec.campaign": name, "state": "RUNNING", "spec.batch": {"$exists": True}},
            {"fw_id": 1, "spec.batch": 1},
        )
    ):
        exported = {
            "fw_id": row["fw_id"],
            "state": "RUNNING",
            "fworker.name": {"$regex": "^exported"},
        }
        if launchpad.launches.find_one(exported, {"_id": 1}):
            undone = {"_id": row["spec"]["batch"], "state": {"$ne": BatchState.DONE}}
            store.batches.update_one(undone, {"$set": {"state": BatchState.READY}})
            launchpad.ready_again(row["fw_id"])
            count += 1
    return count


def open_files(folder: Path) -> list[Path]:
    """Batch files that are not finished, by name."""
    return sorted(folder.glob(f"*{SUFFIX}"))


def work_offline(folder: Path, shift: Shift) -> tuple[int, BatchEnd | None]:
    """Work the batch files of a folder until none is left; number of batches, end of the last.

    Raises:
        CampaignError: there is no such folder.
        ModelError: the model is not beside the files.
    """
    if not folder.is_dir():
        raise CampaignError(f"there is no folder {folder}: voltscreen campaign export makes one")
    models: dict[str, VoltageModel] = {}
    count = 0
    end: BatchEnd | None = None
    for path in open_files(folder):
        if shift.stop.is_set() or not shift.has_time_for_a_batch():
            break
        with _claimed(path) as is_ours:
            if not is_ours:
                continue
            clock = time.monotonic()
            end = _work_file(path, shift, models)
            count += 1
            shift.lately.append(time.monotonic() - clock)
    return count, end


def _work_file(path: Path, shift: Shift, models: dict[str, VoltageModel]) -> BatchEnd:
    header, rows = read_frame(path, BatchFile)
    if header.model_id not in models:
        file = path.parent / f"{header.model_id}.safetensors"
        if not file.is_file():
            raise ModelError(f"{file} is missing: it belongs beside the exported batch files")
        from voltscreen.model import load_model
        from voltscreen.model.device import prepare

        models[header.model_id] = prepare(load_model(str(file)))
    model = models[header.model_id]
    found = (StructureDocument.from_mongo(row) for row in rows)
    work = BatchWork({document.id: document for document in found}, header.done)
    writer = BatchWriter(None, header.batch, header.fw_id, shift, str(model.device), path.parent)
    end = work_batch(writer, header.batch.structure_ids, work, model)
    if writer.was_complete:
        done = path.parent / "done"
        done.mkdir(exist_ok=True)
        path.replace(done / path.name)
        return BatchEnd.DONE
    return BatchEnd.HANDED_BACK if end is BatchEnd.SPOOLED else end


@contextlib.contextmanager
def _claimed(path: Path) -> Iterator[bool]:
    """Hold the claim of a batch file; False when somebody living holds it, or it is done."""
    claim = path.with_suffix(CLAIM)
    if not path.exists() or not _take(claim):
        yield False
        return
    stop = threading.Event()

    def beat() -> None:
        while not stop.wait(HEARTBEAT_SECONDS):
            with contextlib.suppress(OSError):
                os.utime(claim)

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield path.exists()
    finally:
        stop.set()
        thread.join()
        with contextlib.suppress(OSError):
            claim.unlink()


def _take(claim: Path) -> bool:
    """Create a claim; one that a dead worker left is put aside, by one process alone."""
    mark = claim.with_name(f".{claim.name}.{uuid.uuid4().hex}")
    mark.write_text(WorkerId.current().name)
    try:
        if _is_abandoned(claim):
            with contextlib.suppress(OSError):
                claim.rename(mark.with_suffix(".abandoned"))
                mark.with_suffix(".abandoned").unlink()
        # A link is made by one process alone, on network file systems too.
        claim.hardlink_to(mark)
    except FileExistsError:
        return False
    finally:
        mark.unlink()
    return True


def _is_abandoned(claim: Path) -> bool:
    try:
        holder = parse_worker_name(claim.read_text())
        silent = time.time() - claim.stat().st_mtime
    except OSError:
        return False
    if holder is not None and holder.host == this_machine():
        return not holder.process.is_alive()
    return silent > LOST_AFTER.total_seconds()


def _copy(source: Path, target: Path) -> None:
    if not target.exists():
        part = target.with_suffix(".part")
        part.write_bytes(source.read_bytes())
        part.replace(target)
