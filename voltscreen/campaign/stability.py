"""Stability of the ends of a second look, against what the database holds of their elements."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import asdict
from itertools import combinations
from typing import TYPE_CHECKING

from voltscreen.errors import StructureError
from voltscreen.ions import ION_SYMBOLS
from voltscreen.potentials.metals import metal_energy
from voltscreen.screening.stability import Phase, hull_distance, missing_elements
from voltscreen.store import Store, unpack
from voltscreen.store.connection import find_by_ids
from voltscreen.store.documents import (
    PotentialEnergyDocument,
    StabilityPart,
    StructureDocument,
)

if TYPE_CHECKING:
    from voltscreen.potentials.chgnet import ChgnetPotential

SOURCES = ("mp", "parquet")
"""Where competing phases come from; files and known hosts are candidates, not competitors."""
ABOVE_HULL = 0.03
"""eV/atom; what its source puts higher than this is no competitor by the potential either."""
MOST_PHASES = 400
MOST_SITES = 80


def end_stability(
    store: Store, elements: Mapping[str, float], energy: float, potential: ChgnetPotential
) -> StabilityPart:
    """Hull distance of an end, or why it is unknown.

    Args:
        elements: atoms by element. energy: eV, of all of them, by the potential.
    """
    phases = competitors(store, sorted(elements), potential)
    if missing := missing_elements(list(elements), phases):
        return StabilityPart(
            unknown=f"the database holds no pure {', '.join(missing)}: ingest competing phases "
            f"with voltscreen ingest mp chemsys={'-'.join(sorted(elements))}",
            phases=len(phases),
        )
    found = hull_distance(Phase(dict(elements), energy), phases)
    fields = asdict(found)
    return StabilityPart(**{**fields, "decomposition": list(found.decomposition)})


def competitors(store: Store, elements: list[str], potential: ChgnetPotential) -> list[Phase]:
    """What the database holds of these elements and no others, with energies by the potential.

    Structures stand as their source relaxed them. Energies are computed once and kept. Metals of
    working ions are always there.
    """
    systems = [
        "-".join(some) for n in range(1, len(elements) + 1) for some in combinations(elements, n)
    ]
    rows = store.structures.find(
        {"chemsys": {"$in": systems}, "sources.source": {"$in": SOURCES},
         "packed": {"$exists": True}, "nsites": {"$lte": MOST_SITES}},
        {"properties.energy_above_hull": 1, "nsites": 1},
    )  # fmt: skip
    near = [
        row
        for row in rows
        if (row.get("properties", {}).get("energy_above_hull") or 0.0) <= ABOVE_HULL
    ]
    near.sort(key=lambda row: (row["nsites"], row["_id"]))
    found = _energies(store, [row["_id"] for row in near[:MOST_PHASES]], potential)
    metals = [symbol for symbol in elements if symbol in ION_SYMBOLS]
    return [*found, *(Phase({symbol: 1}, metal_energy(potential, symbol)) for symbol in metals)]


def _energies(store: Store, ids: list[str], potential: ChgnetPotential) -> list[Phase]:
    collection = store.database[PotentialEnergyDocument.collection]
    keys = {f"{key}:{potential.label}": key for key in ids}
    known = {
        row["_id"]: PotentialEnergyDocument.from_mongo(row) for row in find_by_ids(collection, keys)
    }
    lacking = [key for name, key in keys.items() if name not in known]
    for row in find_by_ids(store.structures, lacking):
        document = StructureDocument.from_mongo(row)
        energy = None
        with contextlib.suppress(StructureError):  # kept without, so that it is not tried again
            energy = potential.energies([unpack(document)])[0]
        new = PotentialEnergyDocument(
            id=f"{document.id}:{potential.label}",
            elements=document.element_counts,
            energy=energy,
        )
        collection.replace_one({"_id": new.id}, new.to_mongo(), upsert=True)
        known[new.id] = new
    return [Phase(one.elements, one.energy) for one in known.values() if one.energy is not None]
