from __future__ import annotations

import json
import os
import shutil
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import safetensors.numpy
from typer.testing import CliRunner

from tests.model.helpers import random_crystal, small_model
from voltscreen.cli.app import app
from voltscreen.model.catalog import FORMAT
from voltscreen.train.dataset import load_electrodes
from voltscreen.train.out_of_fold import OutOfFold, store_path
from voltscreen.train.parts import Step

IONS = ("Li", "Mg", "Zn")
METALS = (22, 23, 24, 25, 26, 27, 28, 29, 40, 41)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A made-up data folder; beside it a model file with a card and its store."""
    folder = tmp_path_factory.mktemp("evaluate")
    hosts = [random_crystal(i, 5, (8, METALS[i % 10], METALS[i // 10])) for i in range(40)]
    data = folder / "data"
    data.mkdir()
    pd.DataFrame(
        {
            "structure_id": [f"h-{i}" for i in range(40)],
            "lattice": [h.lattice.ravel() for h in hosts],
            "atomic_numbers": [h.atomic_numbers.astype(int) for h in hosts],
            "frac_coords": [h.frac_coords.ravel() for h in hosts],
        }
    ).to_parquet(data / "electrode_hosts.parquet")
    pd.DataFrame(
        [
            {"battery_id": f"{i}_{ion}", "working_ion": ion, "charged_id": f"h-{i}",
             "average_voltage": 1.0 + i % 10 / 3 + IONS.index(ion) / 10}
            for ion in IONS
            for i in range(40)
        ]
    ).to_csv(data / "electrodes.csv", index=False)  # fmt: skip
    card = small_model().card.model_copy(update={"name": "tiny", "potential": "had seen much"})
    model = folder / "tiny.safetensors"
    header = {"format": FORMAT, "id": "0" * 16, "card": card.model_dump_json()}
    safetensors.numpy.save_file({"x": np.zeros(1)}, model, header)
    made_up_store(load_electrodes(data)).write(store_path(model))
    return folder


def made_up_store(data) -> OutOfFold:
    rng = np.random.default_rng(0)
    store = OutOfFold.of(data, "network")
    store.describe("network", "distilled network")
    for recipe, size in (("network", 0.2), ("paper", 0.6), ("mean", 0.65)):
        for split in ("random", "grouped"):
            v = data.voltage + size * rng.normal(size=len(data))
            bounds = (
                {"lo80": v - 0.25, "hi80": v + 0.25, "lo90": v - 0.33, "hi90": v + 0.33,
                 "out_of_domain": 100 * np.abs(v - data.voltage).clip(max=1)}
                if recipe == "network" else {}
            )  # fmt: skip
            store.add(recipe, split, data.row_id, data.folds[split], v, **bounds)
    zinc = data.rows_of("Zn")
    store.add("network", "ion-Zn", data.row_id[zinc], zinc * 0, data.voltage[zinc] + 0.5)
    return store


def test_recipes_stand_in_one_table_with_paired_intervals(folder, run) -> None:
    done = run(
        "model", "evaluate", folder / "tiny.safetensors", "--data", folder / "data", cwd=folder
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    order = [line.split()[0] for line in lines if line.split() and line.split()[0] in
             {"network", "paper", "mean"}]  # fmt: skip
    assert order[0] == "network"
    assert sorted(order) == ["mean", "network", "paper"]
    (network,) = [line for line in lines if "network *" in line]
    assert network.count("[-") == 2
    assert "network: distilled network" in done.stdout
    assert "Universal potential: had seen much" in done.stdout
    assert "Coverage" not in done.stdout
    assert max(map(len, lines)) <= 110


def test_the_ladder_has_splits_ions_coverage_and_domain(folder, run) -> None:
    done = run(
        "model", "evaluate", folder / "tiny.safetensors", "--ladder", "--data", folder / "data"
    )
    assert done.returncode == 0, done.stderr
    for part in (
        "Errors of network by split, all ions", "by ion, grouped split", "by ion, random split",
        "ion-Zn", "Coverage of the intervals", "Error against out of domain, grouped split",
    ):  # fmt: skip
        assert part in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 110


def test_json_has_every_list_and_the_data_may_come_from_the_environment(folder, run) -> None:
    environment = {**os.environ, "VOLTSCREEN_DATA": str(folder / "data")}
    done = run("model", "evaluate", folder / "tiny.safetensors", "--json", env=environment)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["model"], found["recipe"]) == ("tiny", "network")
    assert found["recipes"]["network"] == "distilled network"
    single = [e for e in found["ladder"] if e["split"] == "ion-Zn" and e["rows"] == "all"]
    assert [(e["ion"], e["n"], e["mae"]) for e in single] == [("all", 40, 0.5)]
    gains = {(c["recipe"], c["against"]): c["gain"] for c in found["comparisons"]}
    assert gains["network", "paper"]
    assert not gains["mean", "paper"]
    assert {e["ion"] for e in found["coverage"]} == {"all", *IONS}
    assert {e["split"] for e in found["domain_curve"]} == {"random", "grouped"}


def test_missing_data_other_data_and_a_missing_store_are_one_sentence(
    folder, run, tmp_path
) -> None:
    model = folder / "tiny.safetensors"
    done = run("model", "evaluate", model, "--data", tmp_path / "none")
    assert done.returncode == 2
    assert "there are no data at" in done.stderr

    other = tmp_path / "other"
    shutil.copytree(folder / "data", other)
    rows = pd.read_csv(other / "electrodes.csv")
    rows["average_voltage"] += 0.1
    rows.to_csv(other / "electrodes.csv", index=False)
    done = run("model", "evaluate", model, "--data", other)
    assert done.returncode == 2
    assert "not those of the out-of-fold predictions" in done.stderr

    shutil.copy(model, tmp_path / "alone.safetensors")
    done = run("model", "evaluate", tmp_path / "alone.safetensors", "--data", folder / "data")
    assert done.returncode == 2
    assert "there are no out-of-fold predictions at" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_rerun_prints_what_was_recomputed(folder, voltscreen_home, monkeypatch) -> None:
    asked = {}

    def rerun(run, progress):
        asked["run"] = run
        progress(Step("distilled.grouped.0.0", 1, 2))
        store = OutOfFold.of(run.data, "again")
        voltage = run.data.voltage + 0.25
        store.add("again", "grouped", run.data.row_id, run.data.folds["grouped"], voltage)
        return store

    monkeypatch.setattr("voltscreen.train.recipe.rerun_out_of_fold", rerun)
    monkeypatch.setattr(
        "voltscreen.train.training_hosts.load_training_hosts",
        lambda *paths: SimpleNamespace(paths=paths[1:], strange=["host-1"]),
    )
    arguments = [
        "model", "evaluate", folder / "tiny.safetensors", "--rerun", "--data", folder / "data",
        "--labels", folder / "labels", "--json",
    ]  # fmt: skip
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output
    assert asked["run"].folder == voltscreen_home / "training"
    assert asked["run"].hosts.paths == (folder / "labels", folder / "data" / "mp_pool.parquet")
    found = json.loads(done.stdout)
    assert found["recipe"] == "again"
    assert found["ladder"][0]["mae"] == 0.25
    assert "distilled.grouped.0.0 done, 1 of 2" in done.stderr


def test_one_recipe_recomputed_stands_beside_what_is_stored(folder, run, monkeypatch) -> None:
    data = load_electrodes(folder / "data")
    stored = OutOfFold.read(store_path(folder / "tiny.safetensors"))
    held = stored.get("network", "grouped", data).prediction
    again = np.where(np.arange(len(data)) == 0, held + 0.5, held)
    monkeypatch.setattr("voltscreen.train.recipe.rerun_rung", lambda *_: again)
    monkeypatch.setattr(
        "voltscreen.train.training_hosts.load_training_hosts",
        lambda *_: SimpleNamespace(strange=["host-1"]),
    )
    arguments = [
        "model", "evaluate", folder / "tiny.safetensors", "--data", folder / "data", "--recipe",
        "network", "--json",
    ]  # fmt: skip
    done = CliRunner().invoke(app, [*map(str, arguments), "--rerun"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["rows"] == len(data)
    assert found["stored_mae"] == pytest.approx(np.abs(held - data.voltage).mean())
    assert found["most_apart"] == pytest.approx(0.5, abs=1e-3)
    alone = run(*arguments)
    assert alone.returncode == 2
    assert "--recipe goes with --rerun" in alone.stderr


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    from voltscreen.model import save_model

    path = tmp_path_factory.mktemp("model") / "small.safetensors"
    save_model(small_model(), path)
    return path


def test_the_experiments_without_data(run, small, tmp_path) -> None:
    done = run("model", "experiments", "--model", small, "--data", tmp_path / "none")
    assert done.returncode == 0, done.stderr
    assert "left out" in done.stderr
    assert "Graphite, 2H: not, or not only, an insertion of Al" in done.stdout
    assert "AlCl4-" in done.stdout
    assert "Mean deviation" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 110


def test_the_experiments_with_data(run, small, shared_data) -> None:
    done = run("model", "experiments", "--model", small, "--data", shared_data, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    systems = {(s["host"], s["ion"]): s for s in found["systems"]}
    assert len(systems) == 10
    assert sum(s["insertion"] for s in systems.values()) == 7
    assert all(s["paper"] is not None and s["classical"] is not None for s in systems.values())
    # The small model has no head for Ca and Zn.
    assert {ion for (_, ion), s in systems.items() if s["voltage"] is None} == {"Ca", "Zn"}
    assert systems["kfefe-cn6", "Ca"]["labelled"] is False
    assert systems["mno2-lambda", "Mg"]["labelled"] is True
    # The paper's network, deployed as released, on these hosts.
    assert systems["mno2-lambda", "Mg"]["paper"] == pytest.approx(2.43, abs=0.01)
    deviation = found["mean_deviation"]
    assert deviation["paper"]["n"] == deviation["classical"]["n"] == 7
    assert deviation["voltage"]["n"] == 5
    assert 0.2 < deviation["classical"]["mean"] < 0.7
