"""`voltscreen model`: the models there are, their cards, import and training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Self

import typer

from voltscreen.cli.output import JsonOption, number, print_json, print_table, say

model_app = typer.Typer(no_args_is_help=True, help="Models: list, show, import, train.")


def register(app: typer.Typer) -> None:
    """Add the group."""
    app.add_typer(model_app, name="model")


@model_app.command("list")
def list_models(as_json: JsonOption = False) -> None:
    """The models that are installed, imported or trained."""
    from voltscreen.model import available_models, read_card

    rows: list[dict[str, Any]] = []
    for name, path in available_models().items():
        model_id, card = read_card(str(path))
        pooled = {e.split: e.mae for e in card.held_out if e.ion == "all"}
        rows.append(
            {
                "name": name,
                "id": model_id,
                "ions": card.ions,
                "graph_spec": card.graph_spec,
                "mae_grouped": pooled.get("grouped"),
                "description": card.description,
                "file": str(path),
            }
        )
    if as_json:
        print_json(rows)
        return
    print_table(
        ["Name", "Id", "Ions", ("MAE (V)", "right"), "Description"],
        [
            [r["name"], r["id"], " ".join(r["ions"]), number(r["mae_grouped"], 3), r["description"]]
            for r in rows
        ],
    )


@model_app.command("show")
def show_model(
    name: Annotated[str, typer.Argument(help="Name, or a .safetensors file.")] = "default",
    as_json: JsonOption = False,
) -> None:
    """Print a model card: data, recipe, held-out errors, limits."""
    from voltscreen.model import read_card

    model_id, card = read_card(name)
    if as_json:
        print_json({"id": model_id, **card.model_dump(mode="json")})
        return
    typer.echo(f"id: {model_id}")
    typer.echo(card.model_copy(update={"held_out": []}).to_yaml().replace("held_out: []\n", ""))
    for split in dict.fromkeys(error.split for error in card.held_out):
        print_table(
            ["Ion", ("Rows", "right"), ("MAE (V)", "right"), ("RMSE (V)", "right"),
             ("R2", "right"), ("Mean predictor", "right"), ("Paper's published", "right")],
            [
                [e.ion, e.n, number(e.mae, 3), number(e.rmse, 3), number(e.r2, 3),
                 number(e.mae_mean_predictor, 3), number(e.mae_paper_published, 3)]
                for e in card.held_out
                if e.split == split
            ],
            title=f"Held-out errors, 5 folds, {split} split",
        )  # fmt: skip
    if card.held_out:
        typer.echo(
            "Paper's published: MAE of the predictions it printed; most rows were in its "
            "training set."
        )


@model_app.command("import")
def import_model(
    checkpoint: Annotated[Path, typer.Argument(help="The paper's .pth.tar file.")],
    element_table: Annotated[
        Path, typer.Option("--element-table", help="The atom_init.json it was trained with.")
    ],
    ion: Annotated[str, typer.Option("--ion", help="The working ion that it predicts.")],
    name: Annotated[str, typer.Option("--name", help="What to call it, e.g. paper-Mg.")],
) -> None:
    """Import a checkpoint of the paper's code; nothing in the file is executed."""
    from voltscreen.errors import ModelError
    from voltscreen.model import save_model
    from voltscreen.model.catalog import user_model_path
    from voltscreen.model.element_table import read_element_table
    from voltscreen.model.paper_checkpoint import import_checkpoint

    path = user_model_path(name)
    if name == "default":
        raise ModelError("the name 'default' is kept for the model that voltscreen ships")
    model = import_checkpoint(checkpoint, read_element_table(element_table), ion, name)
    save_model(model, path)
    say(f"Imported {checkpoint.name} for {ion} as {name} (id {model.id}): {path}")
    say(f"Try: voltscreen predict FILE --model {name} --host-state as_given")


@model_app.command("train")
def train(
    data: Annotated[
        Path,
        typer.Option(
            "--data", help="Folder with electrodes.csv, electrode_hosts.parquet, folds.csv."
        ),
    ],
    name: Annotated[str, typer.Option("--name", help="What to call the model.")],
    output: Annotated[
        Path | None, typer.Option("--output", help="File to write instead of the user's models.")
    ] = None,
    threads: Annotated[int, typer.Option("--threads", min=1, help="CPU threads.")] = 1,
) -> None:
    """Train trunk and heads, evaluate on all folds, write the model with its card.

    Finished parts are kept under the voltscreen home: a stopped run goes on where it was.
    """
    import torch

    from voltscreen.model import save_model
    from voltscreen.model.catalog import user_model_path
    from voltscreen.settings import settings
    from voltscreen.train.dataset import load_electrodes
    from voltscreen.train.recipe import train_model

    path = output or user_model_path(name)
    torch.set_num_threads(threads)
    electrodes = load_electrodes(data)
    say(f"{len(electrodes)} electrodes on {len(electrodes.hosts)} hosts")
    with _TrainingBar() as bar:
        model = train_model(
            electrodes,
            name,
            settings().home / "training",
            f"voltscreen model train --data DATA --name {name}",
            progress=bar.update,
        )
    save_model(model, path)
    say(f"Wrote {path} (id {model.id}). Its card: voltscreen model show {path}")


class _TrainingBar:
    """A progress bar a part; a line a part where standard error is no terminal."""

    def __enter__(self) -> Self:
        from tqdm import tqdm

        self._bar = tqdm(disable=None, unit="epoch")
        self._part = ""
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def update(self, part: str, epoch: int, epochs: int, loss: float) -> None:
        """One more epoch is done."""
        if part != self._part:
            self._part = part
            self._bar.reset(total=epochs)
            self._bar.set_description(part)
            if self._bar.disable:
                say(f"training {part}, {epochs} epochs")
        self._bar.set_postfix(loss=f"{loss:.4f}")
        self._bar.update(epoch - self._bar.n)
