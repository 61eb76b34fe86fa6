"""`voltscreen model train` from files to a model that predicts and is judged."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from click.testing import Result
from safetensors.torch import save_file
from typer.testing import CliRunner

from tests.model.helpers import random_crystal
from voltscreen.cli.app import app
from voltscreen.cli.training import training_run
from voltscreen.errors import VoltscreenError
from voltscreen.ions import ION_SYMBOLS
from voltscreen.model import read_card
from voltscreen.potentials.label_table import LabelKind, table_of, write_labels
from voltscreen.structures import PackedStructure
from voltscreen.train import recipe, rungs
from voltscreen.train.distill import FinetuneOptions, PretrainOptions
from voltscreen.train.heads import HeadOptions
from voltscreen.train.parts import Options
from voltscreen.train.training_hosts import ELECTRODE_LABELS, POOL_LABELS, VOLTAGES
from voltscreen.train.trunk import TrunkOptions
from voltscreen.train.two_branches import NETWORK_RECIPE

METALS = (22, 23, 24, 25, 26, 27, 28, 29, 40, 41)
QUICK = Options(
    PretrainOptions(epochs=1, batch_size=8),
    FinetuneOptions(epochs=1, batch_size=8),
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


def with_lithium(host: PackedStructure) -> PackedStructure:
    coords = [*host.frac_coords, [0.5, 0.5, 0.5]]
    return PackedStructure.from_arrays(host.lattice, coords, [*host.atomic_numbers, 3])


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


def write_insertion_labels(path, ids: list[str], hosts: list) -> None:
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
    write_labels(table_of(rows, LabelKind.INSERTION), path)


def write_topotactic_labels(path, ids: list[str]) -> None:
    """Of structures that hold manganese, here in the place of an ion."""
    rows = [
        {"host_id": host_id, "n_atoms": 7, "energy": -35.0, "ions": ["Li"], "count": [1],
         "host_energy": [-30.0], "voltage": [2.0 + number / 10], "error": None}
        for number, host_id in enumerate(ids)
    ]  # fmt: skip
    write_labels(table_of(rows, LabelKind.TOPOTACTIC), path)


@pytest.fixture
def files(tmp_path):
    """Electrodes, pool and labels of both."""
    write_electrodes(tmp_path, 20)
    electrodes = [random_crystal(i, 5, (8, METALS[i % 10])) for i in range(20)]
    pool = [random_crystal(100 + i, 6, (16, METALS[i % 10])) for i in range(16)]
    ids = [f"p-{i}" for i in range(16)]
    write_insertion_labels(tmp_path / POOL_LABELS, ids, pool)
    write_insertion_labels(tmp_path / ELECTRODE_LABELS, [f"h-{i}" for i in range(20)], electrodes)
    lithiated = [with_lithium(host) for host in pool[:4]]
    more = structure_table([f"l-{i}" for i in range(4)], lithiated, "material_id")
    every = pd.concat([structure_table(ids, pool, "material_id"), more])
    every.to_parquet(tmp_path / "mp_pool.parquet")
    write_topotactic_labels(tmp_path / VOLTAGES, [f"l-{i}" for i in range(4)])
    return tmp_path


@pytest.fixture
def train(files, monkeypatch) -> Callable[..., Result]:
    """`model train` on the files with recipes of seconds and three rungs of the ladder."""
    for name, kept in (("BASELINES", ("mean", "composition_krr")), ("FROZEN", ("frozen-ridge",))):
        recipes = getattr(recipe, name)
        monkeypatch.setattr(recipe, name, {key: recipes[key] for key in kept})
    # Boosting takes as long with a hundred rows as with thousands.
    monkeypatch.setitem(rungs._MEANS, "blend", (NETWORK_RECIPE, "composition_krr"))
    every = recipe.ladder
    monkeypatch.setattr(
        "voltscreen.cli.train.training_run",
        lambda *arguments: replace(training_run(*arguments), options=QUICK),
    )
    monkeypatch.setattr(
        recipe, "ladder",
        lambda data: {k: v for k, v in every(data).items() if k in {"grouped", "random", "ion-Y"}},
    )  # fmt: skip
    fixed = ["model", "train", "--data", files, "--labels", files, "--name", "tiny"]
    return lambda *more: CliRunner().invoke(app, [str(part) for part in (*fixed, *more)])


def test_train_show_evaluate_predict_and_train_from_there(files, train, run) -> None:
    output, start = files / "tiny.safetensors", files / "start.safetensors"
    done = train("--output", output, "--save-pretrained", start)
    assert done.exit_code == 0, done.output
    assert (
        "200 electrodes on 20 hosts; 32 insertion energies and 4 topotactic voltages of 20"
        in done.output
    )
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

    # The pre-trained networks stand for the pool: the same model without it.
    (files / "mp_pool.parquet").unlink()
    again = files / "again.safetensors"
    done = train("--output", again, "--pretrained", start)
    assert done.exit_code == 0, done.output
    assert "20 hosts; starting from pre-trained networks" in done.output
    assert read_card(str(again))[0] == read_card(str(output))[0]
    assert read_card(str(again))[1].recipe == card["recipe"]


def test_what_cannot_be_trained_on_is_named(files, train) -> None:
    def refusal(*options: object) -> str:
        done = train(*options)
        assert isinstance(done.exception, VoltscreenError)
        return str(done.exception)

    (files / "empty").mkdir()
    assert "cannot read the potential's labels" in refusal("--labels", files / "empty")
    assert "cannot read the pre-trained" in refusal("--pretrained", files / "none.safetensors")
    assert "cannot read the pre-trained" in refusal("--pretrained", files / "electrodes.csv")
    save_file({}, files / "other.safetensors", {"format": "voltscreen-pretrained-0"})
    assert "voltscreen-pretrained-0" in refusal("--pretrained", files / "other.safetensors")
    (files / "start.safetensors").touch()
    assert "not both" in refusal("--pretrained", files / "start.safetensors", "--pool", files)
    known = [random_crystal(i, 5, (8, METALS[i % 10])) for i in range(20)]
    ids = [f"l-{i}" for i in range(20)]
    structure_table(ids, known, "material_id").to_parquet(files / "mp_pool.parquet")
    write_insertion_labels(files / POOL_LABELS, ids, known)
    assert "no pool host whose chemical system" in refusal()
