"""Jobs as a file, so that workers need not read the structures' source again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from voltscreen.errors import FileFormatError
from voltscreen.potentials.jobs import InsertionJob, Job, ShortLookJob, TopotacticJob
from voltscreen.potentials.label_table import LabelKind
from voltscreen.structures import PackedStructure

FILE_NAME = "jobs.parquet"
_SCHEMA = pa.schema(
    [
        ("host_id", pa.string()),
        ("removed", pa.string()),
        ("ions", pa.list_(pa.string())),
        ("structure", pa.binary()),
    ]
)


def write_jobs(jobs: Sequence[Job], path: Path) -> None:
    """Write jobs of one kind; a reader never sees half of them."""
    rows = [
        {
            "host_id": job.name[0],
            "removed": job.name[1],
            "ions": list(job.ions),
            "structure": job.structure.to_bytes(),
        }
        for job in jobs
    ]
    partial = path.with_name(path.name + ".part")
    pq.write_table(pa.Table.from_pylist(rows, schema=_SCHEMA), partial, compression="zstd")
    partial.replace(path)


def read_jobs(path: Path, kind: LabelKind) -> list[Job]:
    """The inverse of `write_jobs`.

    Raises:
        FileFormatError: no such file, or another content.
    """
    try:
        rows = pq.read_table(path, schema=_SCHEMA).to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise FileFormatError(f"cannot read the jobs in {path}: {error}") from None
    jobs: list[Job] = []
    for row in rows:
        structure = PackedStructure.from_bytes(row["structure"])
        name, ions = row["host_id"], tuple(row["ions"])
        if kind is LabelKind.TOPOTACTIC:
            jobs.append(TopotacticJob(name, structure, ions))
        elif kind is LabelKind.RELAXED:
            jobs.append(ShortLookJob(name, structure, ions, row["removed"]))
        else:
            jobs.append(InsertionJob(name, structure, ions, row["removed"]))
    return jobs
