"""`voltscreen model train` from files to a model that predicts and is judged."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from tests.model.helpers import random_crystal
from voltscreen.cli.app import app
from voltscreen.cli.training import training_run
from voltscreen.ions import ION_SYMBOLS
from voltscreen.train import recipe
from voltscreen.train.distill import FinetuneOptions, PretrainOptions
from voltscreen.train.heads import HeadOptions
from voltscreen.train.parts import Options
from voltscreen.train.trunk import TrunkOptions

METALS = (22, 23, 24, 25, 26, 27, 28, 29, 40, 41)
QUICK = Options(
    PretrainOptions(epochs=1, batch_size=8),
    FinetuneOptions(epochs=1, batch_size=8),
    TrunkOptions(epochs=1),
    HeadOptions(max_steps=20),
)


def structure_table(ids: list[str], hosts: list, id_column: str) -> pd.DataFrame:
    return pd.DataFrame(
        {
            id_column: ids,
            "lattice": [h.lattice.ravel() for h in hosts],
            "atomic_numbers": [h.atomic_numbers.astype(int) for h in hosts],
            "frac_coords": [h.frac_coords.ravel() for h in hosts],
        }
    )


def write_electrodes(folder, n_hosts: int) -> None:
    hosts = [random_crystal(i, 5, (8, METALS[i % 10])) for i in range(n_hosts)]
    ids = [f"h-{i}" for i in range(n_hosts)]
    structure_table(ids, hosts, "structure_id").to_parquet(folder / "electrode_hosts.parquet")
    pd.DataFrame(
        [
            {"battery_id": f"{i}_{ion}", "working_ion": ion, "charged_id": f"h-{i}",
             "average_voltage": 1.0 + i % 10 / 3 + ION_SYMBOLS.index(ion) / 10}
            for ion in ION_SYMBOLS
            for i in range(n_hosts)
        ]
    ).to_csv(folder / "electrodes.csv", index=False)  # fmt: skip


def write_labels(folder, ids: list[str], hosts: list, name: str) -> None:
    from voltscreen.potentials.label_table import table_of
    from voltscreen.potentials.label_table import write_labels as write

    rng = np.random.default_rng(0)
    rows = [
        {
            "host_id": host_id, "removed": None, "n_atoms": len(host), "site": [0.0] * 3,
            "clearance": 1.5, "distance": 1.5, "host_energy": -30.0,
            "moments": np.zeros(len(host), np.float16), "crystal": np.zeros(64, np.float16),
            "ions": ["Li", "Mg"], "insertion_energy": rng.normal(size=2).tolist(),
            "ion_site_energy": [0.1, 0.2], "host_shift": [0.0, 0.1], "moment_change": [0.0, 0.3],
            "error": None,
        }
        for host_id, host in zip(ids, hosts, strict=True)
    ]  # fmt: skip
    rows.append({"host_id": "broken", "error": "isolated atoms"})
    write(table_of(rows), folder / f"insertion-labels-{name}.parquet")


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Electrodes, pool and labels of both; recipes of seconds and three rungs of the ladder."""
    write_electrodes(tmp_path, 20)
    electrodes = [random_crystal(i, 5, (8, METALS[i % 10])) for i in range(20)]
    pool = [random_crystal(100 + i, 6, (8, METALS[i % 10])) for i in range(16)]
    ids = [f"p-{i}" for i in range(16)]
    structure_table(ids, pool, "material_id").to_parquet(tmp_path / "mp_pool.parquet")
    write_labels(tmp_path, ids, pool, "pool")
    write_labels(tmp_path, [f"h-{i}" for i in range(20)], electrodes, "electrodes")
    for name, kept in (("BASELINES", ("mean", "boosting")), ("FROZEN", ("frozen-ridge",))):
        recipes = getattr(recipe, name)
        monkeypatch.setattr(recipe, name, {key: recipes[key] for key in kept})
    every = recipe.ladder
    monkeypatch.setattr(
        "voltscreen.cli.train.training_run",
        lambda *arguments: replace(training_run(*arguments), options=QUICK),
    )
    monkeypatch.setattr(
        recipe, "ladder",
        lambda data: {k: v for k, v in every(data).items() if k in {"grouped", "random", "ion-Y"}},
    )  # fmt: skip
    return tmp_path


def test_train_show_evaluate_and_predict(files, run) -> None:
    output = files / "tiny.safetensors"
    arguments = ["model", "train", "--data", files, "--labels", files, "--name", "tiny",
                 "--output", output]  # fmt: skip
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output
    assert "200 electrodes on 20 hosts; 32 insertion energies of 16 pool hosts" in done.output
    assert "Error against out of domain, grouped split" in done.output
    card = json.loads(run("model", "show", output, "--json").stdout)
    assert card["data"]["rows"] == dict.fromkeys(ION_SYMBOLS, 20)
    assert {e["split"] for e in card["ladder"]} == {"grouped", "random", "ion-Y"}
    found = json.loads(
        run("model", "evaluate", output, "--ladder", "--data", files, "--json").stdout
    )
    assert found["ladder"] == card["ladder"]

    random_crystal(3, 5, (8, 25)).to_pymatgen().to(filename=str(files / "x.cif"))
    found = json.loads(
        run("predict", files / "x.cif", "--ion", "Mg", "--model", output, "--json").stdout
    )
    assert found[0]["model"] == "tiny"
    local = found[0]["local_voltages"]
    assert found[0]["voltage"] == pytest.approx(
        np.mean(local["additive"]) + local["site"], abs=1e-5
    )


def test_missing_labels_are_one_sentence(files, run, tmp_path) -> None:
    done = run("model", "train", "--data", files, "--labels", tmp_path / "none", "--name", "tiny")
    assert done.returncode == 2
    assert "cannot read insertion labels" in done.stderr
    assert "Traceback" not in done.stderr
