"""Files that carry documents between a database and nodes that do not reach it.

One line of JSON, the header, and then documents in BSON one after another, compressed by zlib. A
file appears under its name whole or not at all, and its checksum says whether it still is what was
written.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

import bson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from voltscreen.errors import FileFormatError

FORMAT = 1


class Frame(BaseModel):
    """What every header says."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = FORMAT
    count: int = Field(default=0, description="documents in the file")
    sha256: str = Field(default="", description="of what follows the first line, hex")


AFrame = TypeVar("AFrame", bound=Frame)


def write_frame(path: Path, header: Frame, documents: Iterable[dict[str, Any]]) -> Path:
    """Write such a file; count and checksum are filled in here.

    Raises:
        OSError: the folder cannot be written to.
    """
    encoded = [bson.encode(document) for document in documents]
    body = zlib.compress(b"".join(encoded))
    digest = hashlib.sha256(body).hexdigest()
    whole = header.model_copy(update={"count": len(encoded), "sha256": digest})
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            file.write(whole.model_dump_json(exclude_none=True).encode() + b"\n" + body)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        with contextlib.suppress(OSError):
            part.unlink()
    return path


def read_frame(path: Path, kind: type[AFrame]) -> tuple[AFrame, list[dict[str, Any]]]:
    """Header and documents of such a file.

    Raises:
        FileFormatError: another file, cut off or changed; the message says which.
    """
    try:
        head, _, body = path.read_bytes().partition(b"\n")
    except OSError as error:
        raise FileFormatError(f"cannot read {path}: {error.strerror}") from None
    try:
        header = kind.model_validate_json(head)
    except ValidationError:
        raise FileFormatError(
            f"{path} is damaged, or none of voltscreen's: its batch can be predicted again "
            "(voltscreen campaign resume)"
        ) from None
    if header.format != FORMAT:
        raise FileFormatError(
            f"{path} is of format {header.format} and this voltscreen reads {FORMAT}: use the "
            "version that wrote it"
        )
    if hashlib.sha256(body).hexdigest() != header.sha256:
        raise FileFormatError(
            f"{path} is damaged, its checksum differs: its batch can be predicted again "
            "(voltscreen campaign resume)"
        )
    rows: list[dict[str, Any]] = bson.decode_all(zlib.decompress(body))
    return header, rows
