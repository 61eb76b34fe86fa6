"""Labelled electrodes: hosts, working ions and average voltages to learn from.

Three layouts are read: the tables `electrodes.csv` and `electrode_hosts.parquet` (`shared`),
the Materials Project's insertion-electrode documents as JSON lines (`mp`), and the training set
that `write_dataset` makes of either: one Parquet file that says what was left out of it and
whose hash is checked when it is read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from voltscreen import __version__
from voltscreen.errors import FileFormatError, VoltscreenError
from voltscreen.structures import PackedStructure
from voltscreen.train.electrode_files import FOLD_NAMES, Layout, read_electrodes
from voltscreen.train.electrode_table import AppliedFilter, ElectrodeTable
from voltscreen.train.filters import filtered

DATASET_FORMAT = "voltscreen-electrodes-1"
"""Name and version of the Parquet layout; a change of columns or of the hash is a new one."""
ATTRIBUTION = (
    "Materials Project (CC BY 4.0), A. Jain et al., APL Materials 1, 011002 (2013), "
    "doi:10.1063/1.4812323"
)


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
    return _labelled(filtered(_read(path, layout), filters), path)


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

    table = filtered(_read(source, layout), filters)
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


def _read(path: Path, layout: Layout | None) -> ElectrodeTable:
    return _read_dataset(path) if path.suffix == ".parquet" else read_electrodes(path, layout)


def _read_dataset(path: Path) -> ElectrodeTable:
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
        table = ElectrodeTable(rows, hosts, filters)
        content = _labelled(table, path).sha256
    except (OSError, KeyError, TypeError, ValueError, pa.ArrowException, VoltscreenError) as error:
        raise FileFormatError(f"cannot read the training set {path}: {error}") from None
    if content != metadata["sha256"]:
        raise FileFormatError(
            f"{path} is damaged or was edited: its content does not have the sha256 it names"
        )
    return table


def _labelled(table: ElectrodeTable, path: Path) -> LabelledElectrodes:
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
