"""Models in MongoDB: the card in `models`, the weights in GridFS, a copy in the home's cache."""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path
from typing import Any

import gridfs
from pymongo.errors import DuplicateKeyError

from voltscreen.errors import ModelError
from voltscreen.store.connection import Store
from voltscreen.store.documents import ModelDocument

BUCKET = "weights"


def put_model(
    store: Store, model_id: str, name: str, ions: list[str], card: dict[str, Any], data: bytes
) -> bool:
    """Store a model file once; False when the database has it already.

    Args:
        model_id: hash of weights and feature table.
        data: the model file.
    """
    if store.models.find_one({"_id": model_id}, {"_id": 1}) is not None:
        return False
    bucket = gridfs.GridFSBucket(store.database, BUCKET)
    # A file id of its own for every upload: one cut off halfway is in nobody's way.
    file_id = bucket.upload_from_stream(model_id, data)
    document = ModelDocument(
        id=model_id,
        name=name,
        ions=ions,
        card=card,
        weights=file_id,
        size=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
    )
    try:
        store.models.insert_one(document.to_mongo())
    except DuplicateKeyError:
        bucket.delete(file_id)
        return False
    return True


def stored_weights(store: Store, document: ModelDocument) -> bytes | None:
    """The model's file as the database has it; None where it is missing or in pieces."""
    try:
        with gridfs.GridFSBucket(store.database, BUCKET).open_download_stream(
            document.weights
        ) as stream:
            return bytes(stream.read())
    except (gridfs.errors.NoFile, gridfs.errors.CorruptGridFile):
        return None


def replace_weights(store: Store, document: ModelDocument, data: bytes) -> None:
    """Store a good copy of a model's file in the place of a damaged one."""
    bucket = gridfs.GridFSBucket(store.database, BUCKET)
    file_id = bucket.upload_from_stream(document.id, data)
    now = {"weights": file_id, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    store.models.update_one({"_id": document.id}, {"$set": now})
    with contextlib.suppress(gridfs.errors.NoFile):
        bucket.delete(document.weights)


def model_file(store: Store, model_id: str, cache: Path) -> Path:
    """The model's file in the cache folder, fetched from GridFS when it is not there.

    Raises:
        ModelError: the database does not have the model, or its bytes are damaged.
    """
    path = cache / f"{model_id}.safetensors"
    if path.is_file():
        return path
    row = store.models.find_one({"_id": model_id})
    if row is None:
        raise ModelError(
            f"the database has no model {model_id!r}: submit the campaign again with "
            "voltscreen campaign submit"
        )
    document = ModelDocument.from_mongo(row)
    bucket = gridfs.GridFSBucket(store.database, BUCKET)
    try:
        with bucket.open_download_stream(document.weights) as stream:
            data = stream.read()
    except (gridfs.errors.NoFile, gridfs.errors.CorruptGridFile) as error:
        raise ModelError(f"the weights of model {model_id!r} are damaged: {error}") from None
    if hashlib.sha256(data).hexdigest() != document.sha256:
        raise ModelError(f"the weights of model {model_id!r} do not match their checksum")
    cache.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Several workers may fetch at once; each moves a whole file into place.
    part = path.with_suffix(f".{os.getpid()}.part")
    try:
        part.write_bytes(data)
        part.replace(path)
    finally:
        with contextlib.suppress(OSError):
            part.unlink()
    return path
