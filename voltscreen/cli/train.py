"""`voltscreen model train`: the shipped recipe from labels to a model with its card."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from voltscreen.cli.evaluate import print_evaluation
from voltscreen.cli.output import say
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
    from voltscreen.train.recipe import TrainingRun


def register_training(model_app: typer.Typer) -> None:
    """Add the command to the group of models."""
    model_app.command("train")(train)


def train(
    name: Annotated[str, typer.Option("--name", help="What to call the model.")],
    data: DataOption = DEFAULT_DATA,
    labels: LabelsOption = DEFAULT_LABELS,
    pool: PoolOption = None,
    pretrained: PretrainedOption = None,
    save_pretrained: Annotated[
        Path | None,
        typer.Option("--save-pretrained", help="Keep the pre-trained networks in this file."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", help="File to write instead of the user's models.")
    ] = None,
    single: Annotated[
        Path | None,
        typer.Option(
            "--single",
            help="Write the model of one network, too: half the cost. What both files would hold "
            "stands in this one alone; keep them side by side.",
        ),
    ] = None,
    workers: WorkersOption = 2,
) -> None:
    """Pre-train, fine-tune, fit the process, evaluate on every split, write model and card.

    Finished parts are kept under the voltscreen home: a stopped run goes on where it was. Beside
    the model stand its out-of-fold predictions, for `model evaluate`.
    """
    from voltscreen.model import save_model
    from voltscreen.model.catalog import user_model_path
    from voltscreen.train.out_of_fold import store_path
    from voltscreen.train.recipe import train_model, write_pretrained
    from voltscreen.train.report import report_of

    path = output or user_model_path(name)
    run = training_run(data, labels, pool, pretrained, workers)
    say(f"{len(run.data)} electrodes on {len(run.data.hosts)} hosts; {_start(run)}")
    with PartsBar() as bar:
        trained = train_model(run, name, progress=bar.update)
    model = trained.model
    if single is not None:
        save_model(trained.single, single)
        first = trained.single.card.own_recipe
        others = trained.out_of_fold.of_recipe(first, without=(model.card.own_recipe,))
        others.write(store_path(single))
    save_model(model, path, single)
    trained.out_of_fold.write(store_path(path), store_path(single) if single else None)
    if save_pretrained is not None:
        write_pretrained(run, save_pretrained)
    print_evaluation(report_of(model.card), model.card.own_recipe)
    say(f"Wrote {path} (id {model.id}). Its card: voltscreen model show {path}")


def _start(run: TrainingRun) -> str:
    if run.pretrained is not None:
        return "starting from pre-trained networks"
    energies, voltages = run.hosts.n_labels(run.hosts.strange)
    return (
        f"{energies} insertion energies and {voltages} topotactic voltages of "
        f"{len(run.hosts.strange)} pool hosts"
    )
