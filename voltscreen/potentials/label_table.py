"""Tables of labels by a potential: columns, and reading and joining the files that hold them."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from voltscreen.errors import FileFormatError
from voltscreen.potentials.insertion import HostLabels
from voltscreen.potentials.short_look import SHORT_LOOK_NUMBERS, ShortLook
from voltscreen.potentials.topotactic import TopotacticLabels

PART_PATTERN = "labels-*.parquet"

ION_COLUMNS = ("insertion_energy", "ion_site_energy", "host_shift", "moment_change")


class LabelKind(StrEnum):
    """What a table holds."""

    INSERTION = "insertion"
    """Of hosts: the energy of one ion in the largest void."""
    TOPOTACTIC = "topotactic"
    """Of structures that hold ions: the voltage against themselves without them."""
    RELAXED = "relaxed"
    """Of hosts: one ion in the largest void, and the first steps of its relaxation."""


SCHEMAS = {
    LabelKind.INSERTION: pa.schema(
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
    ),
    LabelKind.TOPOTACTIC: pa.schema(
        [
            ("host_id", pa.string()),
            ("n_atoms", pa.int32()),  # of the structure with its ions
            ("energy", pa.float64()),  # eV, of the same
            ("ions", pa.list_(pa.string())),  # the next three have a number for each
            ("count", pa.list_(pa.int32())),  # of ions taken out
            ("host_energy", pa.list_(pa.float64())),  # eV, of what is left
            ("voltage", pa.list_(pa.float32())),  # V
            ("error", pa.string()),  # why the structure, or an ion of it, has no label, or null
        ]
    ),
    LabelKind.RELAXED: pa.schema(
        [
            ("host_id", pa.string()),
            ("removed", pa.string()),  # element taken out of the structure of that id, or null
            ("n_atoms", pa.int32()),  # of the host
            ("ions", pa.list_(pa.string())),  # the next columns have an entry for each
            ("energies", pa.list_(pa.list_(pa.float32()))),  # eV, at each force evaluation
            ("ion_force", pa.list_(pa.float32())),  # eV/angstrom
            ("host_force", pa.list_(pa.float32())),  # eV/angstrom
            ("pressure", pa.list_(pa.float32())),  # eV/angstrom^3
            ("volume_change", pa.list_(pa.float32())),  # relative
            ("shift", pa.list_(pa.float32())),  # angstrom
            ("end_force", pa.list_(pa.float32())),  # eV/angstrom
            ("error", pa.string()),  # why the host, or an ion in it, has no label, or null
        ]
    ),
}


def table_of(rows: Sequence[dict[str, object]], kind: LabelKind) -> pa.Table:
    """Rows of jobs of one kind as a table."""
    return pa.Table.from_pylist(list(rows), schema=SCHEMAS[kind])


def insertion_row(labels: HostLabels) -> dict[str, object]:
    """What the table says of a host that could be computed."""
    return {
        "site": labels.site.frac_coords.tolist(),
        "clearance": labels.site.clearance,
        "distance": labels.site.distance,
        "host_energy": labels.energy,
        "moments": labels.moments.astype(np.float16),
        "crystal": labels.crystal.astype(np.float16),
        "ions": [label.ion for label in labels.ions],
        **{name: [getattr(label, name) for label in labels.ions] for name in ION_COLUMNS},
    }


def topotactic_row(labels: TopotacticLabels) -> dict[str, object]:
    """What the table says of a structure that could be computed, of some of its ions at least."""
    return {
        "energy": labels.energy,
        "ions": [label.ion for label in labels.ions],
        "count": [label.count for label in labels.ions],
        "host_energy": [label.host_energy for label in labels.ions],
        "voltage": [label.voltage for label in labels.ions],
        "error": "; ".join(f"{reason}: without {ion}" for ion, reason in labels.failed.items())
        or None,
    }


def short_look_row(looks: Sequence[ShortLook]) -> dict[str, object]:
    """What the table says of a host that a short look was taken at."""
    return {
        "ions": [look.ion for look in looks],
        "energies": [list(look.energies) for look in looks],
        **{name: [getattr(look, name) for look in looks] for name in SHORT_LOOK_NUMBERS},
        "error": "; ".join(f"{look.failure}: with {look.ion}" for look in looks if look.failure)
        or None,
    }


def failed_row(error: str) -> dict[str, object]:
    """What the table says of a structure that could not be computed."""
    return {"error": error}


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
        if not any(file.schema_arrow.equals(schema) for schema in SCHEMAS.values()):
            raise FileFormatError(f"{path} holds no labels: other columns")
        return file.read(columns=None if columns is None else list(columns))
