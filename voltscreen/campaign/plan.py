"""From a source to batches: ingest, and plan what has no voltage yet."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path

from voltscreen.campaign.materials_project import (
    News,
    Plan,
    ingest_electrodes,
    ingest_materials,
)
from voltscreen.campaign.spec import CampaignSpec, SourceSpec
from voltscreen.failpoints import reach
from voltscreen.sources import candidates, estimate, fingerprint
from voltscreen.sources.mp import MPClient, parse_query
from voltscreen.store import Store
from voltscreen.store.connection import find_by_ids
from voltscreen.store.documents import (
    BatchDocument,
    BatchKind,
    BatchState,
    CampaignDocument,
    voltage_id,
)
from voltscreen.store.structures import Ingested, ingest

_BASE = Path("/")
"""Paths of a loaded spec are absolute."""
REUSED_CHUNK = 10_000
"""Structure ids in one `reused` batch: 0.4 MB, far under the limit of a document."""


def ingest_campaign(
    store: Store, spec: CampaignSpec, progress: Callable[[int], None] | None = None
) -> int:
    """Read the campaign's sources into `structures`; the ids wait for the plan as batches.

    Args:
        progress: called with the number of structures of every chunk.

    Returns:
        Structures found; one that several sources hold counts for each of them.
    """
    name = spec.name
    mark = _fingerprint(spec.source)
    # A former ingest that was cut off left batches that nobody planned.
    store.batches.delete_many({"campaign": name, "kind": BatchKind.INGESTED})
    found = 0
    news = _CampaignNews(store, name, spec.source)
    chunks = chain.from_iterable(
        ingest_source(store, kind, value, _BASE, news) for kind, value in spec.source.parts.items()
    )
    for number, chunk in enumerate(chunks, start=1):
        reach("ingest.stored")
        store.batches.insert_one(
            _batch(name, number, BatchKind.INGESTED, chunk.ids, atoms=0).to_mongo()
        )
        reach("ingest.noted")
        found += len(chunk.ids)
        if progress:
            progress(len(chunk.ids))
    reach("ingest.read")
    store.campaigns.update_one(
        {"_id": name}, {"$set": {"source_fingerprint": mark, "notices": news.notices}}
    )
    return found


class _CampaignNews(News):
    """Tells the campaign's document how much there is to read."""

    def __init__(self, store: Store, name: str, source: SourceSpec) -> None:
        super().__init__()
        self._store, self._name, self._source = store, name, source

    def begin(self, plan: Plan) -> None:
        others = (
            estimate(kind, value, _BASE)
            for kind, value in self._source.parts.items()
            if kind != "mp"
        )
        expected = plan.listed + sum(others)
        self._store.campaigns.update_one({"_id": self._name}, {"$set": {"expected": expected}})


def ingest_source(
    store: Store,
    kind: str,
    value: object,
    base: Path,
    news: News,
    *,
    renew: bool = False,
) -> Iterator[Ingested]:
    """The items of a source into `structures`, with a report for every chunk.

    Args:
        kind, value, base: as for `sources.candidates`, and `mp` with a filter.
        news: hears of what the Materials Project lists and of what took time.
        renew: of the Materials Project, fetch again what changed.
    """
    if kind != "mp":
        yield from ingest(store, candidates(kind, value, base))
        return
    query = parse_query(value)
    with MPClient(say=news.say) as client:
        ingest_electrodes(store, client)
        yield from ingest_materials(store, client, query, news, renew=renew)


def source_is_unchanged(campaign: CampaignDocument, spec: CampaignSpec) -> bool:
    """Whether the sources are as they were when they were last read to their end."""
    if campaign.source_fingerprint is None:
        return False
    return _fingerprint(spec.source) == campaign.source_fingerprint


def _fingerprint(source: SourceSpec) -> str:
    """Changes when any of the sources may yield something else."""
    marks = {kind: fingerprint(kind, value, _BASE) for kind, value in source.parts.items()}
    return ",".join(f"{kind}:{mark}" for kind, mark in marks.items())


