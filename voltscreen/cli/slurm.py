"""`voltscreen slurm`: render, submit, status, reconcile."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from voltscreen.cli.output import JsonOption, console, print_json, program, say

if TYPE_CHECKING:
    from rich.console import RenderableType

    from voltscreen.campaign.jobs import SlurmStatus
    from voltscreen.campaign.launchpad import VoltscreenLaunchPad
    from voltscreen.campaign.reconcile import Reconciled
    from voltscreen.cluster.submit import Submitted
    from voltscreen.store import Store

slurm_app = typer.Typer(
    no_args_is_help=True, help="Jobs on a SLURM cluster: render, submit, status, reconcile."
)

SiteFile = Annotated[
    Path, typer.Option("--site", help="Site profile (YAML); voltscreen init copies examples.")
]
Campaign = Annotated[str, typer.Option("--campaign", help="Name of the campaign.")]
MaxJobs = Annotated[
    int | None,
    typer.Option(
        "--max-jobs", min=1, help="Jobs at a time, waiting ones included; max_jobs of the profile."
    ),
]
SHOWN_FAILURES = 10


def register(app: typer.Typer) -> None:
    """Add the group."""
    app.add_typer(slurm_app, name="slurm")


@slurm_app.command("render")
def render(site: SiteFile, campaign: Campaign, max_jobs: MaxJobs = None) -> None:
    """Print the batch script that submit would give to sbatch."""
    from voltscreen.cluster.script import render as script
    from voltscreen.cluster.site import load_site
    from voltscreen.cluster.submit import campaign_array

    profile = load_site(site)
    size = max_jobs or profile.max_jobs
    typer.echo(script(profile, campaign_array(profile, campaign, size)), nl=False)


@slurm_app.command("submit")
def submit(
    site: SiteFile,
    campaign: Campaign,
    max_jobs: MaxJobs = None,
    until_done: Annotated[
        bool,
        typer.Option(
            "--until-done", help="Stay, and submit again what is lost, until the campaign is done."
        ),
    ] = False,
    interval: Annotated[
        float, typer.Option("--interval", min=1, help="Seconds between two looks of --until-done.")
    ] = 30.0,
) -> None:
    """Submit an array of jobs: as many as batches are ready, less those that are queued already.

    What lost jobs had in hand becomes ready first. With nothing to do it submits nothing.
    """
    from voltscreen.cluster.reach import refuse_loopback
    from voltscreen.cluster.site import load_site
    from voltscreen.settings import settings
    from voltscreen.store import get_campaign
    from voltscreen.store.connection import server_uri

    profile = load_site(site)
    with _opened() as (store, launchpad):
        get_campaign(store, campaign)
        refuse_loopback(server_uri(settings())[0], profile)
        cap = max_jobs or profile.max_jobs
        done = _submit_once(store, launchpad, site, campaign, cap)
        say(done.message)
        while until_done and not _is_over(store, launchpad, campaign, done):
            time.sleep(interval)
            done = _submit_once(store, launchpad, site, campaign, cap)
            if done.has_news:
                say(done.message)
    if done.jobs and not until_done:
        say(f"Watch it with: {program()} slurm status --campaign {campaign}")


@slurm_app.command("reconcile")
def reconcile(
    campaign: Annotated[
        str | None, typer.Option("--campaign", help="Only this campaign; all by default.")
    ] = None,
) -> None:
    """Make ready again what lost jobs had in hand; what still runs is left alone."""
    from voltscreen.campaign.reconcile import reconcile as compare
    from voltscreen.store import get_campaign

    with _opened() as (store, launchpad):
        if campaign is not None:
            get_campaign(store, campaign)
        typer.echo(compare(launchpad, campaign).message)


@slurm_app.command("status")
def status(
    campaign: Campaign,
    watch: Annotated[bool, typer.Option("--watch", help="Stay and show it anew.")] = False,
    interval: Annotated[
        float, typer.Option("--interval", min=1, help="Seconds between two looks of --watch.")
    ] = 5.0,
    as_json: JsonOption = False,
) -> None:
    """Jobs by state, batches, rate, expected end, and what failed, with reason and log."""
    from voltscreen.campaign.jobs import slurm_status
    from voltscreen.campaign.reconcile import reconcile as compare
    from voltscreen.store.documents import CampaignState

    with _opened() as (store, launchpad):

        def look() -> tuple[SlurmStatus, Reconciled]:
            reconciled = compare(launchpad, campaign)
            return slurm_status(store, campaign), reconciled

        found, reconciled = look()
        if as_json:
            print_json(found.model_dump(mode="json"))
            return
        if reconciled.freed:
            say(reconciled.message)
        if not watch:
            console().print(_shown(found))
            return
        from rich.live import Live

        with Live(_shown(found), console=console()) as live, contextlib.suppress(KeyboardInterrupt):
            while found.state not in (CampaignState.DONE, CampaignState.CANCELLED):
                time.sleep(interval)
                found, _ = look()
                live.update(_shown(found), refresh=True)


def _submit_once(
    store: Store, launchpad: VoltscreenLaunchPad, site: Path, campaign: str, cap: int
) -> Submitted:
    from voltscreen.campaign.reconcile import reconcile as compare
    from voltscreen.cluster.site import load_site
    from voltscreen.cluster.submit import submit_array

    reconciled = compare(launchpad, campaign)
    if reconciled.freed:
        say(reconciled.message)
    ready = {"spec.campaign": campaign, "state": "READY"}
    return submit_array(
        store, load_site(site), campaign, cap, lambda: launchpad.fireworks.count_documents(ready)
    )


def _is_over(store: Store, launchpad: VoltscreenLaunchPad, campaign: str, last: Submitted) -> bool:
    """Whether the campaign has ended, or nothing of it can be done any more."""
    from voltscreen.campaign.control import open_fireworks
    from voltscreen.store import get_campaign
    from voltscreen.store.documents import CampaignState

    if get_campaign(store, campaign).state in (CampaignState.DONE, CampaignState.CANCELLED):
        return True
    stuck = not open_fireworks(launchpad, campaign) and not last.queued and not last.jobs
    if stuck:
        say(f"Nothing more can run; see: {program()} campaign status {campaign}")
    return stuck


@contextlib.contextmanager
def _opened() -> Iterator[tuple[Store, VoltscreenLaunchPad]]:
    from voltscreen.campaign.launchpad import open_launchpad
    from voltscreen.store import connect

    with connect() as store, contextlib.closing(open_launchpad()) as launchpad:
        yield store, launchpad


def _shown(found: SlurmStatus) -> RenderableType:
    """The status for people."""
    from rich.text import Text

    jobs = ", ".join(f"{count} {state.lower()}" for state, count in found.jobs.items()) or "none"
    waits = ", ".join(f"{count} {reason}" for reason, count in found.waiting.items())
    batches = ", ".join(f"{count} {state.value}" for state, count in found.batches.items())
    rate = "" if found.rate is None else f"{found.rate:.0f} structures/s"
    ends = "" if found.ends_at is None else f"{found.ends_at.astimezone():%Y-%m-%d %H:%M:%S}"
    lines = [
        f"{label:<11} {value}"
        for label, value in (
            ("Campaign", f"{found.campaign} ({found.state.value})"),
            ("Jobs", jobs),
            ("Pending", waits),
            ("Batches", batches),
            ("Structures", f"{found.structures_done} of {found.structures}"),
            ("Rate", rate),
            ("Ends about", ends),
        )
        if value
    ]
    if found.spooled:
        folders = " ".join(found.spool_folders)
        lines.append(
            f"{'Spooled':<11} {found.spooled} files wait: {program()} campaign recover {folders}"
        )
    for job in found.failed_jobs[-SHOWN_FAILURES:]:
        lines += [f"{'Job ' + job.job:<11} {job.reason}", f"{'':<11} {job.log}"]
    for batch in found.failed_batches[-SHOWN_FAILURES:]:
        lines += [f"Batch {batch.batch}: {batch.reason}", f"{'':<11} {batch.log or ''}"]
    return Text("\n".join(lines))
