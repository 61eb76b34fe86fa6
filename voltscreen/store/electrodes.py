"""Known voltages: the Materials Project's insertion electrodes, and the structures they name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pymongo import ReplaceOne

from voltscreen.store.connection import IN_CHUNK, INSERT_CHUNK, Row, Store
from voltscreen.store.documents import (
    ElectrodeDocument,
    ElectrodeEnd,
    KnownVoltage,
    ReleaseDocument,
    StructureDocument,
)

_ENDS = ((ElectrodeEnd.HOST, "charged_id"), (ElectrodeEnd.DISCHARGED, "discharged_id"))


def electrodes_release(store: Store) -> str | None:
    """The release whose electrodes are stored as a whole; None when none is."""
    row = store.releases.find_one({"_id": ElectrodeDocument.collection})
    return None if row is None else str(row["db_version"])


def put_electrodes(store: Store, documents: Sequence[ElectrodeDocument], release: str) -> None:
    """All electrodes of a release in the place of those of another."""
    for start in range(0, len(documents), INSERT_CHUNK):
        rows = [document.to_mongo() for document in documents[start : start + INSERT_CHUNK]]
        store.electrodes.bulk_write(
            [ReplaceOne({"_id": row["_id"]}, row, upsert=True) for row in rows], ordered=False
        )
    store.electrodes.delete_many({"db_version": {"$ne": release}})
    mark = ReleaseDocument(
        id=ElectrodeDocument.collection, db_version=release, count=len(documents)
    ).to_mongo()
    # Last: a download that died before leaves the release unmarked, and is made again.
    store.releases.replace_one({"_id": mark["_id"]}, mark, upsert=True)


def known_voltages(store: Store, ion: str) -> dict[str, KnownVoltage]:
    """By structure id, what is known of this ion in structures that are stored.

    A structure that is an end of several electrodes gets that of which it is the host, then the
    one with the first battery id.
    """
    electrodes = [ElectrodeDocument.from_mongo(row) for row in store.electrodes.find({"ion": ion})]
    electrodes.sort(key=lambda electrode: electrode.id)
    found: dict[str, KnownVoltage] = {}
    for end, name in _ENDS:
        by_id: dict[str, ElectrodeDocument] = {}
        for electrode in electrodes:
            by_id.setdefault(getattr(electrode, name), electrode)
        for key, ids in _structures_called(store, [each for each in by_id if each]):
            named = [by_id[each] for each in ids if each in by_id]
            first = min(named, key=lambda electrode: electrode.id)
            found.setdefault(key, _known(first, end))
    return found


def known_of(store: Store, structure: StructureDocument) -> list[tuple[str, KnownVoltage]]:
    """(ion, what is known) of one structure, by ion."""
    ids = sorted(
        {each for entry in structure.sources for each in (entry.id, *(entry.aliases or ()))}
    )
    found: dict[str, KnownVoltage] = {}
    for end, name in _ENDS:
        for row in store.electrodes.find({name: {"$in": ids}}).sort("_id", 1):
            electrode = ElectrodeDocument.from_mongo(row)
            found.setdefault(electrode.ion, _known(electrode, end))
    return sorted(found.items())


def _known(electrode: ElectrodeDocument, end: ElectrodeEnd) -> KnownVoltage:
    return KnownVoltage(
        battery_id=electrode.id,
        end=end,
        voltage=electrode.voltage,
        capacity=electrode.capacity,
        volume_change=electrode.volume_change,
        stability_charge=electrode.stability_charge,
        stability_discharge=electrode.stability_discharge,
        db_version=electrode.db_version,
    )


def _structures_called(store: Store, ids: list[str]) -> Iterable[tuple[str, list[str]]]:
    """(structure id, its ids and aliases) of the structures that any of the ids names."""
    for start in range(0, len(ids), IN_CHUNK):
        chunk = ids[start : start + IN_CHUNK]
        for field in ("sources.id", "sources.aliases"):
            rows: Iterable[Row] = store.structures.find({field: {"$in": chunk}}, {"sources": 1})
            for row in rows:
                entries = [e for e in row["sources"] if "superseded_by" not in e]
                names = [each for e in entries for each in (e["id"], *e.get("aliases", ()))]
                if set(names) & set(chunk):
                    yield row["_id"], names
