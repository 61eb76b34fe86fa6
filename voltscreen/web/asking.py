"""From an upload or an id to a dossier, for the API and the page alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fastapi import HTTPException, UploadFile
from starlette.concurrency import run_in_threadpool

from voltscreen.errors import QueryError, SettingsError, VoltscreenError
from voltscreen.ions import parse_ions
from voltscreen.report.dossier import Dossier, predicted_dossier
from voltscreen.store import get_structure, unpack
from voltscreen.structures import Candidate, HostState, PackedStructure
from voltscreen.structures.mp_ids import is_material_id, plain_id
from voltscreen.web.context import Context
from voltscreen.web.limits import MAX_UPLOAD_BYTES
from voltscreen.web.reading import plain_name


@dataclass(frozen=True, slots=True)
class Asked:
    """A structure that somebody asks about, and what they call it."""

    name: str
    structure: PackedStructure


async def read_asked(context: Context, file: UploadFile | None, name: str | None) -> Asked:
    """The structure of an upload or of an id.

    Raises:
        HTTPException: neither or both are given, too large, or an id that nothing has.
        FileFormatError, StructureError: not a structure.
    """
    given = bool(file and (file.filename or file.size))
    if given == bool(name and name.strip()):
        raise HTTPException(422, "give a structure file, or the id of a structure, and not both")
    if given and file is not None:
        data = await file.read(MAX_UPLOAD_BYTES + 1)
        if len(data) > MAX_UPLOAD_BYTES:
            limit = MAX_UPLOAD_BYTES / 1e6
            raise HTTPException(413, f"the file is too large: at most {limit:.0f} MB are read")
        called = plain_name(file.filename or "structure.cif")
        structure = await run_in_threadpool(context.reader.read, called, data)
        return Asked(called, structure)
    return await run_in_threadpool(_by_id, context, str(name).strip())


def _by_id(context: Context, name: str) -> Asked:
    try:
        return Asked(name, unpack(get_structure(context.store, name)))
    except QueryError as error:
        if not is_material_id(name):
            raise HTTPException(404, str(error)) from None
    return _from_materials_project(plain_id(name))


def _from_materials_project(name: str) -> Asked:
    """A structure that the database has not, from the Materials Project.

    Raises:
        HTTPException: the server has no key, or the Materials Project has no such material.
        MaterialsProjectError: it does not answer.
    """
    from voltscreen.sources.mp import MPClient
    from voltscreen.sources.mp.documents import read_material
    from voltscreen.sources.mp.session import Patience

    try:
        with MPClient(Patience(tries=2, first=0.5, timeout=15)) as client:
            release = client.release()
            documents = [doc for chunk in client.materials([name]) for doc in chunk.documents]
    except SettingsError:
        detail = f"no structure {name!r} in the database, and the server has no key to ask for it"
        raise HTTPException(404, detail) from None
    for item in (read_material(document, release) for document in documents):
        if isinstance(item, Candidate):
            return Asked(f"{item.structure.formula} ({name})", item.structure)
    raise HTTPException(404, f"no structure {name!r} here or in the Materials Project")


async def predicted(
    context: Context, asked: Asked, ions: Sequence[str] | None, state: HostState
) -> Dossier:
    """The dossier of a structure, predicted now.

    Raises:
        VoltscreenError: an ion that is none, or that the model does not know.
    """
    wanted = parse_ions(ions or [])
    prediction = await context.predictor.predict(asked.structure, wanted or None, state)
    if not prediction.ions:
        reasons = list(dict.fromkeys(prediction.errors.values()))
        raise VoltscreenError(reasons[0] if reasons else "there is no voltage to predict")
    return await run_in_threadpool(
        predicted_dossier,
        context.store,
        asked.name,
        asked.structure,
        context.predictor.model(),
        prediction,
    )
