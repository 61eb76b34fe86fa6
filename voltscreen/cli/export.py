"""Ranked candidates as files: CSV, JSON, Parquet, CIF."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voltscreen.errors import QueryError

if TYPE_CHECKING:
    import pandas as pd

    from voltscreen.store import ResultRow, Store

Writer = Callable[["Store", Sequence["ResultRow"], Path], Path]


def writer_of(output: Path, *, cif: bool) -> Writer:
    """What writes to this path.

    Raises:
        QueryError: a kind of file that is not known.
    """
    if cif:
        return _write_cifs
    writers: dict[str, Writer] = {
        ".csv": _write_csv,
        ".json": _write_json,
        ".parquet": _write_parquet,
    }
    try:
        return writers[output.suffix.lower()]
    except KeyError:
        raise QueryError(
            f"cannot tell the format of {output}: end it with {', '.join(writers)}, "
            "or give a folder and --cif"
        ) from None


def flat_rows(rows: Sequence[ResultRow]) -> list[dict[str, Any]]:
    """Rows for programs: stored properties beside the other columns, never over them."""
    flat = []
    for row in rows:
        data = row.model_dump(mode="json")
        properties = data.pop("properties")
        flat.append({**properties, **data})
    return flat


def _frame(rows: Sequence[ResultRow]) -> pd.DataFrame:
    """A table: lists as text, one measured value and what is known of an electrode in columns."""
    import pandas as pd

    from voltscreen.store.documents import KnownVoltage

    flat = flat_rows(rows)
    for row in flat:
        measured, known = row.pop("measured"), row.pop("known") or {}
        row["source_ids"] = " ".join(row["source_ids"])
        row["measured_voltage"] = measured[0]["voltage"] if measured else None
        row["measured_reference"] = measured[0]["reference"] if measured else None
        row |= {f"known_{name}": known.get(name) for name in KnownVoltage.model_fields}
    return pd.DataFrame(flat)


def _write_csv(_: Store, rows: Sequence[ResultRow], output: Path) -> Path:
    _frame(rows).to_csv(_in_folder(output), index=False)
    return output


def _write_parquet(_: Store, rows: Sequence[ResultRow], output: Path) -> Path:
    _frame(rows).to_parquet(_in_folder(output), index=False)
    return output


def _write_json(_: Store, rows: Sequence[ResultRow], output: Path) -> Path:
    text = json.dumps(flat_rows(rows), indent=2, ensure_ascii=False, default=str)
    _in_folder(output).write_text(text + "\n")
    return output


def _write_cifs(store: Store, rows: Sequence[ResultRow], output: Path) -> Path:
    """`RANK_FORMULA_ID.cif` for each candidate, the structure as it was ingested."""
    from pymatgen.io.cif import CifWriter

    from voltscreen.store import load_structures, unpack

    output.mkdir(parents=True, exist_ok=True)
    structures = load_structures(store, (row.structure_id for row in rows))
    for row in rows:
        packed = unpack(structures[row.structure_id])
        formula = re.sub(r"[^A-Za-z0-9]", "_", row.formula)
        name = f"{row.rank:05d}_{formula}_{row.structure_id[:8]}.cif"
        CifWriter(packed.to_pymatgen(), significant_figures=10).write_file(output / name)
    return output


def _in_folder(output: Path) -> Path:
    output.parent.mkdir(parents=True, exist_ok=True)
    return output
