"""The pages for people: HTML from templates; the scripts only add to what works without them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Annotated, Any
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Depends, FastAPI, File, Form, Query, Request, UploadFile
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from jinja2 import Environment
from markupsafe import Markup
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool

from voltscreen import __version__
from voltscreen.campaign.status import CampaignStatus, campaign_status, failures, list_campaigns
from voltscreen.errors import QueryError, VoltscreenError
from voltscreen.ions import ION_SYMBOLS
from voltscreen.model import ModelCard, VoltageModel, predict_candidates
from voltscreen.report import drawings
from voltscreen.report.dossier import predicted_dossier
from voltscreen.report.grouping import folded_page
from voltscreen.report.pages import asset, dossier_file, environment
from voltscreen.report.summary import plot_points
from voltscreen.store import ResultQuery, Store, query_page
from voltscreen.store.documents import SubstitutionDocument
from voltscreen.store.queries import measured_with, select
from voltscreen.store.ranking_columns import RankingColumns
from voltscreen.structures import HostState
from voltscreen.web.asking import predicted, read_asked
from voltscreen.web.context import Context, context_of, without_paths
from voltscreen.web.local_voltages import element_voltages
from voltscreen.web.predicting import ROCK_SALT

ROWS = 50
"""Candidates on a page."""
LATEST = 6
"""Campaigns on the first page."""
MOST_SUBSTITUTIONS = 200
MOST_DRAWN = 1500
"""Points of the plot on a page; the best ranked of more."""
_TYPES = {"style.css": "text/css", "page.css": "text/css", "viewer.js": "text/javascript",
          "page.js": "text/javascript"}  # fmt: skip

router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)
Ctx = Annotated[Context, Depends(context_of)]


@cache
def _templates() -> Environment:
    return environment("voltscreen.web")


class Links:
    """Addresses of what a page speaks of."""

    def structure(self, key: str) -> str:
        """A structure's dossier."""
        return f"/structures/{quote(key, safe='')}"

    def ranking(self, campaign: str, ion: str) -> str:
        """A campaign's candidates for an ion."""
        return f"/campaigns/{quote(campaign, safe='')}/{ion}"

    def model(self, key: str) -> str:
        """A model's card."""
        return f"/models/{quote(key, safe='')}"


@dataclass(frozen=True)
class ResultLinks(Links):
    """Addresses on a page of results: the same filters in another order, or on another page."""

    address: str
    given: dict[str, Any]
    query: ResultQuery

    def with_(self, **changed: Any) -> str:
        """The same page with some filters changed; None takes one out."""
        kept = {k: v for k, v in {**self.given, **changed}.items() if v not in (None, "", False)}
        return f"{self.address}?{urlencode(kept, doseq=True)}" if kept else self.address

    def sort(self, key: str) -> str:
        """Sorted by a column; a second time in the other direction. Best first at first."""
        first = key not in {"rank", "interval_width", "out_of_domain", "energy_above_hull",
                            "nsites", "formula"}  # fmt: skip
        turned = not self.query.descending if self.query.sort == key else first
        order = None if (key == "rank" and not turned) else ("-" if turned else "") + key
        return self.with_(sort=order, skip=None)

    def sorted(self, key: str) -> str:
        """For `aria-sort`."""
        if self.query.sort != key:
            return "none"
        return "descending" if self.query.descending else "ascending"


def render(template: str, request: Request, **values: Any) -> str:
    """A page; `current` in the templates is the first part of the address."""
    current = request.url.path.strip("/").split("/")[0] or "predict"
    return (
        _templates()
        .get_template(template)
        .render(version=__version__, current=current, link=values.pop("link", Links()), **values)
    )


@router.get("/")
def start(request: Request, context: Ctx) -> str:
    """Upload or name a structure."""
    return _start(request, context)


def _start(request: Request, context: Context, **values: Any) -> str:
    """The form, and below it the campaigns submitted last."""
    rows = context.store.campaigns.find({}, {"spec.ions": 1, "state": 1})
    latest = list(rows.sort("submitted_at", -1).limit(LATEST))
    return render("predict.html", request, ions=ION_SYMBOLS, latest=latest, **values)


@router.post("/predict")
async def predict(
    request: Request,
    context: Ctx,
    file: Annotated[UploadFile | None, File()] = None,
    structure: Annotated[str | None, Form(max_length=300)] = None,
    ions: Annotated[list[str] | None, Form(max_length=10)] = None,
    host_state: Annotated[HostState, Form()] = HostState.ION_REMOVED,
) -> Response:
    """The dossier of an uploaded or named structure, predicted now."""
    try:
        asked = await read_asked(context, file, structure)
        dossier = await predicted(context, asked, ions, host_state)
    except VoltscreenError as error:
        status = 503 if error.exit_code == 3 else 422
        problem = without_paths(str(error))
        page = _start(request, context, problem=problem, structure=structure or "")
        return HTMLResponse(page, status)
    page = await run_in_threadpool(
        render, "structure.html", request, dossier=dossier, title=dossier.name, fresh=True
    )
    return HTMLResponse(page)


