"""Spool files: results of a batch that could not reach the database, and their replay.

A file is one line of JSON (`SpoolHeader`) and then the documents of `voltages`, BSON one after
another, compressed by zlib. It appears under its name whole or not at all, and its checksum says
whether it still is what was written.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import uuid
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import bson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from voltscreen.errors import FileFormatError
from voltscreen.settings import settings
from voltscreen.store import Store
from voltscreen.store.connection import insert_new
from voltscreen.store.documents import Attempt, BatchState, VoltageDocument

SUFFIX = ".spool"
FORMAT = 1


class SpoolHeader(BaseModel):
    """What a spool file holds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = FORMAT
    campaign: str
    batch: str = Field(description="_id of the batch")
    fw_id: int | None = Field(description="Firework of the batch")
    worker: str = Field(description="name of the worker, as FireWorks knows it")
    complete: bool = Field(description="whether the batch was finished, or cut off")
    predicted: int = Field(description="structures with a voltage, of the whole batch so far")
    failed: int = Field(description="structures without one, of the whole batch so far")
    attempt: Attempt
    count: int = Field(description="documents in the file")
    sha256: str = Field(description="of what follows the first line, hex")


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
    """Write a spool file; its count and checksum are filled in here.

    Raises:
        OSError: the folder cannot be written to.
    """
    body = zlib.compress(b"".join(bson.encode(document.to_mongo()) for document in documents))
    digest = hashlib.sha256(body).hexdigest()
    whole = header.model_copy(update={"count": len(documents), "sha256": digest})
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{header.batch.replace(':', '-')}-{uuid.uuid4().hex[:8]}{SUFFIX}"
    part = folder / f".{name}.part"
    try:
        with part.open("wb") as file:
            file.write(whole.model_dump_json(exclude_none=True).encode() + b"\n" + body)
            file.flush()
            os.fsync(file.fileno())
        part.replace(folder / name)
    finally:
        with contextlib.suppress(OSError):
            part.unlink()
    return folder / name


def read_spool(path: Path) -> Spooled:
    """The content of a spool file.

    Raises:
        FileFormatError: not a spool file, cut off or changed; the message says which.
    """
    try:
        head, _, body = path.read_bytes().partition(b"\n")
    except OSError as error:
        raise FileFormatError(f"cannot read {path}: {error.strerror}") from None
    try:
        header = SpoolHeader.model_validate_json(head)
    except ValidationError:
        raise FileFormatError(f"{path} is not a spool file of voltscreen") from None
    if header.format != FORMAT:
        raise FileFormatError(
            f"{path} is of format {header.format}, this voltscreen reads {FORMAT}: "
            "replay it with the version that wrote it"
        )
    if hashlib.sha256(body).hexdigest() != header.sha256:
        raise FileFormatError(
            f"{path} is damaged (checksum): delete it, and voltscreen campaign resume "
            f"{header.campaign} predicts its batch again"
        )
    rows = bson.decode_all(zlib.decompress(body))
    documents = tuple(VoltageDocument.from_mongo(row) for row in rows)
    return Spooled(path, header, documents)


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
