"""The application: API, pages, limits, and how errors reach a person."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware

from voltscreen import __version__
from voltscreen.errors import VoltscreenError
from voltscreen.store import connect
from voltscreen.web import api, pages
from voltscreen.web.context import Context, without_paths
from voltscreen.web.limits import Keys, LimitBody, LimitRate, SecurityHeaders
from voltscreen.web.predicting import BusyError, Predictor
from voltscreen.web.reading import Reader

COSTS = {"/api/predict": 10.0, "/predict": 10.0, "/api/structures": 5.0, "/api/campaigns": 20.0}
"""What a request counts for, where it is more than one."""


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """How a server is set up.

    model: name of the model that predicts. keys: those that may write; none, and nobody may.
    per_minute: requests of one address. hosts: names by which it may be called; others are
    refused, so that a page elsewhere cannot reach it through a name of its own.
    """

    model: str = "default"
    keys: tuple[str, ...] = ()
    per_minute: float = 1200.0
    hosts: Sequence[str] = ("127.0.0.1", "localhost", "[::1]")


def create_app(options: ServerOptions | None = None) -> FastAPI:
    """The application; it opens the database and loads the model when it starts.

    Raises:
        DatabaseError: at start-up, where the database does not answer.
    """
    chosen = options or ServerOptions()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        reader = Reader()
        store = await run_in_threadpool(connect)
        predictor = Predictor(chosen.model, lambda model: pages.rehearse(store, model))
        app.state.context = Context(store, predictor, reader, Keys(chosen.keys))
        await run_in_threadpool(reader.start)
        try:
            yield
        finally:
            predictor.close()
            reader.close()
            store.close()

    app = FastAPI(
        title="voltscreen",
        version=__version__,
        description="Battery electrodes by high-throughput screening. Voltages are in V against "
        "the ion's metal, capacities in mAh/g, energy densities in Wh/kg.",
        lifespan=lifespan,
        openapi_url="/api/openapi.json",
        docs_url=None,
        redoc_url=None,
    )
    app.include_router(api.router)
    pages.add_to(app)
    _add_refusals(app)
    app.add_middleware(LimitBody)
    app.add_middleware(LimitRate, per_minute=chosen.per_minute, costs=COSTS)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(chosen.hosts))
    app.add_middleware(SecurityHeaders)
    return app


def _add_refusals(app: FastAPI) -> None:
    """Errors as JSON for programs, as a page for people."""

    @app.exception_handler(VoltscreenError)
    async def refused(request: Request, error: VoltscreenError) -> Response:
        return _answer(request, api.refusal_status(error), str(error))

    @app.exception_handler(StarletteHTTPException)
    async def failed(request: Request, error: HTTPException) -> Response:
        return _answer(request, error.status_code, str(error.detail), error.headers)

    @app.exception_handler(RequestValidationError)
    async def misunderstood(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"] if part not in {"query", "body"})
        return _answer(request, 422, f"{where}: {first['msg']}" if where else str(first["msg"]))

    @app.exception_handler(BusyError)
    async def busy(request: Request, error: BusyError) -> Response:  # noqa: ARG001
        return _answer(request, 503, "too many predictions wait: try again in a moment")


def _answer(
    request: Request, status: int, detail: str, headers: Mapping[str, str] | None = None
) -> Response:
    detail = without_paths(detail)
    if request.url.path.startswith("/api/") or "text/html" not in request.headers.get("accept", ""):
        return JSONResponse({"detail": detail}, status, dict(headers or {}))
    page = pages.render("error.html", request, title="Not found" if status == 404 else "Refused",
                        status=status, detail=detail)  # fmt: skip
    return HTMLResponse(page, status, dict(headers or {}))
