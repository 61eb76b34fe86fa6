"""`voltscreen screen`: the main job, from a spec to ranked tables."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from voltscreen.cli.output import program, say

if TYPE_CHECKING:
    from voltscreen.campaign.spec import CampaignSpec
    from voltscreen.store import Store

SHOWN_SUBSTITUTIONS = 10


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(screen)


def screen(
    spec: Annotated[Path, typer.Argument(help="Campaign spec (YAML), e.g. workflows/*.yaml.")],
    workers: Annotated[
        int, typer.Option("--workers", "-w", min=1, help="Worker processes on this machine.")
    ] = 1,
    top: Annotated[int, typer.Option("--top", min=1, help="Rows of each table.")] = 15,
    replace: Annotated[
        bool,
        typer.Option(
            "--replace",
            help="Start anew if the campaign was begun with another spec or model; structures "
            "and voltages are kept.",
        ),
    ] = False,
) -> None:
    """Submit a campaign, work it here to the end, and print the ranked candidates.

    Example: voltscreen screen workflows/known-hosts.yaml
    """
    from voltscreen.campaign import control
    from voltscreen.campaign.forget import replace_campaign
    from voltscreen.campaign.launchpad import open_launchpad
    from voltscreen.campaign.spec import load_spec
    from voltscreen.campaign.status import campaign_status
    from voltscreen.cli.campaign import finish
    from voltscreen.store import connect

    loaded = load_spec(spec)
    exit_code = 0
    with connect() as store:
        with contextlib.closing(open_launchpad()) as launchpad:
            if replace and replace_campaign(store, launchpad, loaded):
                say(f"Campaign {loaded.name!r} was begun otherwise and is started anew.")
            submission = control.submit(store, launchpad, loaded)
            waiting = bool(control.open_fireworks(launchpad, loaded.name))
        say(submission.message)
        if waiting:
            try:
                finish(store, loaded.name, workers)
            except typer.Exit as ended:
                exit_code = ended.exit_code
        status = campaign_status(store, loaded.name)
        examples = [_print_ion(store, loaded, ion, top) for ion in loaded.ions]
        example = next((key for key in examples if key), "ID")
        if status.predicted:
            _say_where(loaded.name, loaded.ions[0], example, status.predicted, status.seconds)
    if exit_code:
        raise typer.Exit(exit_code)


def _print_ion(store: Store, spec: CampaignSpec, ion: str, top: int) -> str | None:
    """What was found for an ion; the id of the best candidate."""
    from voltscreen.cli.results import has_known, print_results
    from voltscreen.store import ResultQuery, query_results

    name = spec.name
    best = query_results(store, ResultQuery(campaign=name, ion=ion, top=top))
    known = query_results(store, ResultQuery(campaign=name, ion=ion, measured=True))
    with_known = has_known(store, name, ion)
    if best:
        print_results(best, f"{name}: {ion}, best {len(best)}", with_known=with_known)
    if others := [row for row in known if row.rank > len(best)]:
        title = f"{name}: {ion}, others with a measured voltage"
        print_results(others, title, with_known=with_known)
    if spec.substitute:
        _print_suggested(store, name, ion)
    return (best[0].source_ids or [best[0].structure_id])[0] if best else None


def _print_suggested(store: Store, name: str, ion: str) -> None:
    """The substitutions that improve the voltage, the largest gain first."""
    from voltscreen.cli.substitute import print_substitutions
    from voltscreen.store.documents import SubstitutionDocument, Verdict

    rows = store.substitutions.find({"campaign": name, "ion": ion, "verdict": Verdict.IMPROVES})
    found = sorted(map(SubstitutionDocument.from_mongo, rows), key=lambda one: -(one.change or 0))
    if found:
        shown = found[:SHOWN_SUBSTITUTIONS]
        title = f"{name}: {ion}, best {len(shown)} of {len(found)} substitutions that improve"
        print_substitutions(shown, title)


def _say_where(name: str, ion: str, example: str, predicted: int, seconds: float | None) -> None:
    from voltscreen.settings import settings

    where = "MongoDB" if settings().mongo_uri else f"the embedded database in {settings().home}"
    took = "" if seconds is None else f" in {seconds:.0f} s"
    typer.echo(f"{predicted} structures predicted{took}; everything is kept in {where}.")
    typer.echo("Next:")
    for command, purpose in (
        (f"results query --campaign {name} --ion {ion} --min-voltage 2", "filter"),
        (f"results show {example} --ion {ion}", "one candidate, atom by atom"),
        (f"results export --campaign {name} --ion {ion} -o {ion}.csv", "take it along"),
        ("init my-screening", "specs to start your own campaign"),
        *(() if settings().mongo_uri else (("db stop", "stop the database"),)),
    ):
        typer.echo(f"  {program()} {command:<58} # {purpose}")
