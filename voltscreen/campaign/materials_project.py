"""From the Materials Project into the database: what is stored stays, the rest is fetched."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field

from voltscreen.errors import MaterialsProjectError
from voltscreen.sources.mp import KnownElectrode, Material, MPClient, MPQuery
from voltscreen.sources.mp.client import CHUNK, PARALLEL, known_electrodes
from voltscreen.sources.mp.documents import SOURCE, read_material
from voltscreen.store import Store
from voltscreen.store.documents import ElectrodeDocument
from voltscreen.store.electrodes import electrodes_release, put_electrodes
from voltscreen.store.structures import (
    FLUSH,
    Ingested,
    StoredSource,
    ingest,
    refresh,
    stored_sources,
)

CHUNKS_A_HEARTBEAT = 16
"""Chunks between two looks at the release."""
RELEASES = 3
"""So often a listing is read anew because the release changed."""
KILOBYTES_A_STRUCTURE = 4.0
"""Of an answer, for 20 atoms."""
SECONDS_A_REQUEST = 3.0
"""For an estimate before the first answer."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What an ingest found listed. stored: of these, in the database; wanted: to be fetched."""

    release: str
    listed: int
    stored: int
    wanted: int

    def __str__(self) -> str:
        found = f"Materials Project, release {self.release}: {self.listed:,} structures match"
        if not self.wanted:
            return f"{found}; all are stored."
        return f"{found}, {self.stored:,} are stored. To fetch: {foreseen(self.wanted)}."


def foreseen(structures: int) -> str:
    """What fetching so many structures means, roughly."""
    requests = math.ceil(structures / CHUNK)
    minutes = requests * SECONDS_A_REQUEST / PARALLEL / 60
    size = structures * KILOBYTES_A_STRUCTURE / 1000
    time = "under a minute" if minutes < 1 else f"about {minutes:.0f} min"
    return f"{structures:,} structures, {requests:,} requests, about {size:,.0f} MB, {time}"


@dataclass
class News:
    """What an ingest says of itself while it goes on.

    notices: for the user, when it is over. incomplete: whether something listed did not come.
    """

    notices: list[str] = field(default_factory=list)
    incomplete: bool = False

    def begin(self, plan: Plan) -> None:
        """A listing was read."""

    def say(self, message: str) -> None:
        """Something that takes time."""


def ingest_materials(
    store: Store, client: MPClient, query: MPQuery, news: News, *, renew: bool = False
) -> Iterator[Ingested]:
    """Every material of a query into `structures`, chunk by chunk as they arrive.

    Args:
        renew: fetch also what is stored and has changed since.

    Yields:
        A report for each chunk, first for those that are stored.

    Raises:
        MaterialsProjectError, SettingsError, SpecError: as `MPClient`.
    """
    done: set[str] = set()
    uncertain: set[str] = set()
    for _ in range(RELEASES):
        release = client.release()
        listing = client.listing(query)
        stored = stored_sources(store, SOURCE, listing)
        changed = {key for key, old in stored.items() if _has_changed(old, listing[key])}
        again = uncertain | (changed if renew else set())
        wanted = [key for key in listing if key not in stored or key in again]
        news.begin(Plan(release, len(listing), len(listing) - len(wanted), len(wanted)))
        fetched = set(wanted)
        there = {k: old for k, old in stored.items() if k not in fetched and k not in done}
        yield from _already(list(there.values()))
        done |= set(there)
        uncertain = yield from _fetch(store, client, query, news, wanted, again, release)
        done |= fetched
        if not uncertain:
            break
        now = client.release()
        news.notices.append(
            f"The Materials Project went from release {release} to {now} during the download: "
            f"what was fetched before is of {release}; `voltscreen ingest mp --refresh` with the "
            "same filter fetches what changed."
        )
    else:
        raise MaterialsProjectError(
            f"the Materials Project changed its release {RELEASES} times during the download: what "
            "has come is stored; run the same again when it has settled"
        )
    stale = changed - fetched
    if stale:
        news.notices.append(
            f"{len(stale):,} stored structures have changed in the Materials Project since they "
            "were fetched; `voltscreen ingest mp --refresh` with the same filter fetches them."
        )


def _fetch(
    store: Store,
    client: MPClient,
    query: MPQuery,
    news: News,
    wanted: Sequence[str],
    again: set[str],
    release: str,
) -> Generator[Ingested, None, set[str]]:
    """Fetch and store; returns the ids whose release is uncertain, none when all went well."""
    missing: list[str] = []
    since_heartbeat: set[str] = set()
    chunks = math.ceil(len(wanted) / CHUNK)
    for number, chunk in enumerate(client.materials(wanted, query), start=1):
        read = [read_material(document, release) for document in chunk.documents]
        items = {item.ref.id: item for item in read if item.ref.id in chunk.asked}
        yield from ingest(store, [item for key, item in items.items() if key not in again])
        yield from refresh(store, [item for key, item in items.items() if key in again])
        missing += chunk.missing
        since_heartbeat.update(chunk.asked)
        if number % CHUNKS_A_HEARTBEAT == 0 or number == chunks:
            if client.release() != release:
                return since_heartbeat
            since_heartbeat.clear()
    if missing:
        news.incomplete = True
        named = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
        news.notices.append(
            f"{len(missing):,} structures were listed and did not come ({named}); the same again "
            "asks for them."
        )
    return set()


def _has_changed(old: StoredSource, now: Material) -> bool:
    return now.last_updated is not None and old.updated != now.last_updated


def _already(stored: Sequence[StoredSource]) -> Iterator[Ingested]:
    for start in range(0, len(stored), FLUSH):
        part = stored[start : start + FLUSH]
        ids = tuple(dict.fromkeys(each.structure_id for each in part))
        yield Ingested(ids, new=0, refused=sum(each.refused for each in part))


def ingest_electrodes(store: Store, client: MPClient) -> int:
    """The known voltages of the release that is served; nothing is fetched when they are stored.

    Returns:
        Electrodes stored.
    """
    release = client.release()
    if electrodes_release(store) != release:
        documents = [_electrode(e, release) for e in known_electrodes(client.electrodes())]
        put_electrodes(store, list({each.id: each for each in documents}.values()), release)
    return store.electrodes.count_documents({})


def _electrode(electrode: KnownElectrode, release: str) -> ElectrodeDocument:
    return ElectrodeDocument(
        id=electrode.battery_id,
        ion=electrode.working_ion,
        voltage=electrode.average_voltage,
        charged_id=electrode.id_charge,
        discharged_id=electrode.id_discharge,
        formula_charge=electrode.formula_charge,
        formula_discharge=electrode.formula_discharge,
        capacity=electrode.capacity_grav,
        volume_change=electrode.max_delta_volume,
        stability_charge=electrode.stability_charge,
        stability_discharge=electrode.stability_discharge,
        steps=electrode.num_steps,
        db_version=release,
    )
