"""Model files, in the database and on this machine."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from voltscreen.campaign.doctor.finding import Finding, Kind, Patient
from voltscreen.campaign.predict import model_cache
from voltscreen.errors import ModelError
from voltscreen.model.catalog import available_models, read_card, user_models
from voltscreen.store.documents import ModelDocument
from voltscreen.store.models import replace_weights, stored_weights


def damaged_models(patient: Patient) -> Iterator[Finding]:
    """Weights in the database that do not match their checksum."""
    for row in patient.store.models.find({}):
        document = ModelDocument.from_mongo(row)
        data = stored_weights(patient.store, document)
        if data is not None and _sha256(data) == document.sha256:
            continue
        good = _good_copy(patient, document)
        yield Finding(
            Kind.MODEL,
            f"model {document.id} ({document.name})",
            "its weights are missing" if data is None else "its weights do not match their hash",
            f"they are stored anew from {good}"
            if good
            else "no good copy is on this machine: put the model's file in "
            f"{user_models()} and run this again",
            partial(_store_again, patient, document, good) if good else None,
        )


def _good_copy(patient: Patient, document: ModelDocument) -> Path | None:
    cached = sorted(model_cache(patient.home).glob("*.safetensors"))
    for path in (*cached, *available_models().values()):
        # Two files of one model may differ in the order of their header: the id decides.
        if _problem(path) is None and read_card(str(path))[0] == document.id:
            return path
    return None


def _store_again(patient: Patient, document: ModelDocument, path: Path) -> None:
    replace_weights(patient.store, document, path.read_bytes())


def damaged_copies(patient: Patient) -> Iterator[Finding]:
    """Model files of this machine whose weights do not match their id."""
    for path in sorted(model_cache(patient.home).glob("*.safetensors")):
        if problem := _problem(path):
            yield Finding(
                Kind.MODEL,
                str(path),
                f"batches fail on this machine: {problem}",
                "the copy is deleted, and fetched anew from the database when it is needed",
                path.unlink,
            )
    for path in sorted(user_models().glob("*.safetensors")):
        if problem := _problem(path):
            aside = path.with_name(path.name + ".damaged")
            yield Finding(
                Kind.MODEL,
                str(path),
                f"the model cannot be used: {problem}",
                f"it is moved to {aside.name}",
                partial(path.replace, aside),
            )


def _problem(path: Path) -> str | None:
    """Why a model file cannot be used; None when it can."""
    from voltscreen.model import load_model

    try:
        load_model(str(path))
    except ModelError as error:
        return str(error)
    return None


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
