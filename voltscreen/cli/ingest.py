"""`voltscreen ingest`: structures into the database, without a campaign."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from voltscreen.cli.output import say

ingest_app = typer.Typer(
    no_args_is_help=True, help="Structures into the database: mp, files, parquet, hosts."
)


def register(app: typer.Typer) -> None:
    """Add the group."""
    app.add_typer(ingest_app, name="ingest")


@ingest_app.command("mp")
def materials_project(
    filters: Annotated[
        list[str],
        typer.Argument(
            metavar="FILTER=VALUE...",
            help="Filters of the Materials Project's summary: elements=O,Mn num_sites=1,100 "
            "energy_above_hull=0,0.05 is_stable=true material_ids=mp-149,mp-13 ...",
        ),
    ],
    refresh: Annotated[
        bool, typer.Option("--refresh", help="Fetch also what is stored and has changed since.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say how much would be fetched at most.")
    ] = False,
) -> None:
    """Structures of the Materials Project, and the voltages it has computed.

    Stored as they arrive: what was stopped goes on where it was, what is stored is not fetched
    again. The key is taken from the environment variable MP_API_KEY.

    Example: voltscreen ingest mp elements=O exclude_elements=Pb,Hg energy_above_hull=0,0.05
    """
    from voltscreen.campaign.materials_project import foreseen
    from voltscreen.cli.filters import parse_filters
    from voltscreen.sources import estimate
    from voltscreen.sources.mp import parse_query

    chosen = parse_filters(filters)
    parse_query(chosen)
    if dry_run:
        say(f"At most {foreseen(estimate('mp', chosen, Path.cwd()))}.")
        return
    _ingest("mp", chosen, renew=refresh)


@ingest_app.command("files")
def files(
    paths: Annotated[list[str], typer.Argument(help="CIF, POSCAR or JSON files, or globs.")],
) -> None:
    """Structure files."""
    _ingest("files", paths)


@ingest_app.command("parquet")
def parquet(
    path: Annotated[Path, typer.Argument(help="Parquet table of structures.")],
    start: Annotated[int, typer.Option("--start", min=0, help="First row, from 0.")] = 0,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Number of rows.")] = None,
) -> None:
    """A Parquet table: material_id, lattice, atomic_numbers, frac_coords, properties."""
    _ingest("parquet", {"path": str(path), "start": start, "limit": limit})


@ingest_app.command("hosts")
def hosts(
    names: Annotated[
        list[str] | None, typer.Argument(help="Names of known hosts; all by default.")
    ] = None,
) -> None:
    """The known electrode hosts that come with voltscreen."""
    _ingest("hosts", names or "all")


def _ingest(kind: str, value: object, *, renew: bool = False) -> None:
    from tqdm import tqdm

    from voltscreen.campaign.materials_project import News, Plan
    from voltscreen.campaign.plan import ingest_source
    from voltscreen.sources import estimate
    from voltscreen.store import connect

    base = Path.cwd()
    found = new = refused = 0
    # The Materials Project says how much there is when it is asked for it.
    total = None if kind == "mp" else estimate(kind, value, base)
    with connect() as store, tqdm(total=total, unit=" structures", disable=None) as bar:

        class Printed(News):
            def begin(self, plan: Plan) -> None:
                bar.reset(plan.listed)
                bar.write(str(plan), file=sys.stderr)

            def say(self, message: str) -> None:
                bar.write(message, file=sys.stderr)

        news = Printed()
        for chunk in ingest_source(store, kind, value, base, news, renew=renew):
            found += len(chunk.ids)
            new += chunk.new
            refused += chunk.refused
            bar.update(len(chunk.ids))
        electrodes = store.electrodes.estimated_document_count() if kind == "mp" else 0
    say(f"{found} structures: {new} new, {found - new} known before, {refused} refused.")
    if electrodes:
        say(f"{electrodes} known electrodes: their hosts show the computed voltage in `results`.")
    for notice in news.notices:
        say(notice)
    if refused:
        say("A refused structure is kept with its reason; a campaign lists it as failed.")
    if refused or news.incomplete:
        raise typer.Exit(1)
