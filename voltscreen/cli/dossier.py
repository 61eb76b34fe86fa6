"""`results show`: one candidate on a page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from voltscreen.cli.output import number, print_table

if TYPE_CHECKING:
    from voltscreen.store.documents import StructureDocument, VoltageDocument


def print_dossier(
    document: StructureDocument, voltages: Sequence[VoltageDocument], ions: Sequence[str]
) -> None:
    """Identity, cell, voltages by ion, and local voltages of the ions asked for."""
    typer.echo(f"{document.label or document.formula}")
    typer.echo(f"  formula       {document.formula or '–'}")
    typer.echo(f"  structure id  {document.id}")
    for source in document.sources:
        release = f", release {source.db_version}" if source.db_version else ""
        typer.echo(f"  found in      {source.source}: {source.id}{release}")
    for name, value in document.properties.items():
        typer.echo(f"  {name:<13} {value}")
    for measured in document.measured:
        kind = "" if measured.insertion else " (not an insertion of this ion)"
        typer.echo(
            f"  measured      {measured.ion} {measured.voltage:.2f} V{kind}, {measured.reference}"
        )
    if document.refused:
        typer.echo(f"  refused       {document.refused}")
        return
    from voltscreen.store import unpack

    packed = unpack(document)
    typer.echo(f"  cell          {len(packed)} atoms, {packed.volume:.1f} cubic angstrom")
    if not voltages:
        typer.echo("No voltages yet: screen it in a campaign.")
    for voltage in voltages:
        _print_voltages(voltage)
        for ion in ions:
            _print_local(document, voltage, ion)
    if voltages and not ions:
        typer.echo("Local voltages of every site: add --ion Mg")


def _print_voltages(document: VoltageDocument) -> None:
    if document.reason:
        typer.echo(f"Model {document.model_id}: failed, {document.reason}")
        return
    print_table(
        ["Ion", ("Voltage (V)", "right"), ("90 % interval", "right"), ("Out of domain", "right"),
         "Host", "Note"],
        [
            [
                ion,
                number(v.voltage),
                f"{number(v.lo90)} to {number(v.hi90)}",
                "" if v.out_of_domain is None else f"{v.out_of_domain:.0f} %",
                v.host_state,
                v.error,
            ]
            for ion, v in document.ions.items()
        ],
        title=f"Predicted by model {document.model_id}",
    )  # fmt: skip


def _print_local(document: StructureDocument, voltages: VoltageDocument, ion: str) -> None:
    import numpy as np

    from voltscreen.store import unpack
    from voltscreen.structures import HostState, make_host

    found = voltages.ions.get(ion)
    if found is None or found.additive is None or found.host_state is None:
        return
    host = make_host(unpack(document), ion, HostState(found.host_state)).structure
    additive = np.frombuffer(found.additive, "<f4")
    linear = np.frombuffer(found.linear, "<f4") if found.linear else [None] * len(host)
    print_table(
        ["Site", "Element", "Fractional coordinates", ("Linear (V)", "right"),
         ("Additive (V)", "right")],
        [
            [i, symbol, " ".join(f"{x:8.4f}" for x in coords), number(line), number(add)]
            for i, (symbol, coords, line, add) in enumerate(
                zip(host.symbols, host.frac_coords, linear, additive, strict=True)
            )
        ],
        title=f"Local voltages for {ion}",
    )  # fmt: skip
