"""`voltscreen worker`: works Fireworks until none is ready."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from voltscreen.cli.output import say


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(worker)


def worker(
    campaign: Annotated[
        str | None, typer.Option("--campaign", help="Only this campaign's work; all by default.")
    ] = None,
    nlaunches: Annotated[
        int | None, typer.Option("--nlaunches", min=1, help="Stop after so many Fireworks.")
    ] = None,
    offline: Annotated[
        Path | None,
        typer.Option("--offline", help="Work the files of `campaign export`; no database."),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Say nothing at the end.")] = False,
) -> None:
    """Work campaigns until no Firework is ready and none that runs could make more.

    Start as many as you like, on any machine that reaches the database. SIGTERM, SIGINT and
    SIGUSR1 let the batch in hand finish; the same again hands it back.

    Exit codes: 0 nothing more is ready, 3 MongoDB stays away, 4 the wall time of its SLURM job
    does not suffice for another batch, 5 stopped by a signal, 6 stopped and the batch in hand
    handed back, 7 MongoDB stays away and the batch in hand is in a spool file.
    """
    if offline is not None:
        _work_offline(offline, quiet=quiet)
        return
    from voltscreen.campaign.worker import work
    from voltscreen.store import connect, get_campaign

    with connect() as store:
        if campaign is not None:
            get_campaign(store, campaign)
    worked = work(campaign, nlaunches)
    if not quiet:
        say(f"Ran {worked.launches} Fireworks; {worked.end.sentence}.")
    raise typer.Exit(worked.end)


def _work_offline(folder: Path, *, quiet: bool) -> None:
    from voltscreen.campaign.worker import offline_work

    worked = offline_work(folder)
    if not quiet:
        say(f"Worked {worked.launches} batch files; {worked.end.sentence}.")
    raise typer.Exit(worked.end)