def rehearse(store: Store, model: VoltageModel) -> None:
    """Predict and render once, so that the first person does not wait for what is loaded late."""
    prediction = predict_candidates(model, [ROCK_SALT])[0]
    dossier = predicted_dossier(store, "MnO", ROCK_SALT, model, prediction)
    dossier.model_dump_json()
    template = _templates().get_template("structure.html")
    template.render(version=__version__, current="", link=Links(), dossier=dossier, title="MnO")


@router.get("/campaigns")
def campaigns(request: Request, context: Ctx) -> str:
    """All campaigns, the newest first."""
    return render("campaigns.html", request, campaigns=list_campaigns(context.store)[::-1])


@router.get("/campaigns/{name}")
def campaign(request: Request, context: Ctx, name: str) -> str:
    """Where a campaign stands."""
    document = context.campaign(name)
    status = campaign_status(context.store, name)
    failed = list(failures(context.store, name, 20)) if status.failed else []
    counts = {
        ion: context.store.rankings.count_documents({"campaign": name, "ion": ion}, limit=1)
        for ion in status.ions
    }
    return render(
        "campaign.html",
        request,
        status=status,
        document=document,
        failed=[(each, without_paths(each.reason)) for each in failed],
        errors=without_paths(status.errors),
        notices=without_paths(status.notices),
        spec=_spec_text(status),
        ranked=[ion for ion, count in counts.items() if count],
    )


@router.get("/campaigns/{name}/progress")
def progress(request: Request, context: Ctx, name: str) -> str:
    """The part of a campaign's page that changes while it runs."""
    context.campaign(name)
    return render("progress.html", request, status=campaign_status(context.store, name))


@router.get("/campaigns/{name}/{ion}")
def results(request: Request, context: Ctx, name: str, ion: str) -> Response:
    """A page of a campaign's ranked candidates, with their plot."""
    document = context.campaign(name, ion)
    given = {k: v for k, v in request.query_params.items() if v.strip()}
    fold = given.pop("fold", "") == "on"
    shown: dict[str, Any] = {"page": None, "also": {}, "plot": "", "drawn": 0, "problem": None}
    query = ResultQuery(campaign=name, ion=ion, top=ROWS)
    try:
        query = read_filters(name, ion, given)
        shown |= _found(context, query, fold=fold)
    except QueryError as error:
        shown["problem"] = str(error)
    address = f"/campaigns/{quote(name, safe='')}/{ion}"
    html = render(
        "results.html",
        request,
        name=name,
        ion=ion,
        ions=document.spec["ions"],
        query=query,
        given=given,
        fold=fold,
        rows_a_page=ROWS,
        link=ResultLinks(address, given | _on(fold), query),
        **shown,
    )
    return HTMLResponse(html, 422 if shown["problem"] else 200)


def _found(context: Context, query: ResultQuery, *, fold: bool) -> dict[str, Any]:
    """A page of candidates, what was folded into them, and the plot of all that fit."""
    columns = context.columns(query)
    also: dict[int, list[str]] = {}
    if fold:
        page, folded = folded_page(context.store, query)
        also = {each.row.rank: [row.name for row in each.also] for each in folded}
    else:
        page = query_page(context.store, query, columns)
    # Neither the order nor the page changes the plot.
    whole = query.model_copy(update={"sort": "rank", "descending": False, "skip": 0, "top": None})
    drawn, plot = context.kept(whole, lambda: _plot(context, columns, whole))
    return {"page": page, "also": also, "plot": plot, "drawn": drawn}


def _plot(context: Context, columns: RankingColumns, query: ResultQuery) -> tuple[int, Markup]:
    """Number of points, and the drawing."""
    measured = measured_with(context.store, query.ion) if query.measured else None
    points = plot_points(columns, select(columns, query, measured))
    drawn = sorted(points, key=lambda point: (not point.pareto, point.rank))[:MOST_DRAWN]
    drawing = drawings.pareto_plot(drawn, lambda point: Links().structure(point.structure_id))
    return len(drawn), Markup(drawing)  # noqa: S704 - our own drawing, its texts escaped


def _on(fold: bool) -> dict[str, str]:
    return {"fold": "on"} if fold else {}


def read_filters(name: str, ion: str, given: dict[str, str]) -> ResultQuery:
    """The filters of a page's address.

    Raises:
        QueryError: one that is not known, or a value that it cannot have.
    """
    fields: dict[str, Any] = dict(given)
    sort = str(fields.pop("sort", "rank"))
    fields |= {"sort": sort.removeprefix("-"), "descending": sort.startswith("-")}
    for words in ("elements", "exclude_elements"):
        if words in fields:
            parts = str(fields[words]).replace(",", " ").split()
            fields[words] = tuple(parts)
    try:
        return ResultQuery(**{"top": ROWS, **fields}, campaign=name, ion=ion)
    except ValidationError as error:
        first = error.errors()[0]
        where = " ".join(str(part) for part in first["loc"]).replace("_", " ")
        raise QueryError(f"{where}: {first['msg']}") from None


