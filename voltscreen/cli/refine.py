"""`voltscreen refine`: a second look at structures by a universal potential."""

from __future__ import annotations

import re
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from voltscreen.cli.output import program, say

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from voltscreen.potentials.labelling import LabelFolder, LabelJob
    from voltscreen.structures import Candidate, PackedStructure, Refused

refine_app = typer.Typer(
    no_args_is_help=True, help="Insertion energies by a universal potential: hosts, label, merge."
)


def register(app: typer.Typer) -> None:
    """Add the group."""
    app.add_typer(refine_app, name="refine")


@dataclass(frozen=True, slots=True)
class _Pick:
    """A host that the user asked for."""

    host_id: str
    removed: str | None = None


@dataclass(slots=True)
class _Jobs:
    """What can be labelled, and for each host that cannot be, the reason."""

    jobs: list[LabelJob] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)


@refine_app.command("label")
def label(
    parquet: Annotated[
        Path,
        typer.Option(
            "--parquet", help="Structures: material_id, lattice, atomic_numbers, frac_coords."
        ),
    ],
    output: Annotated[Path, typer.Option("--output", help="Folder for the labels.")],
    hosts: Annotated[
        Path | None,
        typer.Option(
            "--hosts",
            help="CSV with host_id and, if you like, removed: the working ion to take out. "
            "Default: every structure as it is.",
        ),
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="Only so many hosts, the first.")
    ] = None,
    ions: Annotated[
        list[str] | None,
        typer.Option("--ions", help="Working ions, e.g. Li,Mg. Default: all ten."),
    ] = None,
    ions_per_host: Annotated[
        int | None,
        typer.Option(
            "--ions-per-host",
            min=1,
            max=10,
            help="So many ions for each host instead, drawn by its id; an ion that was taken "
            "out of it is among them.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of that draw.")] = 0,
    batch: Annotated[
        int, typer.Option("--batch", min=1, help="Hosts in a file; a crash loses one file's.")
    ] = 64,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Processes.")] = 1,
    device: Annotated[
        str | None,
        typer.Option("--device", help="auto, cpu, cuda or cuda:N. Default: as in the settings."),
    ] = None,
) -> None:
    """Compute the insertion energies of working ions in many hosts' largest voids with CHGNet.

    Run it again to go on after a crash, or beside itself to share the work. Example:
    voltscreen refine label --parquet pool.parquet --limit 100 --ions Li,Mg --output labels
    """
    from voltscreen.errors import VoltscreenError
    from voltscreen.ions import parse_ions
    from voltscreen.potentials.chgnet import ChgnetPotential, chgnet_version
    from voltscreen.potentials.labelling import open_folder
    from voltscreen.settings import settings

    if ions and ions_per_host:
        raise VoltscreenError("give --ions or --ions-per-host, not both")
    potential = f"{ChgnetPotential.name} {chgnet_version()}"
    wanted = parse_ions(ions or [])
    chosen = _checked_device(device or settings().device)
    found = _read_jobs(parquet, hosts, limit, _IonChoice(wanted, ions_per_host, seed))
    if not found.jobs:
        reason = f": {found.refused[0]}" if found.refused else ""
        raise VoltscreenError(f"{hosts or parquet} gives no host to label{reason}")
    folder = open_folder(output, found.jobs, potential, batch)
    _label(found, folder, chosen, workers)


@refine_app.command("hosts")
def choose(
    parquet: Annotated[Path, typer.Option("--parquet", help="Pool: material_id, atomic_numbers.")],
    electrodes: Annotated[
        Path,
        typer.Option(
            "--electrodes",
            help="Folder with electrode_hosts.parquet and electrode_discharged.parquet: no host "
            "of a chemical system of theirs is chosen.",
        ),
    ],
    output: Annotated[Path, typer.Option("--output", help="CSV for `refine label --hosts`.")],
) -> None:
    """Choose the pool hosts that a trunk can learn insertion energies from."""
    import pandas as pd

    from voltscreen.errors import FileFormatError
    from voltscreen.train.pool_hosts import choose_hosts

    try:
        tables = [
            pd.read_parquet(electrodes / f"electrode_{end}.parquet", columns=["atomic_numbers"])
            for end in ("hosts", "discharged")
        ]
    except (OSError, ValueError) as error:
        raise FileFormatError(f"cannot read the electrodes in {electrodes}: {error}") from None
    found = choose_hosts(parquet, pd.concat(tables)["atomic_numbers"].to_list())
    pd.DataFrame(
        [(host.host_id, host.removed) for host in found], columns=["host_id", "removed"]
    ).to_csv(output, index=False)
    say(f"Wrote {output}: {len(found)} hosts")


def _checked_device(name: str) -> str:
    """The name; torch, slow to load, is asked only for what may not be there."""
    from voltscreen.errors import VoltscreenError

    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", name):
        raise VoltscreenError(f"unknown device {name!r}: choose auto, cpu, cuda or cuda:N")
    if name.startswith("cuda"):
        from voltscreen.model.device import choose_device

        choose_device(name)
    return name


