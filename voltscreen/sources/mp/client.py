"""What voltscreen asks of the Materials Project, through mp-api's `MPRester`.

The listing of a query is read first (ids and dates, `PAGE` a request), then documents by their
ids, `CHUNK` a request and at most `PARALLEL` requests at a time. So a page that lacks something is
noticed, what is stored already is not asked for, and a release that changes in between cannot make
pages slip.
"""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Self, TypeVar

from pydantic import BaseModel, ValidationError

from voltscreen.errors import MaterialsProjectError, SpecError
from voltscreen.ions import ION_SYMBOLS
from voltscreen.sources.mp.documents import KnownElectrode, LabelledElectrode, Material, Summary
from voltscreen.sources.mp.query import IDS_AT_ONCE, MPQuery
from voltscreen.sources.mp.session import (
    IncompleteError,
    Patience,
    Patient,
    Session,
    find_endpoint,
    find_key,
)
from voltscreen.structures.mp_ids import plain_id

if TYPE_CHECKING:
    from mp_api.client import MPRester

PAGE = 1000
"""Ids in one request of a listing, the most that the API gives."""
CHUNK = IDS_AT_ONCE
"""Documents in one request."""
PARALLEL = 4
"""Requests at a time, as mp-api itself holds it."""
ASK_AGAIN = 3
"""How often ids that an answer lacks are asked for, and a listing that does not add up is read."""

Raw = dict[str, Any]
A = TypeVar("A")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Chunk:
    """An answer. asked: plain ids; documents: as they came; missing: ids that did not come."""

    asked: tuple[str, ...]
    documents: list[Raw]
    missing: tuple[str, ...]


def heartbeat(patience: Patience | None = None) -> str:
    """The release of the database that the API serves now; needs no key.

    Raises:
        MaterialsProjectError: no answer.
    """
    patience = (patience or Patience()).opening
    with Session(None, patience.timeout) as session:
        return _release(session, Patient(patience, None, _unsaid))


