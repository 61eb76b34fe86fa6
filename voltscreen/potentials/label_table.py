"""The table of insertion labels: its columns, and reading and joining the files that hold it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from voltscreen.errors import FileFormatError
from voltscreen.potentials.insertion import HostLabels

PART_PATTERN = "labels-*.parquet"

_SCHEMA = pa.schema(
    [
        ("host_id", pa.string()),
        ("removed", pa.string()),  # element taken out of the structure of that id, or null
        ("n_atoms", pa.int32()),  # of the host
        ("site", pa.list_(pa.float32())),  # (3,) fractional
        ("clearance", pa.float32()),  # angstrom
        ("distance", pa.float32()),  # angstrom
        ("host_energy", pa.float64()),  # eV
        ("moments", pa.list_(pa.float16())),  # (n_atoms,) Bohr magneton
        ("crystal", pa.list_(pa.float16())),  # (64,)
        ("ions", pa.list_(pa.string())),  # the next four have a number for each
        ("insertion_energy", pa.list_(pa.float32())),  # eV
        ("ion_site_energy", pa.list_(pa.float32())),  # eV
        ("host_shift", pa.list_(pa.float32())),  # eV
        ("moment_change", pa.list_(pa.float32())),  # Bohr magneton
        ("error", pa.string()),  # why the host has no labels, or null
    ]
)
ION_COLUMNS = ("insertion_energy", "ion_site_energy", "host_shift", "moment_change")


def table_of(rows: Sequence[dict[str, object]]) -> pa.Table:
    """Rows from `labelled_row` and `failed_row` as a table."""
    return pa.Table.from_pylist(list(rows), schema=_SCHEMA)


def labelled_row(
    host_id: str, removed: str | None, n_atoms: int, labels: HostLabels
) -> dict[str, object]:
    """The row of a host that could be computed."""
    return {
        "host_id": host_id,
        "removed": removed,
        "n_atoms": n_atoms,
        "site": labels.site.frac_coords.tolist(),
        "clearance": labels.site.clearance,
        "distance": labels.site.distance,
        "host_energy": labels.energy,
        "moments": labels.moments.astype(np.float16),
        "crystal": labels.crystal.astype(np.float16),
        "ions": [label.ion for label in labels.ions],
        **{name: [getattr(label, name) for label in labels.ions] for name in ION_COLUMNS},
    }


def failed_row(host_id: str, removed: str | None, n_atoms: int, error: str) -> dict[str, object]:
    """The row of a host that could not be computed, with the reason."""
    return {"host_id": host_id, "removed": removed, "n_atoms": n_atoms, "error": error}


def write_labels(table: pa.Table, path: Path) -> None:
    """Write a table whole or not at all."""
    unfinished = path.with_name(path.name + ".part")
    pq.write_table(table, unfinished, compression="zstd", compression_level=9)
    unfinished.replace(path)


def read_labels(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """The labels of a folder, in the order of its batches, or of one merged file.

    Args:
        columns: only these; all by default.

    Raises:
        FileFormatError: nothing there, or no table of labels.
    """
    parts = sorted(path.glob(PART_PATTERN)) if path.is_dir() else [path]
    if not parts:
        raise FileFormatError(f"{path} holds no labels yet: run voltscreen refine label")
    return pa.concat_tables([_read(part, columns) for part in parts])


def merge_labels(folder: Path, path: Path) -> int:
    """Write all labels of a folder into one file; returns the number of hosts.

    Raises:
        FileFormatError: the folder holds no labels.
    """
    table = read_labels(folder)
    write_labels(table, path)
    return int(table.num_rows)


def _read(path: Path, columns: Sequence[str] | None) -> pa.Table:
    try:
        file = pq.ParquetFile(path)
    except OSError as error:
        raise FileFormatError(f"cannot read {path}: {error.strerror or error}") from None
    except pa.ArrowException as error:
        raise FileFormatError(f"{path} is not a Parquet file: {error}") from None
    with file:
        if not file.schema_arrow.equals(_SCHEMA):
            raise FileFormatError(f"{path} holds no insertion labels: other columns")
        return file.read(columns=None if columns is None else list(columns))
