"""The REST API, described by its own OpenAPI page at /api/docs.json."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, File, Form, HTTPException, Path, Query, Request, UploadFile
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from voltscreen import __version__
from voltscreen.campaign.status import CampaignStatus, campaign_status, list_campaigns
from voltscreen.errors import CampaignError, SpecError, VoltscreenError
from voltscreen.model import ModelCard
from voltscreen.report.dossier import Dossier
from voltscreen.store import ResultFilters, ResultPage, ResultQuery, query_page, unpack
from voltscreen.structures import Candidate, HostState, SourceRef
from voltscreen.web.asking import Asked, predicted, read_asked
from voltscreen.web.context import Context, context_of, without_paths
from voltscreen.web.limits import KEY_HEADER

PAGE_ROWS = 1000
"""Rows of one answer at most."""


class Problem(BaseModel):
    """Why a request was refused."""

    detail: str


class Health(BaseModel):
    """That the server runs."""

    version: str
    model_ready: bool = Field(description="whether the first prediction need not wait")
    writable: bool = Field(description="whether the server has keys for writing")


class ModelEntry(BaseModel):
    """A model in the database."""

    model_config = ConfigDict(protected_namespaces=())

    id: str
    name: str
    ions: list[str]
    description: str


class Stored(BaseModel):
    """A structure that was stored."""

    structure_id: str
    new: bool = Field(description="whether the database had it not")


class Submitted(BaseModel):
    """What became of a campaign that was submitted."""

    campaign: str
    message: str


class RemoteSpec(BaseModel):
    """A campaign spec without files: these would be the server's own."""

    model_config = ConfigDict(extra="allow")

    name: str = Field(max_length=80)
    ions: list[str] = Field(min_length=1, max_length=10)
    source: dict[str, Any] = Field(description="mp, hosts or both; files and parquet are refused")


class PageFilters(ResultFilters):
    """Filters of a page of results."""

    skip: int = Field(default=0, ge=0, le=10_000_000, description="rows left out first")
    top: int = Field(default=50, ge=1, le=PAGE_ROWS, description="at most so many rows")


_REFUSALS: dict[int | str, dict[str, Any]] = {
    code: {"model": Problem, "description": text}
    for code, text in (
        (404, "There is no such thing."),
        (422, "The request is not understood, or cannot be met."),
    )
}
_UPLOADS: dict[int | str, dict[str, Any]] = {
    413: {"model": Problem, "description": "The upload is too large."},
    503: {"model": Problem, "description": "Too many predictions wait, or a service is away."},
}
_WRITES: dict[int | str, dict[str, Any]] = {
    401: {"model": Problem, "description": f"No key in {KEY_HEADER}."},
    403: {"model": Problem, "description": "A wrong key, or a server that nobody may write to."},
    409: {"model": Problem, "description": "It is there already, or in another state."},
}
router = APIRouter(
    prefix="/api",
    responses={**_REFUSALS, 429: {"description": "Too many requests; Retry-After says when."},
               400: {"model": Problem, "description": "Not a request that can be read."}},
)  # fmt: skip
Ctx = Annotated[Context, Depends(context_of)]
Name = Annotated[str, Path(max_length=200, description="name of the campaign")]
Ion = Annotated[str, Path(max_length=2, description="working ion, e.g. Mg")]
Id = Annotated[str, Path(max_length=300, description="structure id, or an id of its source")]


def writer(request: Request, context: Ctx) -> None:
    """Let only requests with a key pass."""
    given = request.headers.get(KEY_HEADER)
    if given is None:
        raise HTTPException(401, f"writing needs a key in the header {KEY_HEADER}")
    if not context.keys.allow(given):
        raise HTTPException(403, "the key is not one that may write")


@router.get("/health")
def health(context: Ctx) -> Health:
    """Whether the server runs and its model is loaded."""
    return Health(
        version=__version__, model_ready=context.predictor.ready, writable=bool(context.keys)
    )


@router.post("/predict", responses=_UPLOADS)
async def predict(
    context: Ctx,
    file: Annotated[
        UploadFile | None, File(description="CIF, POSCAR or pymatgen JSON of one crystal")
    ] = None,
    structure: Annotated[
        str | None,
        Form(max_length=300, description="instead of a file: a stored or Materials Project id"),
    ] = None,
    ions: Annotated[
        list[str] | None, Form(max_length=10, description="working ions; all by default")
    ] = None,
    host_state: Annotated[
        HostState, Form(description="whether the ion is taken out of the structure first")
    ] = HostState.ION_REMOVED,
) -> Dossier:
    """Voltages and local voltages of one structure, with what is known of it; nothing is stored."""
    asked = await read_asked(context, file, structure)
    return await predicted(context, asked, ions, host_state)


