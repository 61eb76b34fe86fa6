"""`voltscreen doctor`: finds and repairs what is inconsistent."""

from __future__ import annotations

import contextlib
from typing import Annotated

import typer

from voltscreen.cli.output import JsonOption, print_json, program, say


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(doctor)


def doctor(
    repair: Annotated[
        bool, typer.Option("--repair", help="Mend what is found; what somebody works on is left.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Look for what crashes left behind: lost runs, locks, orphans, holes, damaged models.

    Without --repair nothing is changed. Exit code 1 when something is left to mend.
    """
    from voltscreen.campaign.doctor import Patient, examine
    from voltscreen.campaign.launchpad import open_launchpad
    from voltscreen.settings import settings
    from voltscreen.store import connect

    with connect(indexes=False) as store, contextlib.closing(open_launchpad()) as launchpad:
        diagnosis = examine(Patient(store, launchpad, settings().home), repair=repair)
    reasons = {id(finding): reason for finding, reason in diagnosis.left}
    if as_json:
        print_json(
            [
                {
                    "kind": finding.kind.value,
                    "subject": finding.subject,
                    "meaning": finding.meaning,
                    "repair": finding.repair,
                    "mended": finding in diagnosis.mended,
                }
                for finding in diagnosis.findings
            ]
        )
    else:
        for finding in diagnosis.findings:
            typer.echo(f"{finding.kind.value}: {finding.subject}")
            typer.echo(f"  means   {finding.meaning}")
            done = "did" if finding in diagnosis.mended else "repair"
            typer.echo(f"  {done:<7} {reasons.get(id(finding), finding.repair)}")
    found, mended = len(diagnosis.findings), len(diagnosis.mended)
    if not found:
        say("Nothing is inconsistent.")
    elif repair:
        say(f"{found} found, {mended} mended, {found - mended} left.")
    else:
        say(f"{found} found. Mend with: {program()} doctor --repair")
    if found > mended:
        raise typer.Exit(1)
