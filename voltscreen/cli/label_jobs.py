"""Which structures `voltscreen refine` computes: a table of candidates and a list of hosts."""

from __future__ import annotations

import csv
import hashlib
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

from voltscreen.errors import FileFormatError, StructureError
from voltscreen.ions import ION_SYMBOLS, parse_ions, working_ion
from voltscreen.potentials.jobs import InsertionJob, ShortLookJob, TopotacticJob
from voltscreen.potentials.topotactic import held_ions
from voltscreen.sources.parquet import ParquetRows, read_table
from voltscreen.structures import (
    Candidate,
    HostState,
    PackedStructure,
    Refused,
    make_host,
)

J = TypeVar("J")


@dataclass(frozen=True, slots=True)
class Pick:
    """A host that the user asked for: what to take out of a structure, and for which ions.

    removed: a working ion, or None. ions: None where the list does not say.
    """

    host_id: str
    removed: str | None = None
    ions: tuple[str, ...] | None = None


@dataclass(slots=True)
class FoundJobs(Generic[J]):
    """What can be computed, and for each structure that cannot be, the reason."""

    jobs: list[J] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class IonChoice:
    """Which ions a host is labelled for: those of a list, or so many drawn."""

    listed: tuple[str, ...]
    drawn: int | None
    seed: int

    def of(self, pick: Pick) -> tuple[str, ...]:
        """The host's ions; the same for the same id and seed, whatever other hosts there are."""
        if pick.ions is not None:
            return pick.ions
        if self.drawn is None:
            return self.listed or ION_SYMBOLS
        digest = hashlib.blake2b(f"{self.seed}|{pick.host_id}".encode(), digest_size=8).digest()
        order = random.Random(int.from_bytes(digest)).sample(ION_SYMBOLS, len(ION_SYMBOLS))  # noqa: S311
        if pick.removed is not None:
            order.remove(pick.removed)
            order.insert(0, pick.removed)
        return tuple(order[: self.drawn])


def insertion_jobs(
    parquet: Path, hosts: Path | None, limit: int | None, choice: IonChoice, *, relaxed: bool
) -> FoundJobs[InsertionJob | ShortLookJob]:
    """Hosts of a table of candidates whose voids are to be filled.

    Args:
        relaxed: take the first steps of the relaxation, too.
        parquet: candidates. hosts: CSV or table of labels with host_id and, where there,
        removed and ions; None takes every structure as it is.

    Raises:
        FileFormatError: a file that cannot be read, or a host that the table lacks.
    """
    found = FoundJobs[InsertionJob | ShortLookJob]()
    kind = ShortLookJob if relaxed else InsertionJob
    for pick, item in _picked(parquet, hosts, limit):
        try:
            host = _host(pick, item)
        except StructureError as error:
            found.refused.append(str(error))
        else:
            found.jobs.append(kind(pick.host_id, host, choice.of(pick), pick.removed))
    return found


def topotactic_jobs(
    parquet: Path, hosts: Path | None, limit: int | None, ions: tuple[str, ...]
) -> FoundJobs[TopotacticJob]:
    """Structures of a table of candidates that hold working ions, and those ions.

    Args:
        hosts: CSV or table of labels with host_id; None takes every structure. ions: only these.

    Raises:
        FileFormatError: a file that cannot be read, or a host that the table lacks.
    """
    found = FoundJobs[TopotacticJob]()
    for pick, item in _picked(parquet, hosts, limit):
        if isinstance(item, Refused):
            found.refused.append(item.reason)
        elif held := held_ions(item.structure, ions or ION_SYMBOLS):
            found.jobs.append(TopotacticJob(pick.host_id, item.structure, held))
        elif hosts is not None:
            found.refused.append("no working ion to take out")
    return found


def _host(pick: Pick, item: Candidate | Refused) -> PackedStructure:
    if isinstance(item, Refused):
        raise StructureError(item.reason)
    if pick.removed is None:
        return item.structure
    host = make_host(item.structure, pick.removed)
    if host.state is HostState.AS_GIVEN:
        raise StructureError(f"no {pick.removed} to take out")
    return host.structure


def _picked(
    parquet: Path, hosts: Path | None, limit: int | None
) -> Iterator[tuple[Pick, Candidate | Refused]]:
    """The structures asked for, in the order of the list, or else of the table."""
    if hosts is None:
        for item in read_table(ParquetRows(path=parquet, limit=limit)):
            yield Pick(item.ref.id), item
        return
    picks = _read_picks(hosts)[:limit]
    ids = {pick.host_id for pick in picks}
    found = {
        item.ref.id: item for item in read_table(ParquetRows(path=parquet)) if item.ref.id in ids
    }
    missing = sorted(ids - found.keys())
    if missing:
        raise FileFormatError(
            f"{parquet} lacks {len(missing)} of the hosts in {hosts}, the first is {missing[0]}"
        )
    for pick in picks:
        yield pick, found[pick.host_id]


def _read_picks(path: Path) -> list[Pick]:
    if path.suffix == ".parquet":
        return list(_picks_of(_table_rows(path)))
    try:
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise FileFormatError(f"cannot read {path}: {error}") from None
    if not rows or not rows[0].get("host_id"):
        raise FileFormatError(f"{path} has no column host_id, or no row")
    return list(_picks_of(rows))


def _table_rows(path: Path) -> list[dict[str, object]]:
    from voltscreen.potentials.label_table import read_labels

    rows: list[dict[str, object]] = read_labels(path).to_pylist()
    return rows


def _picks_of(rows: Iterable[dict[str, object]]) -> Iterator[Pick]:
    for row in rows:
        removed, ions = row.get("removed"), row.get("ions")
        yield Pick(
            str(row["host_id"]),
            working_ion(str(removed)).symbol if removed else None,
            parse_ions(ions) if isinstance(ions, list) else None,
        )