def plan_campaign(store: Store, name: str, model_id: str, max_atoms: int) -> int:
    """Cut what was ingested and has no voltage by this model into batches of about equal atoms.

    Structures that have one become `reused` batches, so that the campaign knows its members.
    A second call finds nothing more to do.

    Returns:
        Structures that are new to the campaign.
    """
    ingested = list(
        dict.fromkeys(
            _ids(
                store.batches.find({"campaign": name, "kind": BatchKind.INGESTED}).sort("number", 1)
            )
        )
    )
    members = set(campaign_members(store, name))
    fresh = [key for key in ingested if key not in members]
    done = {
        row["structure_id"]
        for row in find_by_ids(
            store.voltages,
            (voltage_id(key, model_id) for key in fresh),
            ("structure_id",),
            hashed="structure_id",
        )
    }
    number = _last_number(store, name)
    documents = []
    for chunk in _chunks([key for key in fresh if key in done], REUSED_CHUNK):
        number += 1
        documents.append(_batch(name, number, BatchKind.REUSED, chunk, atoms=0))
    for ids, atoms in _by_atoms(store, [key for key in fresh if key not in done], max_atoms):
        number += 1
        documents.append(_batch(name, number, BatchKind.PREDICT, ids, atoms))
    if documents:
        store.batches.insert_many([document.to_mongo() for document in documents])
    reach("plan.written")
    store.batches.delete_many({"campaign": name, "kind": BatchKind.INGESTED})
    return len(fresh)


def campaign_members(store: Store, name: str) -> Iterator[str]:
    """Structure ids of a campaign, in the order of its batches."""
    kinds = [BatchKind.PREDICT, BatchKind.REUSED]
    rows = store.batches.find({"campaign": name, "kind": {"$in": kinds}}).sort("number", 1)
    return _ids(rows)


def _ids(rows: Iterable[dict[str, list[str]]]) -> Iterator[str]:
    for row in rows:
        yield from row["structure_ids"]


def _last_number(store: Store, name: str) -> int:
    planned = {"campaign": name, "kind": {"$ne": BatchKind.INGESTED}}
    row = store.batches.find_one(planned, {"number": 1}, sort=[("number", -1)])
    return int(row["number"]) if row else 0


def _batch(
    name: str, number: int, kind: BatchKind, ids: Sequence[str], atoms: int
) -> BatchDocument:
    waits = kind is BatchKind.PREDICT
    mark = "ingest-" if kind is BatchKind.INGESTED else ""
    return BatchDocument(
        id=f"{name}:{mark}{number:06d}",
        campaign=name,
        number=number,
        kind=kind,
        state=BatchState.READY if waits else BatchState.DONE,
        structure_ids=list(ids),
        n_structures=len(ids),
        atoms=atoms,
    )


def _by_atoms(store: Store, ids: list[str], max_atoms: int) -> Iterator[tuple[list[str], int]]:
    """Runs of ids with about equal numbers of atoms, as few as the limit allows."""
    sizes = {
        row["_id"]: int(row["nsites"]) for row in find_by_ids(store.structures, ids, ("nsites",))
    }
    total = sum(sizes.values())
    n_batches = max(-(-total // max_atoms), 1)
    chunk: list[str] = []
    atoms = passed = number = 0
    for key in ids:
        size = sizes.get(key, 0)
        # The batch that the middle of the structure falls into when all atoms stand in a row.
        place = min(int((passed + size / 2) * n_batches / total), n_batches - 1) if total else 0
        if chunk and place > number:
            yield chunk, atoms
            chunk, atoms = [], 0
        number = place
        chunk.append(key)
        atoms += size
        passed += size
    if chunk:
        yield chunk, atoms


def _chunks(items: list[str], size: int) -> Iterator[list[str]]:
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk
