"""`voltscreen model`: the models there are, their cards, import and training."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from voltscreen.cli.evaluate import print_evaluation, register_evaluation
from voltscreen.cli.output import JsonOption, number, print_json, print_table, say
from voltscreen.cli.train import register_training

model_app = typer.Typer(no_args_is_help=True, help="Models: list, show, import, train.")


def register(app: typer.Typer) -> None:
    """Add the group."""
    register_evaluation(model_app)
    register_training(model_app)
    app.add_typer(model_app, name="model")


@model_app.command("list")
def list_models(as_json: JsonOption = False) -> None:
    """The models that are installed, imported or trained."""
    from voltscreen.model import available_models, read_card

    rows: list[dict[str, Any]] = []
    for name, path in available_models().items():
        model_id, card = read_card(str(path))
        errors = {e.split: e.mae for e in card.own_errors() if e.ion == "all" and e.rows == "all"}
        rows.append(
            {
                "name": name,
                "id": model_id,
                "ions": card.ions,
                "graph_spec": card.graph_spec,
                "mae_grouped": errors.get("grouped"),
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
    from voltscreen.train.report import report_of

    model_id, card = read_card(name)
    if as_json:
        print_json({"id": model_id, **card.model_dump(mode="json")})
        return
    typer.echo(f"id: {model_id}")
    typer.echo(card.to_yaml(lists=False))
    if card.ladder:
        print_evaluation(report_of(card), card.own_recipe)


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


@model_app.command("dataset")
def make_dataset(
    output: Annotated[Path, typer.Option("--output", help="Parquet file to write.")],
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            help="Folder with electrodes.csv and electrode_hosts.parquet, or with the Materials "
            "Project's documents in insertion_electrodes.jsonl (structures.jsonl beside it).",
        ),
    ] = None,
    from_mp: Annotated[
        bool,
        typer.Option(
            "--from-mp",
            help="Fetch the electrodes from the Materials Project (key in MP_API_KEY) instead.",
        ),
    ] = False,
    filters: Annotated[
        list[str] | None,
        typer.Option(
            "--filter",
            help="Leave rows out: paper_trim, outliers, inconsistent or multi_step. Repeatable.",
        ),
    ] = None,
    layout: Annotated[
        str | None, typer.Option("--format", help="shared or mp; told from the files by default.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write a training set: one file with rows, hosts, what was left out, and its hash.

    `voltscreen model train --data FILE.parquet` trains on it.
    """
    from voltscreen.cli.from_mp import fetch_electrodes
    from voltscreen.errors import VoltscreenError
    from voltscreen.ions import ION_SYMBOLS
    from voltscreen.train.dataset import write_dataset
    from voltscreen.train.electrode_files import Layout

    if layout is not None and layout not in list(Layout):
        raise VoltscreenError(f"unknown format {layout!r}: choose from {', '.join(Layout)}")
    if output.suffix != ".parquet":
        raise VoltscreenError(f"{output} must end in .parquet")
    if (data is None) == (not from_mp):
        raise VoltscreenError("give one of --data FOLDER and --from-mp")
    folder = fetch_electrodes() if data is None else data
    made = write_dataset(folder, output, filters or [], Layout(layout) if layout else None)
    rows_of = {ion: made.rows_of(ion) for ion in ION_SYMBOLS}
    counts = {ion: (len(r), len(set(made.host_of_row[r]))) for ion, r in rows_of.items()}
    counts["all"] = (len(made), len(made.hosts))
    if as_json:
        print_json(
            {
                "file": str(output),
                "sha256": made.sha256,
                "rows": {ion: rows for ion, (rows, _) in counts.items()},
                "hosts": {ion: hosts for ion, (_, hosts) in counts.items()},
                "filters": [asdict(applied) for applied in made.filters],
            }
        )
        return
    print_table(
        ["Ion", ("Rows", "right"), ("Hosts", "right")],
        [[ion, rows, hosts] for ion, (rows, hosts) in counts.items()],
    )
    if made.filters:
        print_table(
            ["Filter", ("Rows before", "right"), ("Removed", "right"), "Kept are"],
            [[each.name, each.rows, each.removed, each.rule] for each in made.filters],
        )
    typer.echo(f"sha256: {made.sha256}")
    say(f"Wrote {output}")
