"""A stand-in for the Materials Project's API on 127.0.0.1: what the real client asks, and failures.

It knows the requests that voltscreen relies on and refuses every other path, parameter and field,
so that a test notices a request nobody thought of. Each request is kept in `log`.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

from voltscreen.structures.mp_ids import plain_id

Document = dict[str, Any]
KEY = "k" * 32
LARGEST_PAGE = 1000
PAGING = {"_fields", "_limit", "_page", "_per_page", "_sort_fields"}
RANGES = (
    "nsites", "nelements", "energy_above_hull", "band_gap", "volume", "density",
    "formation_energy_per_atom",
)  # fmt: skip
FLAGS = ("is_stable", "theoretical", "deprecated", "is_metal")
HEARTBEAT, SUMMARY, ELECTRODES = "heartbeat", "materials/summary", "materials/insertion_electrodes"


@dataclass(frozen=True, slots=True)
class Asked:
    """A request: path without slashes at its ends, parameters, headers, others in work with it."""

    path: str
    params: dict[str, str]
    headers: dict[str, str]
    at_once: int


@dataclass(slots=True)
class Failure:
    """What to answer instead of the `at`-th request (from 1) of a path, so many times in a row.

    kind: an HTTP status, `cut` (the body breaks off, the connection closes), `garbled` (half of
    the JSON, complete as HTTP), `short` (documents are missing), `drop` (no answer at all).
    """

    at: int
    kind: int | str
    path: str = SUMMARY
    times: int = 1
    retry_after: str | None = None


@dataclass
class StandIn:
    """The server's content; may be changed while it runs.

    release: of the heartbeat. releases: by number of answered summary requests, a new release.
    delay: seconds that every page takes.
    """

    materials: list[Document] = field(default_factory=list)
    electrodes: list[Document] = field(default_factory=list)
    release: str = "2025.02.12"
    releases: dict[int, str] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    delay: float = 0.0
    log: list[Asked] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._lock = threading.Lock()
        self._in_work = 0
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    @property
    def endpoint(self) -> str:
        """For MP_API_ENDPOINT."""
        return f"http://127.0.0.1:{self._http.server_port}/"

    def asked(self, path: str) -> list[Asked]:
        """Requests of a path so far."""
        return [one for one in self.log if one.path == path]

    def pages(self) -> list[Asked]:
        """Requests for documents by their ids."""
        return [one for one in self.asked(SUMMARY) if "structure" in one.params["_fields"]]

    def begin(self, path: str, params: dict[str, str], headers: dict[str, str]) -> Failure | None:
        with self._lock:
            self._in_work += 1
            self.log.append(Asked(path, params, headers, self._in_work))
            number = len(self.asked(path))
            if path == SUMMARY:
                self.release = self.releases.get(number, self.release)
            for failure in self.failures:
                if failure.path == path and failure.times and number >= failure.at:
                    failure.times -= 1
                    return failure
        return None

    def end(self) -> None:
        with self._lock:
            self._in_work -= 1

    def answer(self, path: str, params: dict[str, str], key: str | None) -> tuple[int, Document]:
        if path == HEARTBEAT:
            return 200, {
                "status": "OK",
                "version": "0.86.3",
                "db_version": self.release,
                "access_controlled_batch_ids": [],
            }
        if path not in (SUMMARY, ELECTRODES):
            return 404, {"detail": f"nothing at {path}"}
        if key != KEY:
            return 401, {"detail": f"the key {key} is unknown"}
        time.sleep(self.delay)
        try:
            found = self._materials(params) if path == SUMMARY else self._electrodes(params)
            page = _page(found, params)
        except (KeyError, ValueError) as error:
            return 422, {"detail": f"not understood: {error}"}
        return 200, {"data": page, "meta": {"api_version": "0.86.3", "total_doc": len(found)}}

    def _materials(self, params: dict[str, str]) -> list[Document]:
        windows = {f"{name}_{end}" for name in RANGES for end in ("min", "max")}
        known = {
            "material_ids", "elements", "exclude_elements", "chemsys", "formula",
            "batch_id_not_eq", *windows, *FLAGS, *PAGING,
        }  # fmt: skip
        _refuse_unknown(params, known)
        if "material_ids" not in params:
            return [doc for doc in self.materials if _material_fits(doc, params)]
        ids = {plain_id(each) for each in params["material_ids"].split(",")}
        chosen = [doc for doc in self.materials if plain_id(doc["material_id"]) in ids]
        return [doc for doc in chosen if _material_fits(doc, params)]

    def _electrodes(self, params: dict[str, str]) -> list[Document]:
        _refuse_unknown(params, {"working_ion", *PAGING})
        ions = params["working_ion"].split(",")
        return [doc for doc in self.electrodes if doc["working_ion"] in ions]


def _page(found: list[Document], params: dict[str, str]) -> list[Document]:
    order = params.get("_sort_fields")
    if order:
        found = sorted(found, key=lambda doc: doc[order])
    limit = int(params.get("_limit", 100))
    start = 0
    if "_page" in params:
        limit = int(params["_per_page"])
        start = (int(params["_page"]) - 1) * limit
    if limit > LARGEST_PAGE:
        raise ValueError("_limit is above 1000")
    page = found[start : start + limit]
    names = params["_fields"].split(",")
    return [{name: doc.get(name) for name in names} for doc in page]


def _material_fits(doc: Document, params: dict[str, str]) -> bool:
    split = {name: text.split(",") for name, text in params.items()}
    if "elements" in params and not set(split["elements"]) <= set(doc["elements"]):
        return False
    if "exclude_elements" in params and set(split["exclude_elements"]) & set(doc["elements"]):
        return False
    if "chemsys" in params and "-".join(doc["elements"]) not in split["chemsys"]:
        return False
    if "formula" in params and doc["formula_pretty"] not in split["formula"]:
        return False
    if any(str(doc[name]) != params[name] for name in FLAGS if name in params):
        return False
    return _in_windows(doc, params, RANGES)


def _in_windows(doc: Document, params: dict[str, str], names: Sequence[str]) -> bool:
    for name in names:
        value, low, high = doc.get(name), params.get(f"{name}_min"), params.get(f"{name}_max")
        if low is None and high is None:
            continue
        if value is None or not float(low or "-inf") <= value <= float(high or "inf"):
            return False
    return True


def _refuse_unknown(params: dict[str, str], known: set[str]) -> None:
    if unknown := set(params) - known:
        raise ValueError(f"unknown parameters {', '.join(sorted(unknown))}")


def _spoilt(status: int, content: Document, kind: int | str | None) -> tuple[int, bytes]:
    """The answer, or what a failure on demand makes of it; the rest is done to the connection."""
    if isinstance(kind, int):
        status, content = kind, {"detail": f"failure {kind} on demand"}
    if kind == "short":
        content["data"] = content["data"][: len(content["data"]) // 2]
    body = json.dumps(content).encode()
    return status, body[: len(body) // 2] if kind == "garbled" else body


def _handler(stand_in: StandIn) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            """Nothing on standard error."""

        def do_GET(self) -> None:
            address = urlsplit(self.path)
            path, params = address.path.strip("/"), dict(parse_qsl(address.query))
            headers = {name.lower(): value for name, value in self.headers.items()}
            failure = stand_in.begin(path, params, headers)
            try:
                self._answer(path, params, headers.get("x-api-key"), failure)
            except ConnectionError:
                self.close_connection = True
            finally:
                stand_in.end()

        def _answer(
            self, path: str, params: dict[str, str], key: str | None, failure: Failure | None
        ) -> None:
            kind = failure.kind if failure else None
            if kind == "drop":
                self.close_connection = True
                return
            status, body = _spoilt(*stand_in.answer(path, params, key), kind)
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            if failure and failure.retry_after:
                self.send_header("Retry-After", failure.retry_after)
            self.end_headers()
            if kind == "cut":
                body, self.close_connection = body[: len(body) // 2], True
            self.wfile.write(body)

    return Handler
