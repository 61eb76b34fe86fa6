"""Known discharged ends of hosts: structures of the database that hold the ion in the framework."""

from __future__ import annotations

from dataclasses import dataclass

from voltscreen.ions import working_ion
from voltscreen.potentials.refinement import same_framework
from voltscreen.store import Store, unpack
from voltscreen.store.documents import StructureDocument
from voltscreen.structures import HostState, PackedStructure, make_host

MOST_COMPARED = 30
"""Structures of one chemical system that a host is compared with."""


@dataclass(frozen=True, eq=False)
class KnownEnd:
    """A structure that is the host with ions in it, and where it is stored."""

    structure_id: str
    structure: PackedStructure


def find_known_end(
    store: Store, document: StructureDocument, host: PackedStructure, ion: str
) -> KnownEnd | None:
    """The discharged end of a host where the database has it.

    The candidate itself if the ion was taken out of it; else the discharged end of a Materials
    Project electrode whose host it is; else, of the structures with the same framework
    (StructureMatcher, the ion left out), the one with most ions, and of those the most stable.
    """
    candidate = unpack(document)
    if make_host(candidate, ion).state is HostState.ION_REMOVED:
        return KnownEnd(document.id, candidate)
    return _of_electrode(store, document, host, ion) or _of_framework(store, host, ion)


def _of_electrode(
    store: Store, document: StructureDocument, host: PackedStructure, ion: str
) -> KnownEnd | None:
    ids = [each for entry in document.sources for each in (entry.id, *(entry.aliases or ()))]
    wanted = {"ion": ion, "charged_id": {"$in": ids}, "discharged_id": {"$exists": True}}
    for row in store.electrodes.find(wanted, {"discharged_id": 1}).sort("_id", 1):
        for field in ("sources.id", "sources.aliases"):
            found = store.structures.find_one({field: row["discharged_id"]})
            end = None if found is None else _end(StructureDocument.from_mongo(found), host, ion)
            if end is not None:
                return end
    return None


def _of_framework(store: Store, host: PackedStructure, ion: str) -> KnownEnd | None:
    elements = sorted({*host.element_counts, ion})
    rows = store.structures.find({"chemsys": "-".join(elements), "packed": {"$exists": True}})
    documents = [StructureDocument.from_mongo(row) for row in rows]
    alike = [one for one in documents if _same_formula(one.element_counts, host, ion)]
    alike.sort(key=lambda one: (-_content(one, ion), _above_hull(one), one.id))
    ends = (_end(one, host, ion) for one in alike[:MOST_COMPARED])
    return next((end for end in ends if end is not None), None)


def _end(document: StructureDocument, host: PackedStructure, ion: str) -> KnownEnd | None:
    if document.packed is None or ion not in document.element_counts:
        return None
    structure = unpack(document)
    if not same_framework(host, structure, working_ion(ion).atomic_number):
        return None
    return KnownEnd(document.id, structure)


def _same_formula(counts: dict[str, int], host: PackedStructure, ion: str) -> bool:
    """Whether the atoms other than the ion stand in the host's ratio."""
    frame = {symbol: n for symbol, n in counts.items() if symbol != ion}
    atoms = sum(frame.values())
    return all(
        frame.get(symbol, 0) * len(host) == n * atoms for symbol, n in host.element_counts.items()
    )


def _content(document: StructureDocument, ion: str) -> float:
    ions = document.element_counts[ion]
    return ions / max(sum(document.element_counts.values()) - ions, 1)


def _above_hull(document: StructureDocument) -> float:
    value = document.properties.get("energy_above_hull")
    return float(value) if isinstance(value, int | float) else float("inf")
