"""Labelled electrodes: hosts, working ions and average voltages to learn from.

Three layouts are read: the tables `electrodes.csv` and `electrode_hosts.parquet` (`shared`),
the Materials Project's insertion-electrode documents as JSON lines (`mp`), and the training set
that `write_dataset` makes of either: one Parquet file that says what was left out of it and
whose hash is checked when it is read.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from voltscreen import __version__
from voltscreen.errors import FileFormatError, StructureError, VoltscreenError
from voltscreen.ions import WORKING_IONS
from voltscreen.structures import PackedStructure
from voltscreen.structures.plain_dict import from_plain_dict

if TYPE_CHECKING:
    import pandas as pd

ELECTRODES_FILE = "electrodes.csv"
HOSTS_FILE = "electrode_hosts.parquet"
FOLDS_FILE = "folds.csv"
DOCUMENTS_FILE = "insertion_electrodes.jsonl"
STRUCTURES_FILE = "structures.jsonl"

DATASET_FORMAT = "voltscreen-electrodes-1"
"""Name and version of the Parquet layout; a change of columns or of the hash is a new one."""
LAST_NUMERIC_ID = 3347529
"""The Materials Project's last id written as a number."""
FOLD_NAMES = ("grouped", "random")
ATTRIBUTION = (
    "Materials Project (CC BY 4.0), A. Jain et al., APL Materials 1, 011002 (2013), "
    "doi:10.1063/1.4812323"
)

TRIM_WIDTH = {"Li": 2.0, "Mg": 2.0, "Ca": 2.0, "Zn": 2.0, "Na": 1.5}
"""By ion, the standard deviations around the mean within which the paper kept its labels."""
VOLTAGE_WINDOW = (-1.0, 6.0)
"""Volt; what lies outside is a calculation that failed more often than an electrode."""
LARGEST_DISAGREEMENT = 1.0
"""Volt between two labels of one host and ion."""
LARGEST_VOLUME_CHANGE = 1.0
"""Of max / min - 1: beyond it the host more than doubles, which is alloying, no insertion."""


class Layout(StrEnum):
    """How labelled electrodes are laid out in files."""

    SHARED = "shared"
    """A folder with electrodes.csv, electrode_hosts.parquet and, if there, folds.csv."""
    MP = "mp"
    """Insertion-electrode documents as JSON lines, charged structures beside them."""


@dataclass(frozen=True, slots=True)
class AppliedFilter:
    """What was left out of a data set: name and rule, rows before it and rows removed."""

    name: str
    rule: str
    rows: int
    removed: int


@dataclass(frozen=True, eq=False)
class LabelledElectrodes:
    """Rows of (host, ion, voltage). r rows, h hosts.

    hosts: h structures in their charged state, as labelled (some keep part of the ion).
    host_of_row: (r,) int64, index into hosts.
    ion: (r,) str. voltage: (r,) float64, volt.
    group: (r,) str, chemical system of the host without the row's working ion: rows of one
        group are never split between training and test, whatever their ion.
    paper_prediction: (r,) float64, volt, what the paper's own model printed; NaN where absent.
    folds: by split name, (r,) int64 fold of each row.
    row_id: (r,) str, the electrode's battery_id; numbered where none is given.
    multi_step: (r,) bool, whether the voltage is an average over several plateaus.
    provenance: (r,) str, file and database id of the label, then of the host's structure.
    filters: what was left out, in the order applied.
    host_ids: h ids of the hosts in their source; numbered where none is given.
    """

    hosts: list[PackedStructure]
    host_of_row: NDArray[np.int64]
    ion: NDArray[np.str_]
    voltage: NDArray[np.float64]
    group: NDArray[np.str_]
    paper_prediction: NDArray[np.float64]
    folds: dict[str, NDArray[np.int64]]
    row_id: NDArray[np.str_] = field(default_factory=lambda: np.zeros(0, np.str_))
    multi_step: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, np.bool_))
    provenance: NDArray[np.str_] = field(default_factory=lambda: np.zeros(0, np.str_))
    filters: list[AppliedFilter] = field(default_factory=list)
    host_ids: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        rows = len(self)
        for name, default in (
            ("row_id", np.arange(rows).astype(np.str_)),
            ("multi_step", np.zeros(rows, np.bool_)),
            ("provenance", np.full(rows, "")),
            ("host_ids", [str(index) for index in range(len(self.hosts))]),
        ):
            if len(getattr(self, name)) == 0:
                object.__setattr__(self, name, default)

    def __len__(self) -> int:
        return len(self.voltage)

    def rows_of(self, ion: str) -> NDArray[np.int64]:
        """Indices of the rows with this working ion."""
        return np.flatnonzero(self.ion == ion)

    @cached_property
    def ion_left(self) -> NDArray[np.float64]:
        """(r,) float64: share of the row's working ion among the atoms of its host, 0 to 1."""
        return np.array(
            [
                self.hosts[host].element_counts.get(symbol, 0) / len(self.hosts[host])
                for host, symbol in zip(self.host_of_row, self.ion, strict=True)
            ]
        )

    @cached_property
    def sha256(self) -> str:
        """Hex digest of id, ion, voltage, steps and host of every row, in order."""
        digest = hashlib.sha256(DATASET_FORMAT.encode())
        packed = [host.to_bytes() for host in self.hosts]
        for row in range(len(self)):
            digest.update(f"{self.row_id[row]} {self.ion[row]} {self.multi_step[row]:d}".encode())
            digest.update(self.voltage[row].astype("<f8").tobytes())
            digest.update(packed[self.host_of_row[row]])
        return digest.hexdigest()