@router.get("/campaigns/{name}/{ion}/periodic-table")
def periodic_table(
    request: Request, context: Ctx, name: str, ion: str, oxygen: Annotated[bool, Query()] = False
) -> str:
    """Median local voltage by element, of the best of a ranking."""
    document = context.campaign(name, ion)
    table = element_voltages(context.store, name, ion, document.model_id, oxygen=oxygen)
    return render(
        "periodic_table.html",
        request,
        name=name,
        ion=ion,
        ions=document.spec["ions"],
        oxygen=oxygen,
        table=table,
        drawing=Markup(drawings.periodic_table(table.values)) if table.values else "",  # noqa: S704
    )


@router.get("/campaigns/{name}/{ion}/substitutions")
def substitutions(request: Request, context: Ctx, name: str, ion: str) -> str:
    """Element substitutions on record for a campaign."""
    document = context.campaign(name, ion)
    wanted = {"campaign": name, "ion": ion}
    rows = [
        SubstitutionDocument.from_mongo(row) for row in context.store.substitutions.find(wanted)
    ]
    rows.sort(key=lambda row: (row.verdict != "improves", -(row.change or -99.0)))
    return render(
        "campaign_substitutions.html",
        request,
        name=name,
        ion=ion,
        ions=document.spec["ions"],
        total=len(rows),
        rows=rows[:MOST_SUBSTITUTIONS],
    )


@router.get("/find")
def find(context: Ctx, id: Annotated[str, Query(max_length=300)]) -> Response:  # noqa: A002
    """To the dossier of a structure that is called so."""
    key = context.structure(id.strip()).id
    return RedirectResponse(Links().structure(key), status_code=303)


@router.get("/structures/{key}/dossier.html")
def download(context: Ctx, key: str) -> Response:
    """The dossier as one file to keep or mail."""
    dossier = context.dossier(key)
    name = f"{dossier.formula}-{dossier.structure_id[:8]}.html"
    headers = {
        "Content-Disposition": f'attachment; filename="{name}"',
        # The file brings its own policy and script.
        "Content-Security-Policy": "sandbox",
    }
    return HTMLResponse(dossier_file(dossier), headers=headers)


@router.get("/structures/{key}")
def structure(request: Request, context: Ctx, key: str) -> str:
    """A stored structure's dossier."""
    dossier = context.dossier(key)
    return render("structure.html", request, dossier=dossier, title=dossier.name, fresh=False)


@router.get("/models")
def models(request: Request, context: Ctx) -> str:
    """The models that campaigns have used."""
    rows = list(context.store.models.find({}, {"name": 1, "ions": 1, "card.description": 1}))
    return render("models.html", request, models=rows)


@router.get("/models/{key}")
def model(request: Request, context: Ctx, key: str) -> Response:
    """A model's card."""
    row = context.store.models.find_one({"_id": key}, {"name": 1, "card": 1})
    if row is None:
        page = render("error.html", request, title="Not found", status=404,
                      detail=f"no model {key!r} in the database")  # fmt: skip
        return HTMLResponse(page, 404)
    card = ModelCard.model_validate(without_paths(row["card"]))
    return HTMLResponse(
        render(
            "model.html",
            request,
            key=key,
            card=card,
            errors=card.own_errors(),
            text=card.to_yaml(lists=False),
        )
    )


@router.get("/static/{name}")
def static(name: str) -> Response:
    """Style sheets and scripts, of this room and of the reports."""
    if name not in _TYPES:
        return Response(status_code=404)
    if name.startswith("page."):
        text = (resources.files("voltscreen.web") / "static" / name).read_text(encoding="utf-8")
    else:
        text = asset(name)
    return Response(text, media_type=_TYPES[name], headers={"Cache-Control": "max-age=3600"})


@router.get("/favicon.ico")
def icon() -> Response:
    """A battery."""
    drawing = (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><rect x="3" y="9" width="23" '
        'height="14" rx="3" fill="none" stroke="#1f5fae" stroke-width="3"/><rect x="27" y="13" '
        'width="3" height="6" rx="1" fill="#1f5fae"/><rect x="7" y="13" width="9" height="6" '
        'fill="#c2570c"/></svg>'
    )
    return Response(drawing, media_type="image/svg+xml", headers={"Cache-Control": "max-age=86400"})


def add_to(app: FastAPI) -> None:
    """Serve the pages."""
    app.include_router(router)


def _spec_text(status: CampaignStatus) -> str:
    import yaml

    return str(yaml.safe_dump(without_paths(status.spec), sort_keys=False, allow_unicode=True))
