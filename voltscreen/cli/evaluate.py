"""`voltscreen model evaluate` and `experiments`: errors on held-out rows and real cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import typer

from voltscreen.cli.output import JsonOption, console, number, print_json, print_table, say
from voltscreen.cli.training import (
    DEFAULT_DATA,
    DEFAULT_LABELS,
    DataOption,
    LabelsOption,
    PartsBar,
    PoolOption,
    PretrainedOption,
    WorkersOption,
    training_run,
)

if TYPE_CHECKING:
    from voltscreen.train.dataset import LabelledElectrodes
    from voltscreen.train.out_of_fold import OutOfFold
    from voltscreen.train.recipe import TrainingRun
    from voltscreen.train.report import CardReport, MeasuredSystem

MAIN_SPLITS = ("grouped", "random")
"""Splits that are printed by ion."""
CURVE_SPLITS = (*MAIN_SPLITS, "formula")
"""Splits whose error against domain is printed."""
COLUMNS: Final[tuple[Literal["voltage", "paper", "classical"], ...]] = (
    "voltage", "paper", "classical",
)  # fmt: skip
"""Predictions that stand beside the measured voltages."""


def register_evaluation(model_app: typer.Typer) -> None:
    """Add the commands to the group."""
    model_app.command("evaluate")(evaluate)
    model_app.command("experiments")(experiments)


def evaluate(
    name: Annotated[str, typer.Argument(help="Name, or a .safetensors file.")] = "default",
    ladder: Annotated[
        bool,
        typer.Option(
            "--ladder", help="Also the model by split and ion, its intervals and its domain."
        ),
    ] = False,
    data: DataOption = DEFAULT_DATA,
    rerun: Annotated[
        bool,
        typer.Option("--rerun", help="Recompute the out-of-fold predictions first; takes hours."),
    ] = False,
    recipe: Annotated[
        str | None,
        typer.Option(
            "--recipe",
            help="With --rerun: recompute this recipe alone, and set it beside what is stored.",
        ),
    ] = None,
    split: Annotated[
        str, typer.Option("--split", help="With --recipe: on this split.")
    ] = MAIN_SPLITS[0],
    labels: LabelsOption = DEFAULT_LABELS,
    pool: PoolOption = None,
    pretrained: PretrainedOption = None,
    workers: WorkersOption = 2,
    as_json: JsonOption = False,
) -> None:
    """Errors on held-out rows, from the out-of-fold predictions stored beside the model.

    Recipes are compared on the same rows; labels are read from the data folder.
    """
    from voltscreen.errors import VoltscreenError
    from voltscreen.model import model_path, read_card
    from voltscreen.train.out_of_fold import OutOfFold, store_path
    from voltscreen.train.report import build_report

    path = model_path(name)
    _, card = read_card(name)
    if recipe and not rerun:
        raise VoltscreenError("--recipe goes with --rerun")
    if rerun:
        _refuse_missing(data)
        run = training_run(data, labels, pool, pretrained, workers)
        if recipe:
            _rerun_rung(run, recipe, split, OutOfFold.read(store_path(path)), as_json=as_json)
            return
        electrodes, oof = run.data, _recomputed(run)
    else:
        electrodes, oof = _labels(data), OutOfFold.read(store_path(path))
    report = build_report(electrodes, oof, oof.model_recipe)
    if as_json:
        print_json(
            {
                "model": card.name,
                "recipe": oof.model_recipe,
                "recipes": oof.descriptions,
                "potential": card.potential,
                **{key: [entry.model_dump() for entry in value] for key, value in _lists(report)},
            }
        )
        return
    _print_recipes(report, oof)
    if ladder:
        print_evaluation(report, oof.model_recipe)
    if card.potential:
        _note(f"Universal potential: {card.potential}")


def _lists(report: CardReport) -> list[tuple[str, Sequence[Any]]]:
    return [
        ("ladder", report["ladder"]),
        ("comparisons", report["comparisons"]),
        ("coverage", report["coverage"]),
        ("domain_curve", report["domain_curve"]),
    ]


def _labels(path: Path) -> LabelledElectrodes:
    from voltscreen.train.dataset import load_electrodes

    _refuse_missing(path)
    return load_electrodes(path)


def _refuse_missing(path: Path) -> None:
    from voltscreen.errors import FileFormatError

    if not path.exists():
        raise FileFormatError(
            f"there are no data at {path}: the labels are not part of voltscreen; give the "
            "folder with electrodes.csv by --data or in VOLTSCREEN_DATA"
        )


def _recomputed(run: TrainingRun) -> OutOfFold:
    """All recipes on all folds anew; finished parts are used again."""
    from voltscreen.train.recipe import rerun_out_of_fold

    with PartsBar() as bar:
        return rerun_out_of_fold(run, bar.update)


def _rerun_rung(
    run: TrainingRun, recipe: str, split: str, stored: OutOfFold, *, as_json: bool
) -> None:
    """One recipe on one split anew, beside what is stored of it."""
    import numpy as np

    from voltscreen.train.recipe import rerun_rung

    stored.check(run.data)
    with PartsBar() as bar:
        again = rerun_rung(run, recipe, split, bar.update)
    held = stored.get(recipe, split, run.data).prediction
    rows = np.isfinite(again) & np.isfinite(held)
    voltage, apart = run.data.voltage[rows], np.abs(again - held)[rows]
    found: dict[str, Any] = {
        "recipe": recipe,
        "split": split,
        "rows": int(rows.sum()),
        "mae": float(np.abs(again[rows] - voltage).mean()),
        "stored_mae": float(np.abs(held[rows] - voltage).mean()),
        "mean_apart": float(apart.mean()),
        "most_apart": float(apart.max(initial=0.0)),
    }
    if as_json:
        print_json(found)
        return
    print_table(
        [f"{recipe}, {split} split, all ions", ("Rows", "right"), ("MAE (V)", "right")],
        [
            ["recomputed", str(found["rows"]), number(found["mae"], 4)],
            ["stored", str(found["rows"]), number(found["stored_mae"], 4)],
        ],
    )
    _note(
        f"Predictions of a row are {found['mean_apart']:.4f} V apart on average, "
        f"{found['most_apart']:.4f} V at most."
    )


def _print_recipes(report: CardReport, oof: OutOfFold) -> None:
    """A row a recipe, the best on grouped folds first."""
    from voltscreen.train.report import PAPER_RECIPE

    errors = {
        (e.recipe, e.split): e.mae
        for e in report["ladder"]
        if e.ion == "all" and e.rows == "all" and e.split in MAIN_SPLITS
    }
    against = {
        (c.recipe, c.split): f"{c.difference:+.3f} [{c.lo95:+.3f}, {c.hi95:+.3f}]"
        for c in report["comparisons"]
        if c.against == PAPER_RECIPE
    }
    recipes = sorted(oof.recipes, key=lambda recipe: errors.get((recipe, "grouped"), float("inf")))
    print_table(
        ["Recipe", ("Grouped", "right"), ("less the paper's", "right"), ("Random", "right"),
         ("less the paper's", "right")],
        [
            [
                f"{recipe} *" if recipe == oof.model_recipe else recipe,
                *(
                    cell
                    for split in MAIN_SPLITS
                    for cell in (
                        number(errors.get((recipe, split)), 3), against.get((recipe, split), "–")
                    )
                ),
            ]
            for recipe in recipes
        ],
        title="Mean absolute error (V) on the same held-out rows, all ions",
    )  # fmt: skip
    _note("* the model's recipe. Grouped: by host chemical system; random: by row.")
    _note(
        "Less the paper's: difference to the paper's recipe on the same folds, with its paired "
        "95 % interval (bootstrap over host chemical systems); a gain is where both are negative."
    )
    for recipe in recipes:
        if description := oof.descriptions.get(recipe):
            _note(f"  {recipe}: {description}")
    typer.echo("")


def print_evaluation(report: CardReport, recipe: str) -> None:
    """The errors of a model's recipe by split and ion, its coverage and its domain curve."""
    splits = list(dict.fromkeys(e.split for e in report["ladder"] if e.recipe == recipe))
    _print_errors(report, recipe, [(split, "all") for split in splits], "by split, all ions")
    for split in MAIN_SPLITS:
        ions = [
            e.ion for e in report["ladder"] if (e.recipe, e.split, e.rows) == (recipe, split, "all")
        ]
        if ions:
            _print_errors(report, recipe, [(split, ion) for ion in ions], f"by ion, {split} split")
    _print_coverage(report)
    _print_domain_curve(report)


