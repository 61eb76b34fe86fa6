"""`voltscreen campaign`: submit, run, status, resume, cancel, list."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from voltscreen.cli.output import JsonOption, print_json, print_table, program, say
from voltscreen.cli.report import report

if TYPE_CHECKING:
    from voltscreen.campaign.status import CampaignStatus
    from voltscreen.store import Store

campaign_app = typer.Typer(
    no_args_is_help=True,
    help="Campaigns: submit, run, status, resume, cancel, list; export and recover batches.",
)

Name = Annotated[str, typer.Argument(help="Name of the campaign.")]
Workers = Annotated[
    int, typer.Option("--workers", "-w", min=1, help="Worker processes on this machine.")
]
SHOWN_FAILURES = 5


def register(app: typer.Typer) -> None:
    """Add the group."""
    app.add_typer(campaign_app, name="campaign")


@campaign_app.command("submit")
def submit(
    spec: Annotated[Path, typer.Argument(help="Campaign spec (YAML).")],
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Print the workflow as YAML for `lpad add`, do nothing."),
    ] = False,
) -> None:
    """Make the FireWorks workflow of a spec; what is done already is not done again."""
    from voltscreen.campaign.spec import load_spec

    loaded = load_spec(spec)
    if dry_run:
        from voltscreen.campaign.workflow import campaign_workflow

        typer.echo(campaign_workflow(loaded).to_format("yaml"))
        return
    from voltscreen.campaign import control
    from voltscreen.campaign.launchpad import open_launchpad
    from voltscreen.store import connect

    with connect() as store, contextlib.closing(open_launchpad()) as launchpad:
        submission = control.submit(store, launchpad, loaded)
    say(submission.message)
    if submission.workflow_id is not None:
        say(f"Work it with: {program()} campaign run {submission.campaign}")


@campaign_app.command("run")
def run(name: Name, workers: Workers = 1) -> None:
    """Work a submitted campaign on this machine, to the end."""
    from voltscreen.store import connect

    with connect() as store:
        finish(store, name, workers)


@campaign_app.command("resume")
def resume(
    name: Name,
    workers: Workers = 1,
    no_work: Annotated[
        bool, typer.Option("--no-work", help="Only make it ready; other workers will do it.")
    ] = False,
) -> None:
    """Make what was lost or failed ready again, and work it here; what is done stays."""
    from voltscreen.campaign import control
    from voltscreen.campaign.launchpad import open_launchpad
    from voltscreen.store import connect

    with connect() as store:
        with contextlib.closing(open_launchpad()) as launchpad:
            resumed = control.resume(store, launchpad, name)
        say(resumed.message)
        if resumed.open and not no_work:
            finish(store, name, workers)


@campaign_app.command("export")
def export(
    name: Name,
    folder: Annotated[
        Path | None, typer.Argument(help="Folder for the batch files; made if missing.")
    ] = None,
    batches: Annotated[
        int | None, typer.Option("--batches", min=1, help="At most so many; all by default.")
    ] = None,
    take_back: Annotated[
        bool, typer.Option("--take-back", help="Make what was exported ready again instead.")
    ] = False,
) -> None:
    """Write ready batches to files, for nodes that never reach the database.

    They are worked by `voltscreen worker --offline FOLDER` and come back by `campaign recover`.
    """
    from voltscreen.campaign import offline
    from voltscreen.campaign.launchpad import open_launchpad
    from voltscreen.errors import CampaignError
    from voltscreen.store import connect

    with connect() as store, contextlib.closing(open_launchpad()) as launchpad:
        if take_back:
            count = offline.take_back(store, launchpad, name)
            say(f"{count} exported batches are ready again.")
            return
        if folder is None:
            raise CampaignError("give the folder to write to")
        paths = offline.export_batches(store, launchpad, name, folder, batches)
    say(f"Wrote {len(paths)} batch files and their model to {folder}.")
    if paths:
        say(f"On the nodes: {program()} worker --offline {folder}")
        say(f"Then here:    {program()} campaign recover {folder}")


@campaign_app.command("recover")
def recover(
    folders: Annotated[list[Path], typer.Argument(help="Folders with spool files.")],
    delete: Annotated[
        bool, typer.Option("--delete", help="Delete the files that are in the database then.")
    ] = False,
) -> None:
    """Replay results that could not reach the database; doing it twice does no harm."""
    from voltscreen.campaign.launchpad import open_launchpad
    from voltscreen.campaign.recover import recover as replay
    from voltscreen.store import connect

    files = new = known = finished = refused = 0
    with connect() as store, contextlib.closing(open_launchpad()) as launchpad:
        for folder in folders:
            for found in replay(store, launchpad, folder):
                if found.refused:
                    refused += 1
                    say(f"Left alone: {found.refused}")
                    continue
                files, new, known = files + 1, new + found.new, known + found.known
                finished += found.finished
                if delete:
                    found.path.unlink()
    say(
        f"Replayed {files} files: {new} voltages are new, {known} were there; "
        f"{finished} batches ended by it."
    )
    if refused:
        raise typer.Exit(1)


@campaign_app.command("cancel")
def cancel(name: Name) -> None:
    """Stop a campaign: what has not started is taken back, results so far are kept."""
    from voltscreen.campaign import control
    from voltscreen.campaign.launchpad import open_launchpad
    from voltscreen.store import connect

    with connect() as store, contextlib.closing(open_launchpad()) as launchpad:
        count = control.cancel(store, launchpad, name)
    say(f"Cancelled campaign {name!r}; {count} Fireworks were taken back.")


@campaign_app.command("delete")
def delete(name: Name) -> None:
    """Forget a campaign, its batches and rankings; structures and voltages are kept."""
    from voltscreen.campaign.forget import forget_campaign
    from voltscreen.campaign.launchpad import open_launchpad
    from voltscreen.errors import CampaignError
    from voltscreen.store import connect

    with connect() as store, contextlib.closing(open_launchpad()) as launchpad:
        if not forget_campaign(store, launchpad, name):
            raise CampaignError(f"there is no campaign {name!r}: see `voltscreen campaign list`")
    say(f"Deleted campaign {name!r}; its structures and voltages are kept.")


@campaign_app.command("status")
def status(name: Name, as_json: JsonOption = False) -> None:
    """Where a campaign stands, what it waits for, and what failed."""
    from voltscreen.campaign.launchpad import open_launchpad
    from voltscreen.campaign.standing import standing
    from voltscreen.campaign.status import campaign_status
    from voltscreen.store import connect

    with connect() as store:
        found = campaign_status(store, name)
        with contextlib.closing(open_launchpad()) as launchpad:
            why = standing(store, launchpad, name)
        if as_json:
            print_json(found.model_dump(mode="json") | {"standing": why})
            return
        print_status(found)
        typer.echo(why)
        print_failures(store, found)


campaign_app.command("report")(report)


@campaign_app.command("list")
def list_campaigns(as_json: JsonOption = False) -> None:
    """All campaigns of the database."""
    from voltscreen.campaign import status as statuses
    from voltscreen.store import connect

    with connect() as store:
        found = statuses.list_campaigns(store)
    if as_json:
        print_json([one.model_dump(mode="json") for one in found])
        return
    print_table(
        ["Name", "State", "Ions", ("Structures", "right"), ("Predicted", "right"),
         ("Failed", "right"), ("Seconds", "right")],
        [
            [one.name, one.state.value, " ".join(one.ions), one.structures, one.predicted,
             one.failed, "" if one.seconds is None else f"{one.seconds:.0f}"]
            for one in found
        ],
    )  # fmt: skip


def finish(store: Store, name: str, workers: int) -> CampaignStatus:
    """Work a campaign to the end; exit 1 when something of it failed or is left."""
    from voltscreen.campaign.run import run_campaign
    from voltscreen.store import get_campaign
    from voltscreen.store.documents import BatchState, CampaignState

    get_campaign(store, name)
    with progress_bar(name) as progress:
        end = run_campaign(store, name, workers, progress)
    print_failures(store, end.status)
    for notice in end.status.notices:
        say(notice)
    if end.worker_output:
        say(f"A worker ended with an error: {end.worker_output}")
    batches_left = sum(n for state, n in end.status.batches.items() if state != BatchState.DONE)
    unfinished = end.open or batches_left or end.status.state is not CampaignState.DONE
    if unfinished:
        for error in end.status.errors[-SHOWN_FAILURES:]:
            say(f"Failed: {error['stage']} {error.get('batch') or ''}: {error['reason']}")
        say(f"Campaign {name!r} is not finished. Go on with: {program()} campaign resume {name}")
    if unfinished or end.status.failed or end.worker_output:
        raise typer.Exit(1)
    return end.status


@contextlib.contextmanager
def progress_bar(name: str) -> Iterator[Callable[[CampaignStatus], None]]:
    """A bar over structures on a terminal, nothing elsewhere."""
    from tqdm import tqdm

    from voltscreen.store.documents import CampaignState

    with tqdm(desc=name, unit=" structures", disable=None, leave=False) as bar:

        def update(found: CampaignStatus) -> None:
            reading = found.expected is not None and found.state is CampaignState.RUNNING
            bar.total = found.expected if reading else found.structures
            bar.n = found.structures if reading else found.predicted + found.failed
            bar.set_postfix_str("reading" if reading else found.state.value, refresh=False)
            bar.refresh()

        yield update


def print_status(found: CampaignStatus) -> None:
    """A campaign in a few lines."""
    batches = ", ".join(f"{count} {state.value}" for state, count in found.batches.items())
    rows: list[tuple[str, Any]] = [
        ("Campaign", found.name),
        ("State", found.state.value),
        ("Ions", " ".join(found.ions)),
        ("Model", found.model_id),
        ("Structures", f"{found.structures} ({found.reused} had a voltage before)"),
        ("Predicted", found.predicted),
        ("Failed", found.failed),
        ("Batches", batches),
        ("Seconds", "" if found.seconds is None else f"{found.seconds:.1f}"),
    ]
    for label, value in rows:
        typer.echo(f"{label:<11} {value}")
    for notice in found.notices:
        typer.echo(f"{'Notice':<11} {notice}")
    for error in found.errors[-SHOWN_FAILURES:]:
        typer.echo(f"{'Error':<11} {error['stage']}: {error['reason']}")


def print_failures(store: Store, found: CampaignStatus) -> None:
    """The first structures without a voltage, and how many more there are."""
    from voltscreen.campaign.status import failures

    if not found.failed:
        return
    say(f"{found.failed} of {found.structures} structures have no voltage:")
    for failure in failures(store, found.name, SHOWN_FAILURES):
        say(f"  {' '.join(failure.source_ids) or failure.structure_id}: {failure.reason}")
    if found.failed > SHOWN_FAILURES:
        say(f"  and {found.failed - SHOWN_FAILURES} more")
