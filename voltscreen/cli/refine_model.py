"""`voltscreen refine train` and `refine evaluate`: the regressor behind refined voltages."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from voltscreen.cli.output import JsonOption, number, print_json, print_table, say
from voltscreen.cli.training import DEFAULT_DATA, DEFAULT_LABELS, DataOption, LabelsOption

if TYPE_CHECKING:
    from voltscreen.train.dataset import LabelledElectrodes
    from voltscreen.train.out_of_fold import HeldOut, OutOfFold

SPLITS = ("grouped", "random")


def register_refiner(refine_app: typer.Typer) -> None:
    """Add the commands to the group."""
    refine_app.command("train")(train)
    refine_app.command("evaluate")(evaluate)


def train(
    data: DataOption = DEFAULT_DATA,
    labels: LabelsOption = DEFAULT_LABELS,
    model: Annotated[str, typer.Option("--model", help="Whose fast voltages.")] = "default",
    output: Annotated[
        Path | None, typer.Option("--output", help="File; the shipped one by default.")
    ] = None,
) -> None:
    """Fit the refiner to labelled electrodes: a minute; needs their insertion energies.

    Also writes what each tier says of rows held out, for `refine evaluate`.
    """
    from tqdm import tqdm

    from voltscreen.model import model_path, read_card
    from voltscreen.model.refiner import refiner_path, save_refiner
    from voltscreen.potentials.chgnet import chgnet_label
    from voltscreen.train.both_ends import BOTH_ENDS, RELAXED, read_ends_voltages
    from voltscreen.train.dataset import load_electrodes
    from voltscreen.train.fit_refiner import RefinerRun, fit_refiner
    from voltscreen.train.out_of_fold import OutOfFold, store_path
    from voltscreen.train.refined import read_columns

    electrodes = load_electrodes(data)
    oof = OutOfFold.read(store_path(model_path(model)))
    oof.check(electrodes)
    path = output or refiner_path()
    run = RefinerRun(
        electrodes, oof, oof.model_recipe, read_card(model)[0], chgnet_label(),
        read_columns(electrodes, labels),
        {
            tier: read_ends_voltages(electrodes, labels / name)
            for tier, name in (("relaxed", RELAXED), ("both-ends", BOTH_ENDS))
        },
    )  # fmt: skip
    command = shlex.join(["voltscreen", *sys.argv[1:]])
    with tqdm(total=5, disable=None, leave=False) as bar:

        def progress(what: str) -> None:
            bar.set_description(what)
            bar.update()

        refiner, store = fit_refiner(run, command, progress)
    save_refiner(refiner, path)
    store.write(store_path(path))
    say(f"Wrote {path}: {path.stat().st_size / 1e6:.2f} MB, and {store_path(path).name}")


def evaluate(
    data: DataOption = DEFAULT_DATA,
    path: Annotated[
        Path | None, typer.Option("--file", help="A refiner; the shipped one by default.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Errors by tier on held-out rows, from the predictions stored beside the refiner."""
    from voltscreen.model.refiner import load_refiner, refiner_path
    from voltscreen.train.dataset import load_electrodes
    from voltscreen.train.out_of_fold import OutOfFold, store_path

    file = path or refiner_path()
    card = load_refiner(file).card
    electrodes = load_electrodes(data)
    oof = OutOfFold.read(store_path(file))
    oof.check(electrodes)
    if as_json:
        print_json(card.model_dump(mode="json"))
        return
    _print_tiers(electrodes, oof)
    _print_ions(electrodes, oof)
    say(
        f"{card.with_short_look} of {card.rows} rows have relaxation steps. {card.limits[0]}. "
        f"{card.limits[1]}. {card.limits[2]}."
    )


def _print_tiers(data: LabelledElectrodes, oof: OutOfFold) -> None:
    from voltscreen.train.evaluate import ClusterBootstrap

    rows = []
    for tier in oof.recipes:
        cells: list[str] = []
        count = 0
        for split in SPLITS:
            own, fast = oof.get(tier, split, data), oof.get("fast", split, data)
            known, count = own.rows, int(own.rows.sum())
            bootstrap = ClusterBootstrap(data.group[known])
            errors, before = ((data.voltage - one.prediction)[known] for one in (own, fast))
            gain = bootstrap.difference(errors, before)
            cells += [
                number(abs(errors).mean(), 3),
                ""
                if tier == "fast"
                else f"{gain.difference:+.3f} [{gain.lo95:+.3f}, {gain.hi95:+.3f}]",
                _cover(data, own),
            ]
        rows.append([tier, count, *cells])
    print_table(
        ["Tier", ("Rows", "right"), ("Grouped", "right"), ("less fast", "right"),
         ("in 90 %", "right"), ("Random", "right"), ("less fast", "right"), ("in 90 %", "right")],
        rows,
        title="Mean absolute error, V",
    )  # fmt: skip
    for tier, description in oof.descriptions.items():
        if tier in oof.recipes:
            say(f"  {tier}: {description}")


def _print_ions(data: LabelledElectrodes, oof: OutOfFold) -> None:
    from voltscreen.ions import ION_SYMBOLS

    for split in SPLITS:
        rows = []
        for ion in ION_SYMBOLS:
            chosen = data.ion == ion
            cells: list[object] = [ion, int(chosen.sum())]
            for tier in oof.recipes:
                own = oof.get(tier, split, data)
                known = own.rows & chosen
                error = abs(data.voltage - own.prediction)[known]
                cells.append(number(error.mean(), 3) if known.any() else "")
            rows.append([*cells, _cover(data, oof.get("refined", split, data), chosen)])
        heads = [(tier, "right") for tier in (*oof.recipes, "in 90 %")]
        print_table(["Ion", ("Rows", "right"), *heads], rows, title=f"By ion, {split} folds")


def _cover(data: LabelledElectrodes, own: HeldOut, chosen: object = True) -> str:
    import numpy as np

    known = own.rows & np.isfinite(own.lo90) & np.asarray(chosen)
    if not known.any():
        return ""
    inside = (own.lo90 <= data.voltage) & (data.voltage <= own.hi90)
    return f"{100 * inside[known].mean():.1f} %"