def _print_errors(
    report: CardReport, recipe: str, parts: list[tuple[str, str]], title: str
) -> None:
    entries = {(e.split, e.ion, e.rows): e for e in report["ladder"] if e.recipe == recipe}
    rows = []
    for split, ion in parts:
        entry = entries[split, ion, "all"]
        kept = entries.get((split, ion, "paper-trimmed"))
        rows.append(
            [split, ion, entry.n, number(entry.mae, 3), number(entry.median, 3),
             number(entry.rmse, 3), number(entry.r2, 3),
             kept.n if kept else "–", number(kept.mae if kept else None, 3)]
        )  # fmt: skip
    print_table(
        ["Split", "Ion", ("Rows", "right"), ("MAE (V)", "right"), ("Median", "right"),
         ("RMSE", "right"), ("R2", "right"), ("Trimmed rows", "right"), ("MAE (V)", "right")],
        rows,
        title=f"Errors of {recipe} {title}",
    )  # fmt: skip


def _print_coverage(report: CardReport) -> None:
    shown = [e for e in report["coverage"] if e.ion == "all" or e.split in MAIN_SPLITS]
    if not shown:
        return
    print_table(
        ["Split", "Ion", ("Rows", "right"), ("80 % interval", "right"),
         ("90 % interval", "right"), ("Mean width of 90 % (V)", "right")],
        [
            [e.split, e.ion, e.n, _percent(e.cover80), _percent(e.cover90), number(e.width90)]
            for e in shown
        ],
        title="Coverage of the intervals on held-out rows",
    )  # fmt: skip


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f} %"


