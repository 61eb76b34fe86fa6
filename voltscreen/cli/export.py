"""Ranked candidates as files: CSV, JSON, Parquet, CIF bundle, HTML report."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from voltscreen.errors import QueryError

if TYPE_CHECKING:
    from voltscreen.store import ResultQuery, ResultRow, Store

Writer = Callable[["Store", "ResultQuery", Path], int]
"""Writes what a query finds to a path; number of candidates."""
_AT_ONCE = 500
"""Structures in memory while CIF files are written."""


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
        ".html": _write_report,
        ".zip": _write_bundle,
    }
    try:
        return writers[output.suffix.lower()]
    except KeyError:
        raise QueryError(
            f"cannot tell the format of {output}: end it with {', '.join(writers)}, "
            "or give a folder and --cif"
        ) from None


def _rows(store: Store, query: ResultQuery) -> list[ResultRow]:
    from voltscreen.store import query_results

    return query_results(store, query)


def _write_csv(store: Store, query: ResultQuery, output: Path) -> int:
    from voltscreen.report.tables import result_frame

    frame = result_frame(_rows(store, query))
    frame.to_csv(output, index=False)
    return len(frame)


def _write_parquet(store: Store, query: ResultQuery, output: Path) -> int:
    from voltscreen.report.tables import result_frame

    frame = result_frame(_rows(store, query))
    frame.to_parquet(output, index=False)
    return len(frame)


def _write_json(store: Store, query: ResultQuery, output: Path) -> int:
    from voltscreen.report.tables import flat_rows

    rows = _rows(store, query)
    text = json.dumps(flat_rows(rows), indent=2, ensure_ascii=False, default=str)
    output.write_text(text + "\n", encoding="utf-8")
    return len(rows)


def _write_report(store: Store, query: ResultQuery, output: Path) -> int:
    from voltscreen.report.pages import report_file
    from voltscreen.report.summary import summarise

    summary = summarise(store, query)
    output.write_text(report_file(summary), encoding="utf-8")
    return summary.total


def _write_cifs(store: Store, query: ResultQuery, output: Path) -> int:
    """`RANK_FORMULA_ID.cif` for each candidate, the structure as it was ingested."""
    rows = _rows(store, query)
    output.mkdir(parents=True, exist_ok=True)
    for name, text in _cifs(store, rows):
        (output / name).write_text(text)
    return len(rows)


def _write_bundle(store: Store, query: ResultQuery, output: Path) -> int:
    """A zip of CIF files and the table `candidates.csv` that names them."""
    from voltscreen.report.tables import result_frame

    rows = _rows(store, query)
    frame = result_frame(rows)
    if rows:
        frame.insert(1, "cif", [_cif_name(row) for row in rows])
    with zipfile.ZipFile(output, "w", zipfile.ZIP_DEFLATED) as bundle:
        bundle.writestr("candidates.csv", frame.to_csv(index=False))
        for name, text in _cifs(store, rows):
            bundle.writestr(name, text)
    return len(rows)


def _cifs(store: Store, rows: Sequence[ResultRow]) -> Iterator[tuple[str, str]]:
    """(file name, text) of each candidate."""
    from pymatgen.io.cif import CifWriter

    from voltscreen.store import load_structures, unpack

    remaining = iter(rows)
    while chunk := list(islice(remaining, _AT_ONCE)):
        structures = load_structures(store, (row.structure_id for row in chunk))
        for row in chunk:
            packed = unpack(structures[row.structure_id])
            yield _cif_name(row), str(CifWriter(packed.to_pymatgen(), significant_figures=10))


def _cif_name(row: ResultRow) -> str:
    formula = re.sub(r"[^A-Za-z0-9]", "_", row.formula)
    return f"{row.rank:05d}_{formula}_{row.structure_id[:8]}.cif"