class MPClient:
    """A connection to the Materials Project; a context manager.

    Every method raises MaterialsProjectError when no answer comes, SettingsError when the key is
    missing or refused, and SpecError when the query is not understood.
    """

    def __init__(
        self, patience: Patience | None = None, say: Callable[[str], None] | None = None
    ) -> None:
        self._patience = patience or Patience()
        self._say = say or _unsaid
        self._close = contextlib.ExitStack()

    def __enter__(self) -> Self:
        key, endpoint = find_key(), find_endpoint()
        self._session = Session(key, self._patience.timeout)
        self._ask = Patient(self._patience, key, self._say)
        with contextlib.ExitStack() as stack:
            # mp-api warns of what it will drop and of server versions; nothing a user can mend.
            stack.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")
            stack.enter_context(self._session)
            stack.callback(self._ask.stop)
            # First a heartbeat of our own: mp-api's waits for ever and tries once.
            opening = Patient(self._patience.opening, key, self._say)
            stack.callback(opening.stop)
            _release(self._session, opening)
            self._rester = opening("a heartbeat", lambda: self._open(key, endpoint))
            self._summary = _quick(self._rester.materials.summary, Summary)
            self._electrodes = _quick(
                self._rester.materials.insertion_electrodes, LabelledElectrode
            )
            self._close = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._close.close()

    def release(self) -> str:
        """The release of the database that is served now."""
        return _release(self._session, self._ask)

    def count(self, query: MPQuery) -> int:
        """How many materials match; one request for each part of the query."""
        return sum(self._page(part, 1, 1)[1] for part in query.parts())

    def listing(self, query: MPQuery) -> dict[str, Material]:
        """Every material that matches, by plain id, in the order of the ids.

        Raises:
            MaterialsProjectError: the pages do not add up to the number that the API names.
        """
        found: dict[str, Material] = {}
        for part in query.parts():
            found |= self._ask_again("a listing", partial(self._list, part))
        return found

    def materials(self, ids: Sequence[str], query: MPQuery | None = None) -> Iterator[Chunk]:
        """Documents with structure of these ids, in chunks, in the order in which they come.

        Args:
            ids: plain ids. query: the one that listed them.
        """
        chunks = [tuple(ids[i : i + CHUNK]) for i in range(0, len(ids), CHUNK)]
        options = query.anywhere if query else {}
        yield from self._in_parallel(lambda chunk: self._chunk(chunk, options), chunks)

    def electrodes(self, schema: type[KnownElectrode] = KnownElectrode) -> Iterator[Raw]:
        """The insertion-electrode documents of the ten ions as they come.

        Args:
            schema: says which fields to ask for.
        """
        names = schema.names()
        for documents in self._in_parallel(
            lambda ion: self._ask_again(
                f"the electrodes of {ion}", lambda: self._electrode_pages(ion, names)
            ),
            ION_SYMBOLS,
        ):
            yield from documents

    def _open(self, key: str, endpoint: str) -> MPRester:
        from mp_api.client import MPRester

        return MPRester(
            key,
            endpoint=endpoint,
            session=self._session,
            use_document_model=False,
            mute_progress_bars=True,
        )

    def _page(self, part: Raw, number: int, size: int) -> tuple[list[Raw], int]:
        """A page of a listing, and the number of materials that match."""
        arguments = dict(part)
        if ordering := arguments.get("magnetic_ordering"):
            arguments["magnetic_ordering"] = _ordering(ordering)

        def ask() -> tuple[list[Raw], int]:
            documents = self._summary.search(
                **arguments,
                fields=Material.names(),
                all_fields=False,
                chunk_size=size,
                num_chunks=1,
                _page=number,
                _sort_fields="material_id",
            )
            return documents, self._session.total()

        return self._ask("a listing", ask)

    def _list(self, part: Raw) -> dict[str, Material]:
        first, total = self._page(part, 1, PAGE)
        pages = range(2, math.ceil(total / PAGE) + 1)
        found = [Material.model_validate(line) for line in first]
        for lines, _ in self._in_parallel(lambda number: self._page(part, number, PAGE), pages):
            found += [Material.model_validate(line) for line in lines]
        by_id = {material.material_id: material for material in sorted(found, key=_order)}
        if len(by_id) != total:
            raise IncompleteError(f"{len(by_id)} of {total} materials were listed")
        return by_id

    def _chunk(self, ids: tuple[str, ...], options: Raw) -> Chunk:
        documents: list[Raw] = []
        missing = ids
        for _ in range(ASK_AGAIN):
            documents += self._documents(missing, options)
            have = {plain_id(str(doc.get("material_id"))) for doc in documents}
            missing = tuple(each for each in ids if each not in have)
            if not missing:
                break
        return Chunk(ids, documents, missing)

    def _documents(self, ids: Sequence[str], options: Raw) -> list[Raw]:
        def ask() -> list[Raw]:
            found: list[Raw] = self._summary.search(
                material_ids=list(ids),
                fields=Summary.names(),
                all_fields=False,
                chunk_size=len(ids),
                num_chunks=1,
                **options,
            )
            return found

        return self._ask("documents", ask)

    def _electrode_pages(self, ion: str, names: list[str]) -> list[Raw]:
        def ask(number: int) -> tuple[list[Raw], int]:
            documents = self._electrodes.search(
                working_ion=ion,
                fields=names,
                all_fields=False,
                chunk_size=PAGE,
                num_chunks=1,
                _page=number,
                _sort_fields="battery_id",
            )
            return documents, self._session.total()

        what = f"the electrodes of {ion}"
        documents, total = self._ask(what, partial(ask, 1))
        for number in range(2, math.ceil(total / PAGE) + 1):
            documents += self._ask(what, partial(ask, number))[0]
        if len(documents) != total:
            raise IncompleteError(f"{len(documents)} of {total} electrodes of {ion} came")
        return documents

    def _in_parallel(self, work: Callable[[A], R], items: Sequence[A]) -> Iterator[R]:
        """Results as they come, at most `PARALLEL` at a time, few begun before they are taken."""
        left = iter(items)
        running: set[Future[R]] = set()
        with ThreadPoolExecutor(PARALLEL) as pool:
            try:
                while True:
                    while len(running) < PARALLEL and (item := next(left, None)) is not None:
                        running.add(pool.submit(work, item))
                    if not running:
                        return
                    done, running = wait(running, return_when=FIRST_COMPLETED)
                    for future in done:
                        yield future.result()
            except GeneratorExit:
                raise
            except BaseException:
                # Ctrl-C, or an answer that did not come: the other threads shall not wait on.
                self._ask.stop()
                raise
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def _ask_again(self, what: str, read: Callable[[], R]) -> R:
        """Pages that do not add up are read anew a few times."""
        problem = ""
        for _ in range(ASK_AGAIN):
            try:
                return read()
            except IncompleteError as error:
                problem = str(error)
        raise MaterialsProjectError(
            f"the Materials Project does not give all of {what} ({problem}, read {ASK_AGAIN} "
            "times): try again later"
        )


def known_electrodes(documents: Iterator[Raw]) -> Iterator[KnownElectrode]:
    """Those that have a voltage and a host; what the API serves without them is of no use."""
    for document in documents:
        with contextlib.suppress(ValidationError):
            yield KnownElectrode.model_validate(document)


def _release(session: Session, ask: Patient) -> str:
    def read() -> str:
        return str(session.get(find_endpoint() + "heartbeat").json()["db_version"])

    return ask("a heartbeat", read)


def _quick(rester: Any, schema: type[BaseModel]) -> Any:
    """The endpoint with our schema in the place of mp-api's, which it would lay out again for
    every field of every request: seconds each time.
    """
    endpoint = rester.search.__self__
    endpoint.document_model = schema
    return endpoint


def _ordering(name: str) -> Any:
    from pymatgen.analysis.magnetism import Ordering

    try:
        return Ordering(name)
    except ValueError:
        allowed = ", ".join(each.value for each in Ordering)
        raise SpecError(f"source.mp.magnetic_ordering: choose from {allowed}") from None


def _order(material: Material) -> tuple[int, str]:
    return len(material.material_id), material.material_id


def _unsaid(_: str) -> None:
    """For those who want no news."""