def _print_domain_curve(report: CardReport) -> None:
    for split in CURVE_SPLITS:
        deciles = [e for e in report["domain_curve"] if e.split == split]
        if deciles:
            print_table(
                ["Tenth of rows", ("Out of domain up to", "right"), ("Rows", "right"),
                 ("MAE (V)", "right")],
                [
                    [e.decile, f"{number(e.highest, 1)} %", e.n, number(e.mae, 3)] for e in deciles
                ],
                title=f"Error against out of domain, {split} split",
            )  # fmt: skip


def experiments(
    model: Annotated[
        str, typer.Option("--model", help="Name of a model, or a .safetensors file.")
    ] = "default",
    data: DataOption = DEFAULT_DATA,
    as_json: JsonOption = False,
) -> None:
    """The ten measured systems of the paper's Fig. 4, beside what is predicted for them.

    The paper's own network and the classical baseline need the data folder.
    """
    from voltscreen.model import load_model
    from voltscreen.model.device import prepare
    from voltscreen.train.report import mean_deviation, measured_systems

    labels = _labels(data) if data.exists() else None
    paper = data / "paper"
    systems = measured_systems(
        prepare(load_model(model)), labels, paper if paper.is_dir() else None
    )
    if as_json:
        print_json(
            {
                "model": model,
                "systems": [asdict(system) for system in systems],
                "mean_deviation": {
                    column: asdict(mean_deviation(systems, column)) for column in COLUMNS
                },
            }
        )
        return
    _print_experiments(systems)
    if labels is None:
        say(
            f"There are no data at {data}: the paper's network and the classical baseline are "
            "left out; give it by --data or in VOLTSCREEN_DATA."
        )


def _print_experiments(systems: list[MeasuredSystem]) -> None:
    from voltscreen.train.report import mean_deviation

    deviations = [mean_deviation(systems, column) for column in COLUMNS]
    print_table(
        ["System", "Ion", ("Measured (V)", "right"), ("voltscreen, 90 % interval", "right"),
         ("Paper", "right"), ("Classical", "right")],
        [
            *(
                [
                    system.label,
                    system.ion if system.insertion else f"{system.ion} *",
                    f"{number(system.measured)} ± {number(system.uncertainty)}",
                    f"{number(system.voltage)}  {_interval(system)}",
                    number(system.paper),
                    number(system.classical),
                ]
                for system in systems
            ),
            [
                "Mean deviation (insertions)", "", "",
                *(f"{number(deviation.mean)} ({deviation.n})" for deviation in deviations),
            ],
        ],
        title="Measured average voltages (Fig. 4 of the paper) and predictions, V",
    )  # fmt: skip
    for system in systems:
        if not system.insertion:
            _note(
                f"* {system.label}: not, or not only, an insertion of {system.ion}; left out of "
                f"the mean. {system.note or ''}"
            )
    _note(
        "Paper: its own network for the ion. Classical: random forest on the composition, fitted "
        "without the chemical systems of these hosts."
    )
    if labelled := [f"{system.host} ({system.ion})" for system in systems if system.labelled]:
        _note(
            "The labels, which voltscreen's and the paper's networks learned from, have the "
            f"chemical system of {', '.join(labelled)}."
        )


def _note(sentence: str) -> None:
    """A paragraph below a table, as wide as tables are."""
    console().print(sentence, markup=False)


def _interval(system: MeasuredSystem) -> str:
    if system.lo90 is None or system.hi90 is None:
        return "–"
    return f"[{number(system.lo90)}, {number(system.hi90)}]"
