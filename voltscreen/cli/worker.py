"""`voltscreen worker`: works Fireworks until none is ready."""

from __future__ import annotations

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
    quiet: Annotated[bool, typer.Option("--quiet", help="Say nothing at the end.")] = False,
) -> None:
    """Work campaigns until no Firework is ready and none that runs could make more.

    Start as many as you like, on any machine that reaches the database. SIGTERM, SIGINT and
    SIGUSR1 let the batch in hand finish.
    """
    from voltscreen.campaign.worker import work
    from voltscreen.store import connect, get_campaign

    with connect() as store:
        if campaign is not None:
            get_campaign(store, campaign)
    worked = work(campaign, nlaunches)
    if not quiet:
        why = "stopped as asked" if worked.stopped else "nothing more is ready"
        say(f"Ran {worked.launches} Fireworks; {why}.")
