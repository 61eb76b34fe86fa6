"""Structures into MongoDB: each crystal once, with every place it was found in."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any

from pymongo import UpdateOne

from voltscreen.errors import QueryError, StructureError
from voltscreen.store.connection import IN_CHUNK, Row, Store, find_by_ids, insert_rows
from voltscreen.store.documents import (
    MeasuredVoltage,
    SourceEntry,
    StructureDocument,
)
from voltscreen.structures import Candidate, PackedStructure, Refused, SourceRef
from voltscreen.structures.mp_ids import plain_id

FLUSH = 1000
"""Structures held in memory before they are written."""


@dataclass(frozen=True, slots=True)
class Ingested:
    """What became of some items of a source.

    ids: structure ids in the order of the source, each once; new: number that the database had
    not; refused: number that no voltage can be predicted for.
    """

    ids: tuple[str, ...]
    new: int
    refused: int


def structure_id(item: Candidate | Refused) -> str:
    """`_id` of an item: the content hash, or for a refused one a hash of where it came from."""
    if isinstance(item, Candidate):
        return item.structure.content_hash
    digest = hashlib.blake2b(digest_size=16)
    for part in ("refused", item.ref.source, item.ref.id):
        digest.update(part.encode() + b"\0")
    return digest.hexdigest()


def ingest(store: Store, items: Iterable[Candidate | Refused]) -> Iterator[Ingested]:
    """Write items to `structures`; nothing is written for what is there already.

    Yields:
        One report for every `FLUSH` items or fewer.
    """
    iterator = iter(items)
    with ThreadPoolExecutor(1, "ingest") as writer:
        # While the database writes a chunk the next one is read.
        writing: Future[Ingested] | None = None
        while chunk := list(islice(iterator, FLUSH)):
            by_id = _by_id(chunk)
            if writing:
                yield writing.result()
            writing = writer.submit(_ingest_grouped, store, by_id)
        if writing:
            yield writing.result()


_Groups = dict[str, list[Candidate | Refused]]


def _by_id(items: Iterable[Candidate | Refused]) -> _Groups:
    by_id: _Groups = {}
    for item in items:
        by_id.setdefault(structure_id(item), []).append(item)
    return by_id


def _ingest_chunk(store: Store, items: list[Candidate | Refused]) -> Ingested:
    return _ingest_grouped(store, _by_id(items))


def _ingest_grouped(store: Store, by_id: _Groups) -> Ingested:
    rows = [_document(key, group).to_mongo() for key, group in by_id.items()]
    # Most of a source is new when it is read: what is not, the database says on inserting.
    there = insert_rows(store.structures, rows)
    new = len(rows) - len(there)
    known = {
        row["_id"]: row
        for row in find_by_ids(
            store.structures, there, ("sources", "label", "properties", "measured")
        )
    }
    updates = [
        update
        for key, row in known.items()
        for item in by_id[key]
        if (update := _addition(row, item)) is not None
    ]
    if updates:
        store.structures.bulk_write(updates, ordered=False)
    refused = sum(1 for group in by_id.values() if isinstance(group[0], Refused))
    return Ingested(tuple(by_id), new, refused)


def _document(key: str, group: list[Candidate | Refused]) -> StructureDocument:
    """The document of a structure that the chunk found once or several times."""
    sources: dict[tuple[str, str], SourceEntry] = {}
    for item in group:
        sources.setdefault((item.ref.source, item.ref.id), _source(item.ref))
    first = group[0]
    if isinstance(first, Refused):
        return StructureDocument(
            id=key, formula="", chemsys="", elements=[], element_counts={}, nsites=0,
            sources=list(sources.values()), refused=first.reason,
        )  # fmt: skip
    candidates = [item for item in group if isinstance(item, Candidate)]
    structure = first.structure
    elements = sorted(structure.element_counts)
    properties: dict[str, Any] = {}
    measured: dict[tuple[str, str], MeasuredVoltage] = {}
    for item in candidates:
        properties = _properties(item) | properties
        for voltage in _measured(item):
            measured.setdefault((voltage.ion, voltage.reference), voltage)
    return StructureDocument(
        id=key,
        formula=structure.formula,
        chemsys="-".join(elements),
        elements=elements,
        element_counts=structure.element_counts,
        nsites=len(structure),
        packed=structure.to_bytes(),
        sources=list(sources.values()),
        label=next((item.label for item in candidates if item.label), None),
        properties=properties,
        measured=list(measured.values()),
    )


def _addition(row: Row, item: Candidate | Refused) -> UpdateOne | None:
    """What a known structure learns from being found again; None when nothing."""
    entries = {(entry["source"], entry["id"]) for entry in row["sources"]}
    push: dict[str, Any] = {}
    new_values: dict[str, Any] = {}
    if (item.ref.source, item.ref.id) not in entries:
        push["sources"] = _source(item.ref).model_dump(exclude_none=True)
    if isinstance(item, Candidate):
        present = row.get("properties", {})
        new_values = {
            f"properties.{name}": value
            for name, value in _properties(item).items()
            if name not in present and value is not None
        }
        if item.label and not row.get("label"):
            new_values["label"] = item.label
        have = {(entry["ion"], entry["reference"]) for entry in row.get("measured", [])}
        more = [v for v in _measured(item) if (v.ion, v.reference) not in have]
        if more:
            push["measured"] = {"$each": [v.model_dump(exclude_none=True) for v in more]}
    if not push and not new_values:
        return None
    condition: dict[str, Any] = {"_id": row["_id"]}
    if "sources" in push:
        # Two processes that ingest the same source at once add its entry once.
        same = {"source": item.ref.source, "id": item.ref.id}
        condition["sources"] = {"$not": {"$elemMatch": same}}
    change: dict[str, Any] = {}
    if push:
        change["$push"] = push
    if new_values:
        change["$set"] = new_values
    return UpdateOne(condition, change)


def _source(ref: SourceRef) -> SourceEntry:
    return SourceEntry(
        source=ref.source,
        id=ref.id,
        db_version=ref.db_version,
        aliases=list(ref.aliases) or None,
        updated=ref.updated,
    )


def _properties(item: Candidate) -> dict[str, Any]:
    # MongoDB reads a dot as a path and a leading $ as an operator.
    return {name.replace(".", "_").lstrip("$"): v for name, v in item.properties.items()}


def _measured(item: Candidate) -> list[MeasuredVoltage]:
    return [
        MeasuredVoltage(
            ion=m.ion,
            voltage=m.voltage,
            reference=m.reference,
            uncertainty=m.uncertainty,
            insertion=m.insertion,
            note=m.note,
        )
        for m in item.measured
    ]


@dataclass(frozen=True, slots=True)
class StoredSource:
    """Where an entry of a source is stored, of which release, and how its source dated it."""

    structure_id: str
    db_version: str | None
    updated: str | None
    refused: bool


def stored_sources(store: Store, source: str, ids: Iterable[str]) -> dict[str, StoredSource]:
    """Those entries of a source that are stored, by id."""
    wanted = list(ids)
    found: dict[str, StoredSource] = {}
    for start in range(0, len(wanted), IN_CHUNK):
        chunk = set(wanted[start : start + IN_CHUNK])
        rows = store.structures.find(
            {"sources.id": {"$in": sorted(chunk)}}, {"sources": 1, "refused": 1}
        )
        for row in rows:
            for entry in row["sources"]:
                if entry["source"] == source and entry["id"] in chunk and _is_current(entry):
                    found[entry["id"]] = StoredSource(
                        row["_id"],
                        entry.get("db_version"),
                        entry.get("updated"),
                        "refused" in row,
                    )
    return found


def refresh(store: Store, items: Iterable[Candidate | Refused]) -> Iterator[Ingested]:
    """As `ingest`, and what is known of an item before gives way to what it brings.

    A structure that the source no longer has under the item's id keeps its entry, marked with the
    structure that took its place.
    """
    iterator = iter(items)
    while chunk := list(islice(iterator, FLUSH)):
        report = _ingest_chunk(store, chunk)
        for item in chunk:
            _renew(store, structure_id(item), item)
        yield report


def _renew(store: Store, key: str, item: Candidate | Refused) -> None:
    ref = item.ref
    for row in list(store.structures.find({"sources.id": ref.id}, {"sources": 1})):
        entries = [
            _renewed(entry, row["_id"], key, ref)
            if (entry["source"], entry["id"]) == (ref.source, ref.id)
            else entry
            for entry in row["sources"]
        ]
        change: dict[str, Any] = {"sources": entries}
        if row["_id"] == key and isinstance(item, Candidate):
            change |= {f"properties.{name}": value for name, value in _properties(item).items()}
        store.structures.update_one({"_id": row["_id"]}, {"$set": change})


def _renewed(entry: Row, row_id: str, key: str, ref: SourceRef) -> Row:
    if row_id == key:
        return _source(ref).model_dump(exclude_none=True)
    return {**entry, "superseded_by": key}


def _is_current(entry: Row) -> bool:
    return "superseded_by" not in entry


def load_structures(store: Store, ids: Iterable[str]) -> dict[str, StructureDocument]:
    """Structures by id, those that exist."""
    return {
        row["_id"]: StructureDocument.from_mongo(row) for row in find_by_ids(store.structures, ids)
    }


def get_structure(store: Store, name: str) -> StructureDocument:
    """The structure of an id: ours (or its first 6 digits and more), or that of any source.

    Materials Project ids are found in every spelling and by every alias; a structure that its
    source replaced is found by its id only where nothing took its place.

    Raises:
        QueryError: none, or several different ones, by that id.
    """
    row = store.structures.find_one({"_id": name})
    if row is not None:
        return StructureDocument.from_mongo(row)
    rows = _by_source_id(store, name)
    if not rows and 6 <= len(name) < 32 and set(name) <= set("0123456789abcdef"):
        rows = list(store.structures.find({"_id": {"$gte": name, "$lt": name + "g"}}).limit(2))
    if not rows:
        raise QueryError(
            f"no structure {name!r} in the database: give a structure id or an id of its source "
            "(voltscreen results query prints both)"
        )
    if len(rows) > 1:
        found = ", ".join(str(row["_id"]) for row in rows)
        raise QueryError(f"{name!r} names several structures ({found}): give one of these ids")
    return StructureDocument.from_mongo(rows[0])


def _by_source_id(store: Store, name: str) -> list[Row]:
    """Structures that any source calls so, at most two; an id goes before an alias."""
    spellings = list(dict.fromkeys((name, plain_id(name))))
    for field in ("id", "aliases"):
        # Replaced ones are few, so that the first ten decide.
        found = list(store.structures.find({f"sources.{field}": {"$in": spellings}}).limit(10))
        current = [row for row in found if _calls_it_so(row, field, set(spellings))]
        if found:
            return (current or found)[:2]
    return []


def _calls_it_so(row: Row, field: str, spellings: set[str]) -> bool:
    return any(
        _is_current(entry) and spellings & set(_listed(entry.get(field)))
        for entry in row["sources"]
    )


def _listed(value: Any) -> list[str]:
    return value if isinstance(value, list) else [value]


def unpack(document: StructureDocument) -> PackedStructure:
    """The arrays of a stored structure.

    Raises:
        StructureError: it was refused when it was read; the message is why.
    """
    if document.packed is None:
        raise StructureError(document.refused or "the structure has no arrays")
    return PackedStructure.from_bytes(document.packed)
