"""`results show`: one candidate on a page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from voltscreen.cli.output import number, print_table

if TYPE_CHECKING:
    from voltscreen.store.documents import KnownVoltage, StructureDocument, VoltageDocument


def print_dossier(
    document: StructureDocument,
    voltages: Sequence[VoltageDocument],
    known: Sequence[tuple[str, KnownVoltage]],
    ions: Sequence[str],
) -> None:
    """Identity, cell, voltages by ion, and local voltages of the ions asked for."""
    typer.echo(f"{document.label or document.formula}")
    typer.echo(f"  formula       {document.formula or '–'}")
    typer.echo(f"  structure id  {document.id}")
    for source in document.sources:
        release = f", release {source.db_version}" if source.db_version else ""
        aliases = f", also {' '.join(source.aliases)}" if source.aliases else ""
        gone = f", replaced by {source.superseded_by}" if source.superseded_by else ""
        typer.echo(f"  found in      {source.source}: {source.id}{aliases}{release}{gone}")
    for name, value in document.properties.items():
        typer.echo(f"  {name:<13} {value}")
    for measured in document.measured:
        kind = "" if measured.insertion else " (not an insertion of this ion)"
        typer.echo(
            f"  measured      {measured.ion} {measured.voltage:.2f} V{kind}, {measured.reference}"
        )
    for ion, one in known:
        typer.echo(f"  known         {ion} {known_text(one)}")
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


def known_text(known: KnownVoltage) -> str:
    """What the Materials Project has computed of an electrode, on a line."""
    change = None if known.volume_change is None else 100 * known.volume_change
    return (
        f"{known.voltage:.2f} V, {number(known.capacity, 0)} mAh/g, volume {number(change, 1)} %, "
        f"above hull {number(known.stability_charge, 3)} charged and "
        f"{number(known.stability_discharge, 3)} discharged (eV/atom), by the Materials Project: "
        f"{known.battery_id} {known.db_version}, of which this is the "
        f"{'host' if known.end == 'host' else 'discharged end'}"
    )


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
