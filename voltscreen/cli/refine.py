"""`voltscreen refine`: what a universal potential says of structures."""

from __future__ import annotations

import re
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from voltscreen.cli.output import JsonOption, program, say

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from voltscreen.cli.label_jobs import FoundJobs
    from voltscreen.potentials.jobs import Job
    from voltscreen.potentials.labelling import LabelFolder

refine_app = typer.Typer(
    no_args_is_help=True,
    invoke_without_command=True,
)

PARQUET = typer.Option(
    "--parquet", help="Structures: material_id, lattice, atomic_numbers, frac_coords."
)
OUTPUT = typer.Option("--output", help="Folder for the labels.")
LIMIT = typer.Option("--limit", min=1, help="Only so many hosts, the first.")
IONS = typer.Option("--ions", help="Working ions, e.g. Li,Mg. Default: all ten.")
BATCH = typer.Option("--batch", min=1, help="Hosts in a file; a crash loses one file's.")
WORKERS = typer.Option("--workers", min=1, help="Processes.")
SUBMIT = typer.Option(
    "--submit",
    help="Make Fireworks of the batches instead, for `voltscreen worker` on any machine that "
    "sees the folder and the database.",
)
DEVICE = typer.Option("--device", help="auto, cpu, cuda or cuda:N. Default: as in the settings.")


def register(app: typer.Typer) -> None:
    """Add the group."""
    from voltscreen.cli.refine_model import register_refiner

    register_refiner(refine_app)
    app.add_typer(refine_app, name="refine")


