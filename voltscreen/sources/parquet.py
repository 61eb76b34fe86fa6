"""Structures from a Parquet table: one row a structure, read in pieces."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from voltscreen.errors import FileFormatError, SpecError, VoltscreenError
from voltscreen.structures import (
    Candidate,
    PackedStructure,
    Refused,
    SourceRef,
    refuse_overlap,
)

if TYPE_CHECKING:
    import pyarrow.parquet

ID_COLUMNS = ("material_id", "structure_id", "id")
ARRAY_COLUMNS = ("lattice", "atomic_numbers", "frac_coords")
IGNORED_COLUMNS = ("formula", "nsites")
"""Derived from the arrays, so not taken over as properties."""
ROWS_AT_ONCE = 1000
NUMBERS_AT_ONCE = 3_000_000
"""Coordinates in memory at once; of rows with many atoms fewer are read together."""
MAX_NUMBERS_A_ROW = 30_000
"""Of one list. A longer one is no structure's, and is refused before it is made into objects."""


class ParquetRows(BaseModel):
    """Which rows of which file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: Path = Field(description="the Parquet file")
    start: int = Field(default=0, ge=0, description="first row, counted from 0")
    limit: int | None = Field(default=None, ge=1, description="number of rows, all by default")


def parse_rows(value: object, base: Path) -> ParquetRows:
    """What a spec holds, a path or {path, start, limit}, with the path made absolute.

    Raises:
        SpecError: anything else.
    """
    try:
        rows = ParquetRows.model_validate({"path": value} if isinstance(value, str) else value)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(("source", "parquet", *(str(part) for part in first["loc"])))
        raise SpecError(f"{key}: {first['msg']} (a path, or path, start and limit)") from None
    return rows.model_copy(update={"path": base / rows.path.expanduser()})


def count_rows(rows: ParquetRows) -> int:
    """Rows that will be read.

    Raises:
        FileFormatError: not a Parquet file.
    """
    left = max(int(_open(rows.path).metadata.num_rows) - rows.start, 0)
    return left if rows.limit is None else min(left, rows.limit)


def read_table(rows: ParquetRows) -> Iterator[Candidate | Refused]:
    """Each row as a candidate; a bad row is refused with the reason.

    Columns: material_id, structure_id or id; lattice (9 numbers, rows a b c, angstrom);
    atomic_numbers; frac_coords (3 a site). Further scalar columns become properties.

    Raises:
        FileFormatError: not a Parquet file, or columns are missing.
    """
    file = _open(rows.path)
    names = file.schema_arrow.names
    id_column = next((name for name in ID_COLUMNS if name in names), None)
    missing = [name for name in ARRAY_COLUMNS if name not in names]
    if id_column is None or missing:
        raise FileFormatError(
            f"{rows.path}: missing columns {', '.join(missing or [' or '.join(ID_COLUMNS)])}"
        )
    skip = {id_column, *ARRAY_COLUMNS, *IGNORED_COLUMNS}
    properties = [name for name in names if name not in skip]
    position, end = 0, None if rows.limit is None else rows.start + rows.limit
    for batch in _batches(file, rows.path):
        first, last = position, position + batch.num_rows
        position = last
        if last <= rows.start:
            continue
        if end is not None and first >= end:
            return
        low, high = max(rows.start - first, 0), min(last, end or last) - first
        yield from _candidates(batch.slice(low, high - low), id_column, properties)


def _batches(file: pyarrow.parquet.ParquetFile, path: Path) -> Iterator[pyarrow.RecordBatch]:
    import pyarrow as pa

    try:
        yield from file.iter_batches(batch_size=_rows_at_once(file, path))
    except (pa.ArrowException, OSError) as error:
        raise FileFormatError(f"{path} is damaged: {error}") from None


def _candidates(
    batch: pyarrow.RecordBatch, id_column: str, properties: list[str]
) -> Iterator[Candidate | Refused]:
    large = _too_large(batch)
    if not large:
        for row in batch.to_pylist():
            yield _candidate(row, id_column, properties)
        return
    for index in range(batch.num_rows):
        row = batch.slice(index, 1)
        if index in large:
            ref = SourceRef("parquet", str(row.column(id_column)[0]))
            yield Refused(ref, f"too many atoms: a list of {large[index]} numbers in the row")
        else:
            yield _candidate(row.to_pylist()[0], id_column, properties)


def _rows_at_once(file: pyarrow.parquet.ParquetFile, path: Path) -> int:
    """Rows that are read together, fewer where they are large.

    A short file can hold long lists of one number: it is counted, not measured.
    """
    most = 1.0
    for group in range(file.metadata.num_row_groups):
        held = file.metadata.row_group(group)
        if not held.num_rows:
            continue
        for column in range(held.num_columns):
            most = max(most, held.column(column).num_values / held.num_rows)
    if most > MAX_NUMBERS_A_ROW:
        raise FileFormatError(
            f"too many atoms: the rows of {path} hold {most:.0f} numbers each on average"
        )
    return max(min(ROWS_AT_ONCE, int(NUMBERS_AT_ONCE / most)), 1)


def _too_large(batch: pyarrow.RecordBatch) -> dict[int, int]:
    """Rows with a list that is longer than a structure's can be, and its length."""
    import pyarrow.types
    from pyarrow import compute

    found: dict[int, int] = {}
    for column in batch.columns:
        if pyarrow.types.is_list(column.type) or pyarrow.types.is_large_list(column.type):
            lengths = compute.list_value_length(column).fill_null(0).to_numpy(zero_copy_only=False)
            for index in (lengths > MAX_NUMBERS_A_ROW).nonzero()[0]:
                found[int(index)] = int(lengths[index])
    return found


def _open(path: Path) -> pyarrow.parquet.ParquetFile:
    import pyarrow as pa
    import pyarrow.parquet

    try:
        return pyarrow.parquet.ParquetFile(path)
    except OSError as error:
        raise FileFormatError(f"cannot read {path}: {error.strerror or error}") from None
    except pa.ArrowException as error:
        raise FileFormatError(f"{path} is not a Parquet file: {error}") from None


def _candidate(row: dict[str, Any], id_column: str, properties: list[str]) -> Candidate | Refused:
    ref = SourceRef("parquet", str(row[id_column]))
    try:
        packed = PackedStructure.from_arrays(
            row["lattice"], row["frac_coords"], row["atomic_numbers"]
        )
        refuse_overlap(packed)
    except VoltscreenError as error:
        return Refused(ref, str(error))
    scalars = {name: row[name] for name in properties if isinstance(row[name], int | float | str)}
    return Candidate(packed, ref, properties=scalars)
