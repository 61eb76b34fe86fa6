"""`voltscreen model train` from files to a model that predicts."""

from __future__ import annotations

import json

import pandas as pd
from typer.testing import CliRunner

from tests.model.helpers import random_crystal
from voltscreen.cli.app import app
from voltscreen.ions import ION_SYMBOLS
from voltscreen.train import recipe
from voltscreen.train.heads import HeadOptions
from voltscreen.train.trunk import TrunkOptions

METALS = (22, 23, 24, 25, 26, 27, 28, 29, 40, 41)


def write_electrodes(folder, n_hosts: int) -> None:
    hosts = [random_crystal(i, 5, (8, METALS[i % 10])) for i in range(n_hosts)]
    pd.DataFrame(
        {
            "structure_id": [f"h-{i}" for i in range(n_hosts)],
            "lattice": [h.lattice.ravel() for h in hosts],
            "atomic_numbers": [h.atomic_numbers.astype(int) for h in hosts],
            "frac_coords": [h.frac_coords.ravel() for h in hosts],
        }
    ).to_parquet(folder / "electrode_hosts.parquet")
    pd.DataFrame(
        [
            {"battery_id": f"{i}_{ion}", "working_ion": ion, "charged_id": f"h-{i}",
             "average_voltage": 1.0 + i % 10 / 3 + ION_SYMBOLS.index(ion) / 10}
            for ion in ION_SYMBOLS
            for i in range(n_hosts)
        ]
    ).to_csv(folder / "electrodes.csv", index=False)  # fmt: skip


def test_train_show_and_predict(run, tmp_path, monkeypatch) -> None:
    # The command as it is, but with a recipe of seconds instead of an hour.
    quick = recipe.Recipe(TrunkOptions(epochs=2), HeadOptions(max_steps=20))
    monkeypatch.setattr(recipe, "Recipe", lambda: quick)
    write_electrodes(tmp_path, 20)
    output = tmp_path / "tiny.safetensors"
    arguments = ["model", "train", "--data", tmp_path, "--name", "tiny", "--output", output]
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output
    assert "200 electrodes on 20 hosts" in done.output
    card = json.loads(run("model", "show", output, "--json").stdout)
    assert card["data"]["rows"] == dict.fromkeys(ION_SYMBOLS, 20)
    assert {e["split"] for e in card["held_out"]} == {"grouped", "random"}
    assert card["held_out"][0]["mae_paper_published"] is None

    random_crystal(3, 5, (8, 25)).to_pymatgen().to(filename=str(tmp_path / "x.cif"))
    found = json.loads(
        run("predict", tmp_path / "x.cif", "--ion", "Mg", "--model", output, "--json").stdout
    )
    assert found[0]["model"] == "tiny"
    assert 0 < found[0]["voltage"] < 6


def test_too_few_rows_are_one_sentence(run, tmp_path) -> None:
    write_electrodes(tmp_path, 5)
    frame = pd.read_csv(tmp_path / "electrodes.csv")
    frame[(frame.working_ion != "Cs") | (frame.charged_id == "h-1")].to_csv(
        tmp_path / "electrodes.csv", index=False
    )
    done = run("model", "train", "--data", tmp_path, "--name", "tiny")
    assert done.returncode == 2
    assert "too few labelled electrodes for Cs" in done.stderr