@router.get("/campaigns")
def campaigns(context: Ctx) -> list[CampaignStatus]:
    """All campaigns, the oldest first."""
    return [_shown(status) for status in list_campaigns(context.store)]


@router.get("/campaigns/{name}")
def campaign(context: Ctx, name: Name) -> CampaignStatus:
    """Where a campaign stands."""
    context.campaign(name)
    return _shown(campaign_status(context.store, name))


@router.get("/campaigns/{name}/results/{ion}")
def results(
    context: Ctx, name: Name, ion: Ion, filters: Annotated[PageFilters, Query()]
) -> ResultPage:
    """A page of the campaign's ranked candidates for an ion."""
    context.campaign(name, ion)
    query = ResultQuery(campaign=name, ion=ion, **filters.model_dump())
    return query_page(context.store, query, context.columns(query))


@router.get("/structures/{id}")
def structure(context: Ctx, id: Id) -> Dossier:  # noqa: A002 - the parameter's name outside
    """The dossier of a stored structure."""
    return context.dossier(id)


@router.get(
    "/structures/{id}/cif",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
def structure_cif(context: Ctx, id: Id) -> Response:  # noqa: A002
    """A stored structure as CIF."""
    from pymatgen.io.cif import CifWriter

    packed = unpack(context.structure(id))
    text = str(CifWriter(packed.to_pymatgen(), significant_figures=10))
    return Response(text, media_type="text/plain")


@router.get("/models")
def models(context: Ctx) -> list[ModelEntry]:
    """The models that campaigns have used."""
    rows = context.store.models.find({}, {"name": 1, "ions": 1, "card.description": 1})
    return [
        ModelEntry(
            id=row["_id"],
            name=row["name"],
            ions=row["ions"],
            description=row["card"].get("description", ""),
        )
        for row in rows
    ]


@router.get("/models/{id}")
def model(context: Ctx, id: Id) -> ModelCard:  # noqa: A002
    """The card of a model: what it was trained on and how well it does."""
    row = context.store.models.find_one({"_id": id}, {"card": 1})
    if row is None:
        raise HTTPException(404, f"no model {id!r} in the database")
    return ModelCard.model_validate(without_paths(row["card"]))


@router.post("/structures", responses={**_UPLOADS, **_WRITES}, dependencies=[Depends(writer)])
async def store_structure(context: Ctx, file: Annotated[UploadFile, File()]) -> Stored:
    """Store a structure; needs a key."""
    asked = await read_asked(context, file, None)
    return await run_in_threadpool(_store, context, asked)


@router.post("/campaigns", responses=_WRITES, dependencies=[Depends(writer)], status_code=202)
def submit(context: Ctx, spec: RemoteSpec) -> Submitted:
    """Submit a campaign of Materials Project structures or known hosts; needs a key.

    Workers do the work: `voltscreen worker` or SLURM jobs.
    """
    import contextlib

    from voltscreen.campaign import control
    from voltscreen.campaign.launchpad import open_launchpad
    from voltscreen.campaign.spec import parse_spec

    if not {"mp", "hosts"} >= spec.source.keys():
        raise SpecError("source: only mp and hosts can be asked for from outside")
    content = spec.model_dump()
    if str(content.get("model", "default")).endswith(".safetensors"):
        raise SpecError("model: give a model's name, not a file")
    parsed = parse_spec(content)
    with contextlib.closing(open_launchpad()) as launchpad:
        done = control.submit(context.store, launchpad, parsed)
    return Submitted(campaign=done.campaign, message=without_paths(done.message))


@router.post("/campaigns/{name}/cancel", responses=_WRITES, dependencies=[Depends(writer)])
def cancel(context: Ctx, name: Name) -> Submitted:
    """Stop a campaign; needs a key."""
    import contextlib

    from voltscreen.campaign import control
    from voltscreen.campaign.launchpad import open_launchpad

    context.campaign(name)
    try:
        with contextlib.closing(open_launchpad()) as launchpad:
            stopped = control.cancel(context.store, launchpad, name)
    except CampaignError as error:
        raise HTTPException(409, without_paths(str(error))) from None
    return Submitted(campaign=name, message=f"{stopped} Fireworks were stopped")


def _shown(status: CampaignStatus) -> CampaignStatus:
    """A status without paths of the server."""
    return CampaignStatus.model_validate(without_paths(status.model_dump()))


def _store(context: Context, asked: Asked) -> Stored:
    from voltscreen.store.structures import ingest

    candidate = Candidate(asked.structure, SourceRef("upload", asked.name))
    (report,) = ingest(context.store, [candidate])
    return Stored(structure_id=report.ids[0], new=report.new == 1)


def refusal_status(error: VoltscreenError) -> int:
    """HTTP status of an error of ours: a service that is away, or a request that cannot be met."""
    return 503 if error.exit_code == 3 else 422