def load_electrodes(
    path: Path, filters: Sequence[str] = (), layout: Layout | None = None
) -> LabelledElectrodes:
    """Labelled electrodes of a folder, of a `.jsonl` file, or of a `.parquet` training set.

    Where no folds are stored, five random and five grouped ones are drawn with a fixed seed.

    Args:
        path: folder or file. filters: names of `FILTERS`; they are applied in the order of
        `FILTERS`, whatever the order given. layout: told from the files when None.

    Raises:
        FileFormatError: a file or column is missing, an electrode names an unknown host, the
            hash of a training set does not fit its content, or no row is left.
        VoltscreenError: an unknown filter, or one that was applied before.
    """
    return _labelled(_filtered(_read(path, layout), filters), path)


def write_dataset(
    source: Path, output: Path, filters: Sequence[str] = (), layout: Layout | None = None
) -> LabelledElectrodes:
    """Write the training set of a source as one Parquet file, and return what it holds.

    One row an electrode, its host as `PackedStructure.to_bytes`; format, sha256, filters with
    counts, attribution and voltscreen's version stand in the schema's metadata.

    Raises:
        FileFormatError, VoltscreenError: as for `load_electrodes`.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = _filtered(_read(source, layout), filters)
    data = _labelled(table, source)
    rows = table.rows.assign(
        host=[table.hosts[host_id].to_bytes() for host_id in table.rows["host_id"]],
        **{f"fold_{name}": fold for name, fold in data.folds.items()},
    )
    metadata = {
        "format": DATASET_FORMAT,
        "sha256": data.sha256,
        "filters": json.dumps([asdict(applied) for applied in data.filters]),
        "attribution": ATTRIBUTION,
        "voltscreen_version": __version__,
    }
    written = pa.Table.from_pandas(rows, preserve_index=False).replace_schema_metadata(metadata)
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = output.with_name(output.name + ".part")
    pq.write_table(written, partial, compression="zstd")
    partial.replace(output)
    return data


@dataclass(frozen=True, eq=False)
class _Table:
    """What every layout is read into.

    rows: row_id, ion, voltage (V), host_id, provenance, multi_step, paper_prediction (V),
        capacity_grav (mAh/g), max_delta_volume (max / min - 1), formula_charge,
        formula_discharge, and fold_random, fold_grouped where stored; NaN for what is unknown.
    hosts: by host_id. filters: what was left out so far.
    """

    rows: pd.DataFrame
    hosts: dict[str, PackedStructure]
    filters: list[AppliedFilter]


# Filters -----------------------------------------------------------------------------------

_Keep = Callable[[_Table], NDArray[np.bool_]]


@dataclass(frozen=True, slots=True)
class _Filter:
    """rule: in words, for the record. keep: (r,) bool, the rows that stay."""

    rule: str
    keep: _Keep


def _within_paper_trim(table: _Table) -> NDArray[np.bool_]:
    by_ion = table.rows.groupby("ion")["voltage"]
    width = table.rows["ion"].map(TRIM_WIDTH).fillna(np.inf) * by_ion.transform("std")
    off = (table.rows["voltage"] - by_ion.transform("mean")).abs()
    # An ion with one row has no standard deviation.
    return np.asarray((off <= width) | width.isna())


def _within_window(table: _Table) -> NDArray[np.bool_]:
    return np.asarray(table.rows["voltage"].between(*VOLTAGE_WINDOW))


def _consistent(table: _Table) -> NDArray[np.bool_]:
    rows = table.rows
    content = rows["host_id"].map({key: host.content_hash for key, host in table.hosts.items()})
    by_host = rows["voltage"].groupby([content, rows["ion"]])
    agree = by_host.transform("max") - by_host.transform("min") <= LARGEST_DISAGREEMENT
    change = rows["max_delta_volume"]
    inserted = [
        _inserts(*formulas)
        for formulas in zip(
            rows["formula_charge"], rows["formula_discharge"], rows["ion"], strict=True
        )
    ]
    # Comparisons with NaN are false: what is unknown contradicts nothing.
    wrong = (rows["capacity_grav"] <= 0) | (change < 0) | (change > LARGEST_VOLUME_CHANGE)
    return np.asarray(agree & ~wrong & np.array(inserted))


def _inserts(charged: object, discharged: object, ion: str) -> bool:
    """Whether the reaction adds the ion and keeps the rest; True where a formula is unknown."""
    from pymatgen.core import Composition

    if not (isinstance(charged, str) and isinstance(discharged, str)):
        return True
    before, after = Composition(charged), Composition(discharged)
    frameworks = [
        Composition({element: n for element, n in formula.items() if element.symbol != ion})
        for formula in (before, after)
    ]
    same = len({framework.reduced_composition for framework in frameworks}) == 1
    return bool(same and after.get_atomic_fraction(ion) > before.get_atomic_fraction(ion))


def _one_step(table: _Table) -> NDArray[np.bool_]:
    return np.asarray(~table.rows["multi_step"].astype(bool))


FILTERS: dict[str, _Filter] = {
    "paper_trim": _Filter(
        "voltages within mean +- 2 sd of Li, Mg, Ca, Zn and mean +- 1.5 sd of Na, others all",
        _within_paper_trim,
    ),
    "outliers": _Filter("voltages from -1 to 6 V", _within_window),
    "inconsistent": _Filter(
        "labels of one host and ion at most 1 V apart, capacity above 0, volume change from 0 to "
        "1 (max / min - 1), a reaction that adds the ion and keeps the rest",
        _consistent,
    ),
    "multi_step": _Filter("electrodes with one voltage step", _one_step),
}
"""What may be left out of a training set, by name, in the order applied."""


def _filtered(table: _Table, names: Sequence[str]) -> _Table:
    unknown = sorted(set(names) - set(FILTERS))
    if unknown:
        raise VoltscreenError(f"unknown filter {unknown[0]!r}: choose from {', '.join(FILTERS)}")
    for name, chosen in FILTERS.items():
        if name not in names:
            continue
        if any(applied.name == name for applied in table.filters):
            raise VoltscreenError(f"the filter {name} was applied to this data set before")
        table = _keep(table, chosen.keep(table), name, chosen.rule)
    return table


def _keep(table: _Table, kept: NDArray[np.bool_], name: str, rule: str) -> _Table:
    applied = AppliedFilter(name, rule, len(kept), int((~kept).sum()))
    rows = table.rows[kept].reset_index(drop=True)
    return _Table(rows, table.hosts, [*table.filters, applied])


# Reading -----------------------------------------------------------------------------------


def _read(path: Path, layout: Layout | None) -> _Table:
    if path.suffix == ".parquet":
        return _read_dataset(path)
    if layout is None:
        documents = path / DOCUMENTS_FILE if path.is_dir() else path
        found = documents.is_file() and not (path / ELECTRODES_FILE).exists()
        layout = Layout.MP if found else Layout.SHARED
    try:
        table = _read_shared(path) if layout is Layout.SHARED else _read_documents(path)
    except (OSError, KeyError, TypeError, ValueError, VoltscreenError) as error:
        raise FileFormatError(f"cannot read labelled electrodes from {path}: {error}") from None
    known = table.rows["ion"].isin(list(WORKING_IONS)).to_numpy()
    return table if known.all() else _keep(table, known, "ion", "the ten working ions")


def _read_shared(folder: Path) -> _Table:
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
    return _Table(pd.DataFrame(columns), hosts, [])


def _read_documents(path: Path) -> _Table:
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
            if (material := _plain_id(line["material_id"])) in wanted:
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
    table = _Table(pd.DataFrame([fields for fields, _ in documents]), hosts, [])
    if len(table.rows) == 0:
        return table
    readable = table.rows["host_id"].isin(list(hosts)) & np.isfinite(table.rows["voltage"])
    if readable.all():
        return table
    return _keep(table, readable.to_numpy(), "unreadable", "a voltage and an ordered host")


def _fields(document: dict[str, Any]) -> tuple[dict[str, Any], object]:
    """The columns of a document, and its host_structure."""
    ion = document["working_ion"]
    ion = ion["element"] if isinstance(ion, dict) else str(ion)
    steps = document.get("num_steps") or len(document.get("adj_pairs") or [])
    fields = {
        "row_id": _plain_id(document.get("battery_id") or _battery_id(document, ion)),
        "ion": ion,
        "voltage": _number(document.get("average_voltage")),
        "id_charge": _plain_id(document["id_charge"]),
        "multi_step": steps > 1,
        "paper_prediction": np.nan,
        "capacity_grav": _number(document.get("capacity_grav")),
        "max_delta_volume": _number(document.get("max_delta_volume")),
        "formula_charge": document.get("formula_charge"),
        "formula_discharge": document.get("formula_discharge"),
    }
    return fields, document.get("host_structure")


def _battery_id(document: dict[str, Any], ion: str) -> str:
    """As the Materials Project forms it: the lowest id of the matching materials, and the ion."""
    ids = [_plain_id(each) for each in document.get("material_ids") or [document["id_charge"]]]
    ids = [each for each in ids if not each.startswith("mvc")] or ids
    return f"{min(ids, key=lambda each: (len(each), each))}_{ion}"


def _plain_id(material_id: object) -> str:
    """A Materials Project id in its older form: `mp-12` for `mp-aaaaaaam` (base 26, a is 0).

    Clients write one material either way; ids above 3347529 have the letters only.
    """
    text = str(material_id)
    letters = re.fullmatch(r"(mp|mvc)-([a-z]+)(_[A-Z][a-z]?)?", text)
    if not letters:
        return text
    number = 0
    for letter in letters[2]:
        number = 26 * number + ord(letter) - ord("a")
    return f"{letters[1]}-{number}{letters[3] or ''}" if number <= LAST_NUMERIC_ID else text


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


def _read_dataset(path: Path) -> _Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        read = pq.read_table(path)
        metadata = {
            key.decode(): text.decode() for key, text in (read.schema.metadata or {}).items()
        }
        if metadata.get("format") != DATASET_FORMAT:
            raise FileFormatError(
                f"its format is {metadata.get('format')}, not {DATASET_FORMAT}: make it again "
                "with `voltscreen model dataset`"
            )
        rows = read.to_pandas()
        hosts = {
            host_id: PackedStructure.from_bytes(packed)
            for host_id, packed in zip(rows["host_id"], rows.pop("host"), strict=True)
        }
        filters = [AppliedFilter(**applied) for applied in json.loads(metadata["filters"])]
        table = _Table(rows, hosts, filters)
        content = _labelled(table, path).sha256
    except (OSError, KeyError, TypeError, ValueError, pa.ArrowException, VoltscreenError) as error:
        raise FileFormatError(f"cannot read the training set {path}: {error}") from None
    if content != metadata["sha256"]:
        raise FileFormatError(
            f"{path} is damaged or was edited: its content does not have the sha256 it names"
        )
    return table


def _labelled(table: _Table, path: Path) -> LabelledElectrodes:
    rows = table.rows
    if len(rows) == 0:
        raise FileFormatError(f"no labelled electrode is left of {path}")
    host_ids = sorted(set(rows["host_id"]))
    position = {host_id: index for index, host_id in enumerate(host_ids)}
    hosts = [table.hosts[host_id] for host_id in host_ids]
    host_of_row = rows["host_id"].map(position).to_numpy(dtype=np.int64)
    ion = rows["ion"].to_numpy(dtype=np.str_)
    group = np.array(
        [
            "-".join(sorted(set(hosts[host].element_counts) - {symbol}))
            for host, symbol in zip(host_of_row, ion, strict=True)
        ]
    )
    stored = {
        name: rows[f"fold_{name}"].to_numpy(dtype=np.int64)
        for name in FOLD_NAMES
        if f"fold_{name}" in rows
    }
    return LabelledElectrodes(
        hosts=hosts,
        host_of_row=host_of_row,
        ion=ion,
        voltage=rows["voltage"].to_numpy(dtype=np.float64),
        group=group,
        paper_prediction=rows["paper_prediction"].to_numpy(dtype=np.float64),
        folds=stored or _drawn_folds(group),
        row_id=rows["row_id"].to_numpy(dtype=np.str_),
        multi_step=rows["multi_step"].to_numpy(dtype=np.bool_),
        provenance=rows["provenance"].to_numpy(dtype=np.str_),
        filters=table.filters,
        host_ids=host_ids,
    )


def _drawn_folds(group: NDArray[np.str_]) -> dict[str, NDArray[np.int64]]:
    """Five folds each, or as many as there are groups; all in fold 0 where that is one."""
    from sklearn.model_selection import GroupKFold, KFold

    folds = {name: np.zeros(len(group), np.int64) for name in FOLD_NAMES}
    n_folds = min(5, len(np.unique(group)))
    if n_folds < 2:
        return folds
    drawn = {
        "grouped": GroupKFold(n_folds).split(group, groups=group),
        "random": KFold(n_folds, shuffle=True, random_state=0).split(group),
    }
    for name, parts in drawn.items():
        for number, (_, test) in enumerate(parts):
            folds[name][test] = number
    return folds