@refine_app.callback()
def refine(
    context: typer.Context,
    campaign: Annotated[
        str | None, typer.Option("--campaign", help="Name of a finished campaign.")
    ] = None,
    ion: Annotated[str | None, typer.Option("--ion", help="Working ion, e.g. Mg.")] = None,
    top: Annotated[int, typer.Option("--top", help="Candidates to look at.")] = 200,
    choose: Annotated[
        str,
        typer.Option("--choose", help="rank: the best; gain: the largest expected gain."),
    ] = "rank",
    sites: Annotated[int, typer.Option("--sites", help="Distinct voids tried.")] = 4,
    relax_steps: Annotated[
        int, typer.Option("--relax-steps", help="Force evaluations for each end, at most.")
    ] = 100,
    workers: Annotated[int, WORKERS] = 1,
    again: Annotated[
        bool, typer.Option("--again", help="Also look again at what failed before.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """A second look at a campaign's shortlist by a universal potential (CHGNet).

    Puts ions into the best candidates, relaxes both ends, and ranks anew with the refined
    voltages. What was looked at is not looked at again, so that a stopped one goes on. The
    commands below make labels to train on.

    Example: voltscreen refine --campaign known-hosts --ion Mg --top 20
    """
    if context.invoked_subcommand is not None:
        return
    from pydantic import ValidationError

    from voltscreen.campaign.spec import explain
    from voltscreen.cli.refine_campaign import refine_campaign
    from voltscreen.errors import SpecError, VoltscreenError
    from voltscreen.screening import RefineSpec

    if campaign is None or ion is None:
        raise VoltscreenError("give --campaign and --ion, or a command: voltscreen refine --help")
    try:
        spec = RefineSpec.model_validate(
            {"top": top, "choose": choose, "sites": sites, "relax_steps": relax_steps}
        )
    except ValidationError as error:
        raise SpecError(explain(error, RefineSpec)) from None
    refine_campaign(campaign, ion, spec, workers, again=again, as_json=as_json)


@refine_app.command("label")
def label(
    parquet: Annotated[Path, PARQUET],
    output: Annotated[Path, OUTPUT],
    hosts: Annotated[
        Path | None,
        typer.Option(
            "--hosts",
            help="CSV with host_id and, if you like, removed: the working ion to take out. Or a "
            "table of labels, to compute the same hosts and ions again. "
            "Default: every structure as it is.",
        ),
    ] = None,
    limit: Annotated[int | None, LIMIT] = None,
    ions: Annotated[list[str] | None, IONS] = None,
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
    relaxed: Annotated[
        bool,
        typer.Option(
            "--relaxed", help="Take the first steps of the relaxation, too; about ten times slower."
        ),
    ] = False,
    batch: Annotated[int, BATCH] = 64,
    workers: Annotated[int, WORKERS] = 1,
    device: Annotated[str | None, DEVICE] = None,
    submit: Annotated[bool, SUBMIT] = False,
) -> None:
    """Compute the insertion energies of working ions in many hosts' largest voids with CHGNet.

    Run it again to go on after a crash, or beside itself to share the work. Example:
    voltscreen refine label --parquet pool.parquet --limit 100 --ions Li,Mg --output labels
    """
    from voltscreen.cli.label_jobs import IonChoice, insertion_jobs
    from voltscreen.errors import VoltscreenError
    from voltscreen.ions import parse_ions

    if ions and ions_per_host:
        raise VoltscreenError("give --ions or --ions-per-host, not both")
    choice = IonChoice(parse_ions(ions or []), ions_per_host, seed)
    _label(
        lambda: insertion_jobs(parquet, hosts, limit, choice, relaxed=relaxed), hosts or parquet,
        output, batch, workers, device, submit=submit,
    )  # fmt: skip


@refine_app.command("voltage")
def voltage(
    parquet: Annotated[Path, PARQUET],
    output: Annotated[Path, OUTPUT],
    hosts: Annotated[
        Path | None,
        typer.Option(
            "--hosts",
            help="CSV with host_id, or a table of labels. Default: every structure that holds "
            "a working ion.",
        ),
    ] = None,
    limit: Annotated[int | None, LIMIT] = None,
    ions: Annotated[list[str] | None, IONS] = None,
    batch: Annotated[int, BATCH] = 64,
    workers: Annotated[int, WORKERS] = 1,
    device: Annotated[str | None, DEVICE] = None,
    submit: Annotated[bool, SUBMIT] = False,
) -> None:
    """Compute topotactic voltages with CHGNet: structures against themselves without their ions.

    Nothing is relaxed, so that they are too high; they follow the relaxed voltages. Run it again
    to go on after a crash, or beside itself to share the work. Example:
    voltscreen refine voltage --parquet pool.parquet --limit 100 --output voltages
    """
    from voltscreen.cli.label_jobs import topotactic_jobs
    from voltscreen.ions import parse_ions

    wanted = parse_ions(ions or [])
    _label(
        lambda: topotactic_jobs(parquet, hosts, limit, wanted), hosts or parquet, output, batch,
        workers, device, submit=submit,
    )  # fmt: skip


@refine_app.command("hosts")
def choose(
    parquet: Annotated[Path, typer.Option("--parquet", help="Pool: material_id, atomic_numbers.")],
    output: Annotated[Path, typer.Option("--output", help="CSV for --hosts.")],
    electrodes: Annotated[
        Path | None,
        typer.Option(
            "--electrodes",
            help="Folder with electrode_hosts.parquet and electrode_discharged.parquet: hosts "
            "for `refine label`, none of a chemical system of theirs.",
        ),
    ] = None,
    with_ions: Annotated[
        bool,
        typer.Option(
            "--with-ions", help="Structures that hold a working ion, for `refine voltage`."
        ),
    ] = False,
) -> None:
    """Choose the pool structures that a trunk can learn from."""
    import pandas as pd

    from voltscreen.errors import VoltscreenError
    from voltscreen.train.pool_hosts import choose_hosts, choose_with_ions

    if with_ions == (electrodes is not None):
        raise VoltscreenError("give --electrodes, or --with-ions, one of the two")
    if electrodes is not None:
        rows = [(host.host_id, host.removed) for host in choose_hosts(parquet, _known(electrodes))]
        table = pd.DataFrame(rows, columns=["host_id", "removed"])
    else:
        table = pd.DataFrame({"host_id": choose_with_ions(parquet)})
    table.to_csv(output, index=False)
    say(f"Wrote {output}: {len(table)} hosts")


def _known(electrodes: Path) -> list[NDArray[np.uint8]]:
    """Atomic numbers of all structures of labelled electrodes."""
    import pandas as pd

    from voltscreen.errors import FileFormatError

    try:
        tables = [
            pd.read_parquet(electrodes / f"electrode_{end}.parquet", columns=["atomic_numbers"])
            for end in ("hosts", "discharged")
        ]
    except (OSError, ValueError) as error:
        raise FileFormatError(f"cannot read the electrodes in {electrodes}: {error}") from None
    numbers: list[NDArray[np.uint8]] = pd.concat(tables)["atomic_numbers"].to_list()
    return numbers


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


def _label(
    find: Callable[[], FoundJobs[Any]],
    source: Path,
    output: Path,
    batch: int,
    workers: int,
    device: str | None,
    *,
    submit: bool,
) -> None:
    """Compute what `find` finds in a source and say how it went, or submit it."""
    from tqdm import tqdm

    from voltscreen.errors import VoltscreenError
    from voltscreen.potentials.chgnet import ChgnetPotential, chgnet_version
    from voltscreen.potentials.labelling import open_folder
    from voltscreen.potentials.workers import label_in_processes
    from voltscreen.settings import settings

    potential = f"{ChgnetPotential.name} {chgnet_version()}"
    chosen = _checked_device(device or settings().device)
    found = find()
    if not found.jobs:
        reason = f": {found.refused[0]}" if found.refused else ""
        raise VoltscreenError(f"{source} gives no host to label{reason}")
    folder = open_folder(output, found.jobs, potential, batch)
    if submit:
        _submit(folder, found)
        return
    before, _ = _count(folder)
    started = time.monotonic()
    hosts = folder.manifest.hosts
    with tqdm(total=hosts, unit=" hosts", disable=None) as bar:

        def show(finished: int) -> None:
            bar.update(min(finished * folder.manifest.batch_size, hosts) - bar.n)

        label_in_processes(found.jobs, folder, chosen, workers, show)
    seconds = time.monotonic() - started
    labels, errors = _count(folder)
    _summarize(found, folder, labels, (labels - before) / seconds, errors)


def _submit(folder: LabelFolder, found: FoundJobs[Any]) -> None:
    """Fireworks for what has neither labels nor a Firework."""
    import contextlib

    from voltscreen.campaign.label import submit_labels
    from voltscreen.campaign.launchpad import open_launchpad
    from voltscreen.store import connect

    with connect(), contextlib.closing(open_launchpad()) as launchpad:
        batches = submit_labels(launchpad, folder, found.jobs)
    waiting = len(folder.open_batches())
    say(
        f"{folder.manifest.hosts} hosts in {folder.n_batches} batches: "
        f"{folder.n_batches - waiting} have labels, {waiting - len(batches)} have a Firework, "
        f"{len(batches)} were submitted. Work them: {program()} worker"
    )
    for reason, count in Counter(reason.partition(":")[0] for reason in found.refused).items():
        say(f"Left out: {count} hosts, {reason}")


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
    found: FoundJobs[Job], folder: LabelFolder, labels: int, rate: float, errors: Sequence[str]
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
