"""What a batch writes while it is worked: voltages, progress and its attempt.

While the database is away it keeps them, and in the end they go through a spool file.
"""

from __future__ import annotations

import contextlib
import resource
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from pymongo.errors import ConnectionFailure

from voltscreen.campaign.shift import BatchEnd, Shift
from voltscreen.campaign.spool import (
    SpoolHeader,
    note_attempt,
    read_spool,
    replay,
    spool_folder,
    write_spool,
)
from voltscreen.campaign.worker_id import WorkerId
from voltscreen.masking import mask
from voltscreen.store import Store
from voltscreen.store.connection import Row, insert_new
from voltscreen.store.documents import (
    Attempt,
    BatchDocument,
    BatchState,
    VoltageDocument,
    VoltageStatus,
    now,
)


class BatchWriter:
    """Writes one attempt at a batch.

    Args:
        store: None where the database is never reached: everything goes to the spool file.
        device: where the model is, such as cpu or cuda:0.
        folder: of spool files; that of the settings when None.
    """

    def __init__(
        self,
        store: Store | None,
        batch: BatchDocument,
        fw_id: int | None,
        shift: Shift,
        device: str,
        folder: Path | None = None,
    ) -> None:
        self._store, self._batch, self._fw_id = store, batch, fw_id
        self._shift, self._device = shift, device
        self._started, self._clock = now(), time.monotonic()
        self._away: Store | None = None
        self._folder = folder or spool_folder()
        self._counts = {"predicted": 0, "failed": 0}
        self.was_complete = False
        self._kept: list[VoltageDocument] = []
        self._chunk_clock, self._longest_chunk = self._clock, 0.0

    def _tell(self, write: Callable[[Store], object]) -> bool:
        """Write to the database; False while it is away, which it then is to the batch's end."""
        if self._store is None:
            return False
        try:
            write(self._store)
        except ConnectionFailure:
            self._away, self._store = self._store, None
            return False
        return True

    @property
    def _undone(self) -> Row:
        """Fits the batch unless it is done: others may have finished it where we were given up."""
        return {"_id": self._batch.id, "state": {"$ne": BatchState.DONE}}

    def begin(self) -> None:
        """Mark the batch as running.

        Raises:
            pymongo.errors.ConnectionFailure: the database is away before anything was done.
        """
        if self._store is not None:
            running = {"state": BatchState.RUNNING, "fw_id": self._fw_id}
            self._store.batches.update_one(self._undone, {"$set": running})

    def has_time_for_a_chunk(self) -> bool:
        """Whether a chunk as long as the longest so far would still end in time."""
        self._chunk_clock = time.monotonic()
        return self._shift.has_time_for(self._longest_chunk)

    def write(self, documents: Sequence[VoltageDocument]) -> None:
        """Write voltages, or keep them."""
        if not self._tell(lambda store: insert_new(store.voltages, documents)):
            self._kept += documents

    def count(self, statuses: Iterable[VoltageStatus]) -> None:
        """Count structures of the batch that are through, and say so."""
        for status in statuses:
            self._counts["predicted" if status is VoltageStatus.OK else "failed"] += 1
        found = {"$set": self._counts}
        self._tell(lambda store: store.batches.update_one(self._undone, found))
        self._longest_chunk = max(self._longest_chunk, time.monotonic() - self._chunk_clock)

    def end(self, *, complete: bool) -> BatchEnd:
        """Mark the batch as done, or as ready again where it was cut off.

        With the database away this writes a spool file, waits, and replays it.
        """
        self.was_complete = complete
        attempt = self._attempt(handed_back=None if complete else True)
        state = BatchState.DONE if complete else BatchState.READY
        told = self._tell(
            lambda store: note_attempt(store, self._batch.id, attempt, state, self._counts)
        )
        if told or self._spool(attempt, complete=complete):
            return BatchEnd.DONE if complete else BatchEnd.HANDED_BACK
        return BatchEnd.SPOOLED

    def fail(self, cause: BaseException) -> None:
        """Mark the batch as failed; nothing while the database is away."""
        attempt = self._attempt(error=mask(f"{type(cause).__name__}: {cause}"))
        failed = BatchState.FAILED
        self._tell(lambda store: note_attempt(store, self._batch.id, attempt, failed, self._counts))

    def _spool(self, attempt: Attempt, *, complete: bool) -> bool:
        """Through a spool file into the database; False when it stays away."""
        header = SpoolHeader(
            campaign=self._batch.campaign,
            batch=self._batch.id,
            fw_id=self._fw_id,
            worker=WorkerId.current().name,
            complete=complete,
            attempt=attempt.model_copy(update={"spooled": True}),
            **self._counts,
        )
        path = write_spool(self._folder, header, self._kept)
        while self._away and self._shift.wait_for_database(self._away.database.client):
            with contextlib.suppress(ConnectionFailure):
                replay(self._away, read_spool(path))
                path.unlink()
                return True
        return False

    def _attempt(self, *, handed_back: bool | None = None, error: str | None = None) -> Attempt:
        worker, job = WorkerId.current(), self._shift.job
        return Attempt(
            started_at=self._started,
            seconds=time.monotonic() - self._clock,
            host=worker.host,
            pid=worker.process.pid,
            device=self._device,
            peak_memory=_peak_memory(),
            gpu_memory=_gpu_memory(self._device),
            job=job.name if job else None,
            restart=job.restart if job else None,
            gpus=job.gpus if job else None,
            handed_back=handed_back,
            error=error,
        )


def _peak_memory() -> float:
    """MiB of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def _gpu_memory(device: str) -> float | None:
    """MiB that torch took at most on a GPU so far."""
    if not device.startswith("cuda"):
        return None
    import torch

    return float(torch.cuda.max_memory_allocated(device) / 2**20)
