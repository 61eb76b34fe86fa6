from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

FIELDS = {
    "file", "formula", "structure_id", "ion", "host_state", "voltage", "sd", "lo80", "hi80",
    "lo90", "hi90",
    "out_of_domain", "undercoordinated", "model", "local_voltages", "sites",
}  # fmt: skip


@pytest.fixture
def spinel(tmp_path):
    structure = Structure.from_spacegroup(
        "Fd-3m:2", Lattice.cubic(8.24), ["Li", "Mn", "O"],
        [[0.125, 0.125, 0.125], [0.5, 0.5, 0.5], [0.2632, 0.2632, 0.2632]],
    )  # fmt: skip
    path = tmp_path / "LiMn2O4.cif"
    structure.get_primitive_structure().to(filename=str(path))
    return path


def test_json_has_an_object_for_each_file_and_ion(spinel, run) -> None:
    done = run("predict", spinel, "--ion", "Li", "--ion", "Mg", "--json")
    assert done.returncode == 0, done.stderr
    lithium, magnesium = json.loads(done.stdout)
    assert set(lithium) == FIELDS
    assert (lithium["ion"], lithium["host_state"]) == ("Li", "ion_removed")
    assert (magnesium["ion"], magnesium["host_state"]) == ("Mg", "as_given")
    assert lithium["structure_id"] == magnesium["structure_id"]
    assert lithium["formula"] == "LiMn2O4"
    assert [site["element"] for site in lithium["sites"]].count("Li") == 0
    assert [site["element"] for site in magnesium["sites"]].count("Li") == 2
    for item in (lithium, magnesium):
        local = item["local_voltages"]
        assert len(local["linear"]) == len(local["additive"]) == len(item["sites"])
        assert abs(item["voltage"] - local["site"] - np.mean(local["additive"])) < 1e-6
        assert item["lo90"] < item["voltage"] < item["hi90"]
        assert item["sd"] > 0
        assert 0 <= item["out_of_domain"] <= 100
    # LiMn2O4 is a 4 V electrode: the network must at least know that much
    assert 3.0 < lithium["voltage"] < 5.0


def test_as_given_keeps_the_ion(spinel, run) -> None:
    done = run("predict", spinel, "--ion", "Li", "--host-state", "as_given", "--json")
    (found,) = json.loads(done.stdout)
    assert found["host_state"] == "as_given"
    assert len(found["sites"]) == 14


def test_table_for_people(spinel, run) -> None:
    done = run("predict", spinel, "--ion", "Mg,Zn", "--local")
    assert done.returncode == 0, done.stderr
    assert "Voltage (V)" in done.stdout
    assert "Local voltages of LiMn2O4 for Zn" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 110


def test_a_broken_file_is_one_sentence_and_exit_code_2(tmp_path, run) -> None:
    (tmp_path / "broken.cif").write_text("data_x\n_cell_length_a what\n")
    done = run("predict", tmp_path / "broken.cif", "--ion", "Mg")
    assert done.returncode == 2
    assert re.fullmatch(r"Error: .*not a readable structure: .*broken\.cif: .*\n", done.stderr)


def test_a_broken_file_among_good_ones_is_exit_code_1(tmp_path, spinel, run) -> None:
    broken = tmp_path / "broken.cif"
    broken.write_text("nonsense")
    done = run("predict", spinel, broken, "--ion", "Mg", "--json")
    assert done.returncode == 1
    good, bad = json.loads(done.stdout)
    assert "error" not in good
    assert bad["file"] == str(broken)
    assert "broken.cif" in bad["error"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--ion", "Fe"], "unknown working ion 'Fe'"),
        (["--model", "nothing"], "there is no model 'nothing'"),
        (["--host-state", "full"], "unknown host state 'full'"),
    ],
)
def test_wrong_use_is_one_sentence_and_exit_code_2(spinel, run, arguments, sentence) -> None:
    done = run("predict", spinel, *arguments)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    debug = run("--debug", "predict", spinel, *arguments)
    assert "Traceback" in debug.stderr


def test_an_unknown_setting_is_one_sentence(spinel, run, voltscreen_home) -> None:
    (voltscreen_home / "settings.yaml").write_text("databse: x\n")
    try:
        done = run("predict", spinel, "--ion", "Mg")
    finally:
        (voltscreen_home / "settings.yaml").unlink()
    assert done.returncode == 2
    assert "'databse'" in done.stderr


def test_models_are_listed_and_shown(run) -> None:
    listed = json.loads(run("model", "list", "--json").stdout)
    default = next(m for m in listed if m["name"] == "default")
    assert len(default["ions"]) == 10
    shown = run("model", "show", "default")
    assert shown.returncode == 0
    for part in ("id: " + default["id"], "Materials Project", "grouped split", "limits:"):
        assert part in shown.stdout
    card = json.loads(run("model", "show", "default", "--json").stdout)
    pooled = {
        e["recipe"]: e
        for e in card["ladder"]
        if (e["split"], e["ion"], e["rows"]) == ("grouped", "all", "all")
    }
    own = pooled[card["own_recipe"]]
    assert own["n"] == 4401
    assert own["mae"] < pooled["paper"]["mae"] < pooled["mean"]["mae"]


def test_help_answers_fast(run) -> None:
    run("--help")
    start = time.perf_counter()
    done = run("--help")
    assert done.returncode == 0
    assert "screen" in done.stdout
    # The bound of 0.5 s is printed by `make bench`; here only a heavy import must show.
    assert time.perf_counter() - start < 5


def test_the_command_is_installed(voltscreen_home) -> None:
    command = Path(sys.executable).parent / "voltscreen"
    done = subprocess.run([command, "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0
