"""`results show`: one candidate on a page of the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from voltscreen.cli.output import number, print_table
from voltscreen.cli.second_looks import print_second_looks

if TYPE_CHECKING:
    from voltscreen.report.dossier import Crystal, Dossier, IonEntry, Predictions
    from voltscreen.store.documents import KnownVoltage


def print_dossier(dossier: Dossier, ions: Sequence[str]) -> None:
    """Identity, cell, voltages by ion, and local voltages of the ions asked for."""
    _print_identity(dossier)
    if dossier.refused or dossier.crystal is None:
        _line("refused", dossier.refused)
        return
    _print_place(dossier, dossier.crystal)
    if not dossier.predictions:
        typer.echo("No voltages yet: screen it in a campaign.")
    for predictions in dossier.predictions:
        _print_voltages(predictions)
        for entry in predictions.ions:
            if entry.ion in ions:
                _print_local(dossier.crystal, entry)
    _print_substitutions(dossier)
    if dossier.predictions and not ions:
        typer.echo("Local voltages of every site: add --ion Mg")


def _print_identity(dossier: Dossier) -> None:
    typer.echo(dossier.name or dossier.structure_id)
    _line("formula", dossier.formula or "–")
    _line("structure id", dossier.structure_id)
    for source in dossier.sources:
        release = f", release {source.db_version}" if source.db_version else ""
        aliases = f", also {' '.join(source.aliases)}" if source.aliases else ""
        gone = f", replaced by {source.superseded_by}" if source.superseded_by else ""
        _line("found in", f"{source.source}: {source.id}{aliases}{release}{gone}")
    for name, value in dossier.properties.items():
        _line(name, value)
    for measured in dossier.measured:
        kind = "" if measured.insertion else " (not an insertion of this ion)"
        _line("measured", f"{measured.ion} {measured.voltage:.2f} V{kind}, {measured.reference}")
    for ion, one in dossier.known.items():
        _line("known", f"{ion} {known_text(one)}")


def _print_place(dossier: Dossier, crystal: Crystal) -> None:
    """The cell, what is like it, and where campaigns have put it."""
    group = f", space group {crystal.space_group}" if crystal.space_group else ""
    _line("cell", f"{len(crystal.symbols)} atoms, {crystal.volume:.1f} cubic angstrom{group}")
    for other in dossier.similar:
        kind = "same framework" if other.same_framework else "same formula"
        _line("similar", f"{other.name}, {kind}, {other.structure_id[:8]}")
    for place in dossier.rankings:
        front = ", on the Pareto front" if place.pareto else ""
        _line("ranked", f"{place.rank} for {place.ion} in campaign {place.campaign}{front}")


def _line(name: str, value: object) -> None:
    typer.echo(f"  {name:<13} {value}")


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


def _print_voltages(predictions: Predictions) -> None:
    model = predictions.model
    if predictions.reason:
        typer.echo(f"Model {model.id}: failed, {predictions.reason}")
        return
    refined = any(entry.refined for entry in predictions.ions)
    print_table(
        ["Ion", ("Voltage (V)", "right"), ("90 % interval", "right"),
         *((("Refined (V)", "right"), ("its interval", "right")) if refined else ()),
         ("mAh/g", "right"), ("Wh/kg", "right"), ("Out of domain", "right"), "Host", "Note"],
        [
            [
                v.ion,
                number(v.voltage),
                f"{number(v.lo90)} to {number(v.hi90)}",
                *(_refined(v) if refined else ()),
                number(v.capacity, 0),
                number(v.energy_density, 0),
                "" if v.out_of_domain is None else f"{v.out_of_domain:.0f} %",
                v.host_state,
                v.error,
            ]
            for v in predictions.ions
        ],
        title=f"Predicted by model {model.name} {model.id}",
    )  # fmt: skip
    print_second_looks(
        [
            (v.ion, one.potential, one)
            for v in predictions.ions
            for one in v.refined
            if not one.reason
        ]
    )
    for v in predictions.ions:
        for one in v.refined:
            if one.reason:
                typer.echo(f"Second look for {v.ion} failed: {one.reason}")


def _refined(entry: IonEntry) -> tuple[str, str]:
    """Voltages and intervals by second looks that succeeded."""
    found = [one for one in entry.refined if one.voltage is not None]
    return (
        ", ".join(number(one.voltage) for one in found),
        ", ".join(f"{number(one.lo90)} to {number(one.hi90)}" for one in found),
    )


def _print_local(crystal: Crystal, entry: IonEntry) -> None:
    if entry.local is None:
        return
    local = entry.local
    linear: Sequence[float | None] = local.linear or [None] * len(local.sites)
    print_table(
        ["Site", "Element", "Fractional coordinates", ("Linear (V)", "right"),
         ("Additive (V)", "right")],
        [
            [i, crystal.symbols[i], " ".join(f"{x:8.4f}" for x in crystal.frac_coords[i]),
             number(line), number(add)]
            for i, line, add in zip(local.sites, linear, local.additive, strict=True)
        ],
        title=f"Local voltages for {entry.ion}",
    )  # fmt: skip


def _print_substitutions(dossier: Dossier) -> None:
    if not dossier.substitutions:
        return
    print_table(
        ["Ion", "Swap", ("V", "right"), ("Change (V)", "right"), ("90 % interval", "right"),
         "Verdict"],
        [
            [s.ion, s.swap, number(s.voltage_after), number(s.change),
             f"{number(s.lo90)} to {number(s.hi90)}", s.verdict]
            for s in dossier.substitutions
        ],
        title="Substitutions on record",
    )  # fmt: skip