@refine_app.command("merge")
def merge(
    folder: Annotated[Path, typer.Argument(help="Folder of `refine label`.")],
    file: Annotated[Path, typer.Argument(help="Parquet file to write.")],
) -> None:
    """Join the labels of a folder into one Parquet file."""
    from voltscreen.potentials.labelling import merge_labels, read_manifest

    wanted = read_manifest(folder).hosts
    count = merge_labels(folder, file)
    say(f"Wrote {file}: {count} of {wanted} hosts, {file.stat().st_size / 1e6:.1f} MB")
    if count < wanted:
        say("The rest is not labelled yet: run the same `refine label` again, then merge.")
        raise typer.Exit(1)


@dataclass(frozen=True, slots=True)
class _IonChoice:
    """Which ions a host is labelled for: those of a list, or so many drawn."""

    listed: tuple[str, ...]
    drawn: int | None
    seed: int

    def of(self, pick: _Pick) -> tuple[str, ...]:
        """The host's ions; the same for the same id and seed, whatever other hosts there are."""
        import hashlib
        import random

        from voltscreen.ions import ION_SYMBOLS

        if self.drawn is None:
            return self.listed or ION_SYMBOLS
        digest = hashlib.blake2b(f"{self.seed}|{pick.host_id}".encode(), digest_size=8).digest()
        order = random.Random(int.from_bytes(digest)).sample(ION_SYMBOLS, len(ION_SYMBOLS))  # noqa: S311
        if pick.removed is not None:
            order.remove(pick.removed)
            order.insert(0, pick.removed)
        return tuple(order[: self.drawn])


def _read_jobs(parquet: Path, hosts: Path | None, limit: int | None, choice: _IonChoice) -> _Jobs:
    from voltscreen.errors import StructureError

    found = _Jobs()
    for pick, item in _picked(parquet, hosts, limit):
        try:
            host = _host(pick, item)
        except StructureError as error:
            found.refused.append(str(error))
            continue
        found.jobs.append(_job(pick, host, choice.of(pick)))
    return found


def _job(pick: _Pick, host: PackedStructure, ions: tuple[str, ...]) -> LabelJob:
    from voltscreen.potentials.labelling import LabelJob

    return LabelJob(pick.host_id, host, ions, pick.removed)


def _host(pick: _Pick, item: Candidate | Refused) -> PackedStructure:
    from voltscreen.errors import StructureError
    from voltscreen.structures import HostState, Refused, make_host

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
) -> Iterator[tuple[_Pick, Candidate | Refused]]:
    """The structures asked for, in the order of the list, or else of the table."""
    from voltscreen.errors import FileFormatError
    from voltscreen.sources.parquet import ParquetRows, read_table

    if hosts is None:
        for item in read_table(ParquetRows(path=parquet, limit=limit)):
            yield _Pick(item.ref.id), item
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


def _read_picks(path: Path) -> list[_Pick]:
    import csv

    from voltscreen.errors import FileFormatError
    from voltscreen.ions import working_ion

    try:
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise FileFormatError(f"cannot read {path}: {error}") from None
    if not rows or not rows[0].get("host_id"):
        raise FileFormatError(f"{path} has no column host_id, or no row")
    return [
        _Pick(row["host_id"], working_ion(row["removed"]).symbol if row.get("removed") else None)
        for row in rows
    ]


def _label(found: _Jobs, folder: LabelFolder, device: str, workers: int) -> None:
    from tqdm import tqdm

    from voltscreen.potentials.workers import label_in_processes

    before, _ = _count(folder)
    started = time.monotonic()
    hosts = folder.manifest.hosts
    with tqdm(total=hosts, unit=" hosts", disable=None) as bar:

        def show(finished: int) -> None:
            bar.update(min(finished * folder.manifest.batch_size, hosts) - bar.n)

        label_in_processes(found.jobs, folder, device, workers, show)
    seconds = time.monotonic() - started
    labels, errors = _count(folder)
    _summarize(found, folder, labels, (labels - before) / seconds, errors)


def _count(folder: LabelFolder) -> tuple[int, list[str]]:
    """Labels in a folder, and the reasons of the hosts that failed."""
    import pyarrow.compute as pc

    from voltscreen.potentials.labelling import read_labels

    if len(folder.open_batches()) == folder.n_batches:
        return 0, []
    table = read_labels(folder.path, ["ions", "error"])
    labels = pc.sum(pc.list_value_length(table["ions"])).as_py() or 0
    return int(labels), table["error"].drop_null().to_pylist()


def _summarize(
    found: _Jobs, folder: LabelFolder, labels: int, rate: float, errors: Sequence[str]
) -> None:
    reasons = Counter(reason.partition(":")[0] for reason in [*errors, *found.refused])
    failed = reasons.total()
    say(
        f"{len(found.jobs) + len(found.refused)} hosts: {labels} labels, {failed} failed, "
        f"{rate:.1f} labels/s. Read them: {program()} refine merge {folder.path} FILE"
    )
    for reason, count in reasons.most_common():
        say(f"Failed: {count} hosts, {reason}")
    left = folder.open_batches()
    if left:
        say(
            f"{len(left)} batches are in the hands of {folder.held_by(left[0])}; if no process "
            "works there any more, remove the .claim files and run the same command again."
        )
    if failed or left:
        raise typer.Exit(1)
