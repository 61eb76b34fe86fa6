"""`voltscreen export`: inputs for DFT, and its results as labels."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from voltscreen.cli.output import say

export_app = typer.Typer(no_args_is_help=True, help="The way to DFT: dft, dft-labels.")


def register(app: typer.Typer) -> None:
    """Add the group."""
    app.add_typer(export_app, name="export")


@export_app.command("dft")
def dft(
    campaign: Annotated[str, typer.Option("--campaign", help="Name of the campaign.")],
    ion: Annotated[str, typer.Option("--ion", help="Working ion, e.g. Mg.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write.")],
    top: Annotated[int, typer.Option("--top", min=1, help="Candidates, the best.")] = 10,
    command: Annotated[
        str, typer.Option("--command", help="Runs VASP in a calculation's folder.")
    ] = "srun vasp_std",
) -> None:
    """Write VASP inputs for both ends of the best candidates that had a second look.

    One folder a calculation (pymatgen's MPRelaxSet, POTCAR.spec instead of POTCAR), a manifest,
    and a FireWorks workflow for `lpad add`. Example:
    voltscreen export dft --campaign mg-oxides --ion Mg --top 10 -o mg-dft
    """
    from voltscreen.campaign.export_dft import dft_electrodes, write_workflow
    from voltscreen.ions import working_ion
    from voltscreen.potentials.chgnet import chgnet_label
    from voltscreen.screening.dft_inputs import write_dft_inputs
    from voltscreen.store import connect

    symbol = working_ion(ion).symbol
    with connect() as store:
        electrodes = dft_electrodes(store, campaign, symbol, top, chgnet_label())
    path = write_dft_inputs(electrodes, symbol, output)
    workflow = write_workflow(path, command)
    say(f"Wrote {len(electrodes)} electrodes, {2 * len(electrodes) + 1} calculations: {path}")
    say(f"Next: lpad add {workflow}; then voltscreen export dft-labels {output} -o DIR")


@export_app.command("dft-labels")
def dft_labels(
    folder: Annotated[Path, typer.Argument(help="Folder of `export dft`.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the labels.")],
) -> None:
    """Read finished DFT calculations as labelled electrodes, for `voltscreen model dataset`."""
    from voltscreen.sources.dft_results import read_dft_results, write_electrodes

    results = read_dft_results(folder)
    for name, reason in results.failed.items():
        say(f"No label: {name}: {reason}")
    count = write_electrodes(results, output)
    say(
        f"Wrote {count} labelled electrodes: {output}. "
        f"Next: voltscreen model dataset --data {output} --output set.parquet"
    )
    if results.failed:
        raise typer.Exit(1)
