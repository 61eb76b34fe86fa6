"""Files of labelled electrodes as others lay them out, read into one table."""

from __future__ import annotations

import json
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np

from voltscreen.errors import FileFormatError, StructureError, VoltscreenError
from voltscreen.ions import WORKING_IONS
from voltscreen.structures import PackedStructure
from voltscreen.structures.mp_ids import battery_id, plain_battery_id, plain_id
from voltscreen.structures.plain_dict import from_plain_dict
from voltscreen.train.electrode_table import ElectrodeTable

ELECTRODES_FILE = "electrodes.csv"
HOSTS_FILE = "electrode_hosts.parquet"
FOLDS_FILE = "folds.csv"
DOCUMENTS_FILE = "insertion_electrodes.jsonl"
STRUCTURES_FILE = "structures.jsonl"
FOLD_NAMES = ("grouped", "random")


class Layout(StrEnum):
    """How labelled electrodes are laid out in files."""

    SHARED = "shared"
    """A folder with electrodes.csv, electrode_hosts.parquet and, if there, folds.csv."""
    MP = "mp"
    """Insertion-electrode documents as JSON lines, charged structures beside them."""


def read_electrodes(path: Path, layout: Layout | None) -> ElectrodeTable:
    """The electrodes of a folder, or of a file of documents.

    Args:
        layout: told from the files when None.

    Raises:
        FileFormatError: a file or column is missing, or a line is not what it should be.
    """
    if layout is None:
        documents = path / DOCUMENTS_FILE if path.is_dir() else path
        found = documents.is_file() and not (path / ELECTRODES_FILE).exists()
        layout = Layout.MP if found else Layout.SHARED
    try:
        table = _read_shared(path) if layout is Layout.SHARED else _read_documents(path)
    except (OSError, KeyError, TypeError, ValueError, VoltscreenError) as error:
        raise FileFormatError(f"cannot read labelled electrodes from {path}: {error}") from None
    known = table.rows["ion"].isin(list(WORKING_IONS)).to_numpy()
    return table if known.all() else table.keep(known, "ion", "the ten working ions")


def _read_shared(folder: Path) -> ElectrodeTable:
    import pandas as pd

    rows = pd.read_csv(folder / ELECTRODES_FILE)
    table = pd.read_parquet(folder / HOSTS_FILE).set_index("structure_id")
    hosts = {
        row.Index: PackedStructure.from_arrays(row.lattice, row.frac_coords, row.atomic_numbers)
        for row in table.loc[sorted(set(rows["charged_id"]))].itertuples()
    }
    label = f"{ELECTRODES_FILE}:" + rows["battery_id"]
    columns: dict[str, object] = {
        "row_id": rows["battery_id"],
        "ion": rows["working_ion"],
        "voltage": rows["average_voltage"],
        "host_id": rows["charged_id"],
        "provenance": label + f" {HOSTS_FILE}:" + rows["charged_id"],
        "multi_step": rows["multi_step"].astype(bool) if "multi_step" in rows else False,
        "paper_prediction": rows.get("paper_pred_voltage", np.nan),
    }
    for name in ("capacity_grav", "max_delta_volume"):
        columns[name] = rows.get(name, np.nan)
    for name in ("formula_charge", "formula_discharge"):
        columns[name] = rows.get(name)
    if (folder / FOLDS_FILE).exists():
        folds = pd.read_csv(folder / FOLDS_FILE).set_index("battery_id").loc[rows["battery_id"]]
        columns |= {f"fold_{name}": folds[f"fold_{name}"].to_numpy() for name in FOLD_NAMES}
    return ElectrodeTable(pd.DataFrame(columns), hosts, [])


def _read_documents(path: Path) -> ElectrodeTable:
    """The Materials Project's layout.

    Fields as in emmet's InsertionElectrodeDoc: working_ion, average_voltage, id_charge,
    formula_charge, formula_discharge, capacity_grav, max_delta_volume, num_steps, battery_id or
    material_ids, host_structure. The charged structure comes from the companion's lines
    {material_id, structure}; without it host_structure is taken, from which the Materials
    Project removed the ion.
    """
    import pandas as pd

    file = path / DOCUMENTS_FILE if path.is_dir() else path
    companion = file.parent / STRUCTURES_FILE
    documents = [_fields(document) for document in _lines(file)]
    wanted = {fields["id_charge"] for fields, _ in documents}
    charged: dict[str, PackedStructure | None] = {}
    if companion.exists():
        for line in _lines(companion):
            if (material := plain_id(line["material_id"])) in wanted:
                charged[material] = _packed(line["structure"])
    hosts: dict[str, PackedStructure] = {}
    for fields, stripped in documents:
        source = f"{companion.name}:{fields['id_charge']}"
        host, host_id = charged.get(fields["id_charge"]), fields["id_charge"]
        if host is None:
            source = f"{file.name}:{fields['row_id']}.host_structure"
            host, host_id = _packed(stripped), f"{fields['row_id']}.host_structure"
        fields["host_id"] = host_id
        fields["provenance"] = f"{file.name}:{fields['row_id']} {source}"
        if host is not None:
            hosts[host_id] = host
    table = ElectrodeTable(pd.DataFrame([fields for fields, _ in documents]), hosts, [])
    if len(table.rows) == 0:
        return table
    readable = table.rows["host_id"].isin(list(hosts)) & np.isfinite(table.rows["voltage"])
    if readable.all():
        return table
    return table.keep(readable.to_numpy(), "unreadable", "a voltage and an ordered host")


def _fields(document: dict[str, Any]) -> tuple[dict[str, Any], object]:
    """The columns of a document, and its host_structure."""
    ion = document["working_ion"]
    ion = ion["element"] if isinstance(ion, dict) else str(ion)
    steps = document.get("num_steps") or len(document.get("adj_pairs") or [])
    materials = [plain_id(each) for each in document.get("material_ids") or [document["id_charge"]]]
    fields = {
        "row_id": plain_battery_id(document.get("battery_id") or battery_id(materials, ion)),
        "ion": ion,
        "voltage": _number(document.get("average_voltage")),
        "id_charge": plain_id(document["id_charge"]),
        "multi_step": steps > 1,
        "paper_prediction": np.nan,
        "capacity_grav": _number(document.get("capacity_grav")),
        "max_delta_volume": _number(document.get("max_delta_volume")),
        "formula_charge": document.get("formula_charge"),
        "formula_discharge": document.get("formula_discharge"),
    }
    return fields, document.get("host_structure")


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else np.nan


def _packed(structure: object) -> PackedStructure | None:
    """A pymatgen dictionary as a packed structure; None for what cannot be one."""
    try:
        return from_plain_dict(structure) if isinstance(structure, dict) else None
    except StructureError:
        return None


def _lines(file: Path) -> Iterator[dict[str, Any]]:
    with file.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                item = json.loads(line)
            except ValueError as error:
                raise FileFormatError(f"{file.name}, line {number}: {error}") from None
            if not isinstance(item, dict):
                raise FileFormatError(f"{file.name}, line {number}: not a JSON object")
            yield item
