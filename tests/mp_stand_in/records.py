"""What the stand-in serves: real structures where the shared data are, generated ones elsewhere."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tests.model.helpers import random_crystal
from voltscreen.structures import PackedStructure

Document = dict[str, Any]
UPDATED = "2025-01-07T12:00:00"
METALS = (22, 23, 24, 25, 26, 27, 28, 29, 40, 41)


def material(material_id: str, crystal: PackedStructure, **fields: Any) -> Document:
    """A summary document; the numbers follow from the id, unless they are given."""
    draw = zlib.crc32(material_id.encode())
    symbols = sorted(crystal.element_counts)
    hull = draw % 1000 / 5000
    return {
        "material_id": material_id,
        "task_ids": [material_id],
        "structure": _structure(crystal),
        "elements": symbols,
        "nelements": len(symbols),
        "nsites": len(crystal),
        "formula_pretty": crystal.formula,
        "volume": crystal.volume,
        "density": 4.0,
        "energy_above_hull": hull,
        "formation_energy_per_atom": -1.0 - draw % 7 / 10,
        "band_gap": draw % 50 / 10,
        "is_stable": hull == 0,
        "is_metal": draw % 50 == 0,
        "theoretical": bool(draw % 2),
        "deprecated": False,
        "last_updated": UPDATED,
        **fields,
    }


def _structure(crystal: PackedStructure) -> Document:
    """pymatgen's dictionary in short; made by hand, because thousands are."""
    return {
        "@module": "pymatgen.core.structure",
        "@class": "Structure",
        "charge": 0,
        "lattice": {"matrix": crystal.lattice.tolist(), "pbc": [True, True, True]},
        "sites": [
            {"species": [{"element": symbol, "occu": 1}], "abc": abc, "properties": {}}
            for symbol, abc in zip(crystal.symbols, crystal.frac_coords.tolist(), strict=True)
        ],
    }


def generated(count: int) -> list[Document]:
    """So many oxides."""
    return [material(f"mp-{1000 + i}", oxide(i)) for i in range(count)]


def oxide(seed: int) -> PackedStructure:
    """A metal and an O at least, at random places."""
    metal = METALS[seed % len(METALS)]
    crystal = random_crystal(seed, 5, (8, metal))
    numbers = [metal, 8, *crystal.atomic_numbers[2:]]
    return PackedStructure.from_arrays(crystal.lattice, crystal.frac_coords, numbers)


def electrode(row: Document, **fields: Any) -> Document:
    """An insertion-electrode document from a row of the columns of `electrodes.csv`."""
    number = row["battery_id"].split("_")[0]
    return {
        "working_ion": row["working_ion"],
        "average_voltage": row["average_voltage"],
        "id_charge": row["charged_id"],
        "id_discharge": row["discharged_id"],
        "formula_charge": row["formula_charge"],
        "formula_discharge": row["formula_discharge"],
        "capacity_grav": row.get("capacity_grav"),
        "max_delta_volume": row.get("max_delta_volume"),
        "stability_charge": row.get("stability_charge"),
        "stability_discharge": row.get("stability_discharge"),
        "num_steps": 2 if row.get("multi_step") else 1,
        "material_ids": [number],
        "host_structure": None,
        "battery_id": row["battery_id"],
        **fields,
    }


def structures_of(path: Path, ids: Iterable[str] | None = None, limit: int | None = None):
    """(id, structure) of a Parquet table, those of these ids or the first ones."""
    import pandas as pd

    table = pd.read_parquet(path)
    column = "material_id" if "material_id" in table else "structure_id"
    if ids is not None:
        table = table[table[column].isin(set(ids))]
    for row in table.head(limit if limit is not None else len(table)).itertuples():
        yield (
            getattr(row, column),
            PackedStructure.from_arrays(row.lattice, row.frac_coords, row.atomic_numbers),
        )


def real_materials(folder: Path, limit: int) -> list[Document]:
    """The first structures of the pool with an O and a transition metal, and their energies."""
    import pandas as pd
    import pyarrow.parquet as pq

    numbers = pq.read_table(
        folder / "mp_pool.parquet", columns=["material_id", "atomic_numbers"]
    ).to_pandas()
    oxide = [
        8 in set(z) and bool(set(z) & set(METALS)) and len(z) <= 24
        for z in numbers["atomic_numbers"]
    ]
    ids = list(numbers["material_id"][oxide][:limit])
    known = pd.read_csv(folder / "mp_stability_2020.csv").set_index("material_id")
    return [
        material(key, crystal, **_energies(known, key))
        for key, crystal in structures_of(folder / "mp_pool.parquet", ids)
    ]


def _energies(known: Any, key: str) -> Document:
    if key not in known.index:
        return {}
    row = known.loc[key]
    hull = max(float(row["e_above_hull"]), 0.0)
    return {
        "energy_above_hull": hull,
        "is_stable": hull == 0,
        "band_gap": float(row["band_gap"]),
        "formation_energy_per_atom": float(row["formation_energy_per_atom"]),
    }


def real_electrodes(folder: Path) -> list[Document]:
    """All rows of the label table as documents."""
    import pandas as pd

    rows = pd.read_csv(folder / "electrodes.csv")
    rows = rows.astype(object).where(rows.notna(), None)
    return [electrode(row) for row in rows.to_dict("records")]


def host_materials(folder: Path, electrodes: Sequence[Document]) -> list[Document]:
    """The charged structures of the electrodes as summary documents."""
    ids = {doc["id_charge"] for doc in electrodes}
    return [
        material(key, crystal)
        for key, crystal in structures_of(folder / "electrode_hosts.parquet", ids)
    ]
