"""`voltscreen campaign report`: what a campaign took and what became of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from voltscreen.cli.output import JsonOption, print_json, print_table

if TYPE_CHECKING:
    from voltscreen.campaign.report import CampaignReport


def report(
    name: Annotated[str, typer.Argument(help="Name of the campaign.")], as_json: JsonOption = False
) -> None:
    """Time by stage, rate, failures by reason, attempts, memory and device hours."""
    from voltscreen.campaign.report import campaign_report
    from voltscreen.store import connect

    with connect() as store:
        found = campaign_report(store, name)
    if as_json:
        print_json(found.model_dump(mode="json"))
    else:
        print_report(found)


def print_report(found: CampaignReport) -> None:
    """A report as tables."""
    print_table(
        ["Stage", ("Runs", "right"), ("Work (s)", "right"), ("From first to last (s)", "right")],
        [[one.stage, one.runs, f"{one.seconds:.1f}", f"{one.wall_seconds:.1f}"]
         for one in found.stages],
        title=f"{found.name}: {found.state.value}, {found.structures} structures",
    )  # fmt: skip
    if found.failures:
        print_table(
            ["Failed because", ("Structures", "right"), "Such as"],
            [[one.kind, one.count, one.example] for one in found.failures],
        )
    rate = "" if found.rate is None else f"{found.rate:.1f} structures/s"
    hours = ", ".join(f"{value:.3f} h {kind}" for kind, value in found.device_hours.items())
    memory = "" if found.peak_memory is None else f"{found.peak_memory:.0f} MiB"
    if found.peak_gpu_memory is not None:
        memory += f", {found.peak_gpu_memory:.0f} MiB of a GPU"
    attempts = (
        f"{found.attempts} at batches by {found.workers} workers: {found.repeated} repeated, "
        f"{found.attempts_failed} failed, {found.handed_back} handed back"
    )
    for label, value in (
        ("Rate", rate),
        ("Cost", hours),
        ("Attempts", attempts),
        ("Memory", memory),
    ):
        typer.echo(f"{label:<9} {value}")
