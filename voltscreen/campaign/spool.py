"""Spool files: results of a batch that could not reach the database, and their replay.

See `framed` for their form.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from voltscreen.campaign.framed import Frame, read_frame, write_frame
from voltscreen.settings import settings
from voltscreen.store import Store
from voltscreen.store.connection import insert_new
from voltscreen.store.documents import Attempt, BatchState, VoltageDocument

SUFFIX = ".spool"


class SpoolHeader(Frame):
    """What a spool file holds: documents of `voltages`."""

    campaign: str
    batch: str = Field(description="_id of the batch")
    fw_id: int | None = Field(description="Firework of the batch")
    worker: str = Field(description="name of the worker, as FireWorks knows it")
    complete: bool = Field(description="whether the batch was finished, or cut off")
    predicted: int = Field(description="structures with a voltage, of the whole batch so far")
    failed: int = Field(description="structures without one, of the whole batch so far")
    attempt: Attempt


@dataclass(frozen=True, slots=True)
class Spooled:
    """A spool file that was read."""

    path: Path
    header: SpoolHeader
    documents: tuple[VoltageDocument, ...]


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a replay brought. new: documents that the database had not; known: that it had."""

    new: int
    known: int


def spool_folder() -> Path:
    """Where this machine's workers write spool files."""
    config = settings()
    return config.spool or config.home / "spool"


def write_spool(folder: Path, header: SpoolHeader, documents: Sequence[VoltageDocument]) -> Path:
    """Write a spool file, whole or not at all.

    Raises:
        OSError: the folder cannot be written to.
    """
    name = f"{header.batch.replace(':', '-')}-{uuid.uuid4().hex[:8]}{SUFFIX}"
    return write_frame(folder / name, header, (d.to_mongo() for d in documents))


def read_spool(path: Path) -> Spooled:
    """The content of a spool file.

    Raises:
        FileFormatError: not a spool file, cut off or changed; the message says which.
    """
    header, rows = read_frame(path, SpoolHeader)
    return Spooled(path, header, tuple(VoltageDocument.from_mongo(row) for row in rows))


def spool_files(folder: Path) -> Iterator[Path]:
    """Spool files of a folder and its subfolders, by name; half-written ones have another name."""
    yield from sorted(folder.rglob(f"*{SUFFIX}"))


def replay(store: Store, spooled: Spooled) -> Replayed:
    """Write what a spool file holds; a second time changes nothing."""
    header = spooled.header
    new = insert_new(store.voltages, spooled.documents)
    note_attempt(
        store,
        header.batch,
        header.attempt,
        BatchState.DONE if header.complete else None,
        {"predicted": header.predicted, "failed": header.failed},
    )
    return Replayed(new, len(spooled.documents) - new)


def note_attempt(
    store: Store,
    batch_id: str,
    attempt: Attempt,
    state: BatchState | None,
    counts: dict[str, int],
) -> None:
    """Write an attempt with its batch, once; a batch that is done stays done.

    Args:
        state: of the batch now; None leaves it as it is.
    """
    fresh = {"_id": batch_id, "attempts.started_at": {"$ne": attempt.started_at}}
    push = {"$push": {"attempts": attempt.model_dump(exclude_none=True)}}
    store.batches.update_one(fresh, push)
    if state is not None:
        undone = {"_id": batch_id, "state": {"$ne": BatchState.DONE}}
        store.batches.update_one(undone, {"$set": {"state": state, **counts}})
