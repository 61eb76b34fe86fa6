"""`voltscreen ingest`: structures into the database, without a campaign."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from voltscreen.cli.output import say

ingest_app = typer.Typer(
    no_args_is_help=True, help="Structures into the database: files, parquet, hosts."
)


def register(app: typer.Typer) -> None:
    """Add the group."""
    app.add_typer(ingest_app, name="ingest")


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


def _ingest(kind: str, value: object) -> None:
    from tqdm import tqdm

    from voltscreen.sources import candidates, estimate
    from voltscreen.store import connect
    from voltscreen.store.structures import ingest

    base = Path.cwd()
    total = estimate(kind, value, base)
    found = new = refused = 0
    with connect() as store, tqdm(total=total, unit=" structures", disable=None) as bar:
        for chunk in ingest(store, candidates(kind, value, base)):
            found += len(chunk.ids)
            new += chunk.new
            refused += chunk.refused
            bar.update(len(chunk.ids))
    say(f"{found} structures: {new} new, {found - new} known before, {refused} refused.")
    if refused:
        say("A refused structure is kept with its reason; a campaign lists it as failed.")
        raise typer.Exit(1)
