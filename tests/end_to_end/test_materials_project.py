"""The Materials Project as a user meets it: ranked table, failures, kill -9, training set."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from tests.conftest import REPOSITORY
from tests.mp_stand_in.records import (
    electrode,
    generated,
    host_materials,
    material,
    oxide,
    real_electrodes,
    real_materials,
)
from tests.mp_stand_in.server import KEY, SUMMARY, Failure
from voltscreen.settings import settings
from voltscreen.sources.mp.client import CHUNK, PAGE, PARALLEL
from voltscreen.store import Store, connect, embedded

SPEC = REPOSITORY / "workflows" / "mp-multivalent-oxides.yaml"
FILTERS = (
    "elements=O", "exclude_elements=Pb,Hg,Tl,Cd", "energy_above_hull=0,0.05", "num_sites=1,100",
)  # fmt: skip
COUNT = 5000
pytestmark = pytest.mark.timeout(900)


@pytest.fixture
def own_store(voltscreen_home, monkeypatch, tmp_path):
    """Databases on a server of their own, which is stopped with all that is in them.

    Yields a function that opens one and makes it that of the commands.
    """
    home = tmp_path / "home"
    monkeypatch.setenv("VOLTSCREEN_HOME", str(home))
    with contextlib.ExitStack() as stack:
        stack.callback(embedded.stop, home)

        def use(name: str) -> Store:
            monkeypatch.setenv("VOLTSCREEN_DATABASE", name)
            settings.cache_clear()
            return stack.enter_context(connect())

        yield use


@pytest.fixture
def pool(materials_project):
    """5,000 structures of the real pool and every known electrode, or 600 generated ones."""
    shared = REPOSITORY.parent / "shared" / "data"
    if shared.is_dir():
        materials_project.materials = real_materials(shared, COUNT)
        materials_project.electrodes = real_electrodes(shared)
    else:
        materials_project.materials = generated(600)
    for document in materials_project.materials:
        document["energy_above_hull"] /= 10  # so that nearly all fit the filter of the spec
    first = materials_project.materials[0]
    materials_project.electrodes += [
        electrode({"battery_id": f"{first['material_id']}_{ion}", "working_ion": ion,
                   "average_voltage": 2.34, "charged_id": first["material_id"],
                   "discharged_id": None, "formula_charge": None, "formula_discharge": None,
                   "capacity_grav": 123.0, "max_delta_volume": 0.04, "stability_charge": 0.1,
                   "stability_discharge": 0.2})
        for ion in ("Mg", "Ca", "Zn", "Al")
    ]  # fmt: skip
    return materials_project


def fitting(served) -> list[str]:
    """Materials that fit the spec's filter, as the stand-in counts them."""
    return [
        document["material_id"]
        for document in served.materials
        if document["energy_above_hull"] <= 0.05
        and document["nsites"] <= 100
        and not {"Pb", "Hg", "Tl", "Cd"} & set(document["elements"])
    ]


def stored(store) -> dict:
    return {
        row["_id"]: (
            row["packed"],
            row["properties"],
            sorted((e["id"], e["db_version"], e["updated"]) for e in row["sources"]),
        )
        for row in store.structures.find()
    }


def test_a_spec_from_the_materials_project_to_a_ranked_table(
    run, own_store, pool, tmp_path
) -> None:
    store = own_store("ranked")
    wanted = fitting(pool)
    served = len(pool.materials)
    assert served // 2 < len(wanted) < served
    spec = tmp_path / "spec.yaml"
    text = SPEC.read_text().replace("voltage: [2.0, 4.0]", "voltage: [-9.0, 19.0]")
    spec.write_text(text.replace("top: 1000", "top: 100000"))
    done = run("screen", spec, "--workers", 2)
    assert done.returncode in (0, 1), done.stderr
    assert f"From the Materials Project, less what is stored: {len(wanted):,} struct" in done.stderr
    assert "mp-multivalent-oxides: Mg, best 15" in done.stdout

    found = json.loads(run("campaign", "status", "mp-multivalent-oxides", "--json").stdout)
    assert found["state"] == "done"
    assert found["predicted"] + found["failed"] == store.structures.count_documents({})
    names = [e["id"] for row in store.structures.find() for e in row["sources"]]
    assert sorted(names) == sorted(wanted)
    pages = pool.pages()
    assert len(pages) == -(-len(wanted) // CHUNK)
    # One to count, those of the listing, those of the documents.
    assert len(pool.asked(SUMMARY)) == 1 + -(-len(wanted) // PAGE) + len(pages)
    assert max(each.at_once for each in pool.log) <= PARALLEL

    # What is known stands beside the prediction.
    rows = json.loads(
        run("results", "query", "--campaign", "mp-multivalent-oxides", "--ion", "Mg", "--known",
            "--top", 5000, "--json").stdout
    )  # fmt: skip
    mine = next(row for row in rows if row["known"]["capacity"] == 123.0)
    assert mine["known"]["voltage"] == 2.34
    assert mine["known"]["end"] == "host"
    assert mine["voltage"] != mine["known"]["voltage"]
    table = run("results", "query", "--campaign", "mp-multivalent-oxides", "--ion", "Mg", "--known")
    assert "MP (V)" in table.stdout
    shown = run("results", "show", mine["source_ids"][0])
    assert "Mg 2.34 V, 123 mAh/g, volume 4.0 %, above hull 0.100 charged and 0.200" in shown.stdout
    export = ("results", "export", "--campaign", "mp-multivalent-oxides", "--ion", "Mg")
    assert run(*export, "--known", "-o", tmp_path / "mg.csv").returncode == 0
    exported = pd.read_csv(tmp_path / "mg.csv").set_index("structure_id")
    row = exported.loc[mine["structure_id"]]
    assert (row["known_voltage"], row["known_volume_change"]) == (2.34, 0.04)
    assert (row["known_stability_charge"], row["known_stability_discharge"]) == (0.1, 0.2)

    # Again, at the same release: one heartbeat, no key, nothing to do.
    asked = len(pool.asked(SUMMARY))
    keyless = {k: v for k, v in os.environ.items() if k != "MP_API_KEY"}
    again = run("campaign", "submit", spec, env=keyless)
    assert "Nothing to do" in again.stderr, again.stderr
    assert len(pool.asked(SUMMARY)) == asked

    # The key is nowhere in the database; voltages hold numbers, and many.
    for name in set(store.database.list_collection_names()) - {"voltages"}:
        for document in store.database[name].find():
            assert KEY not in str(document)


def test_a_disturbed_ingest_that_is_killed_stores_the_same(run, own_store, pool) -> None:
    store = own_store("undisturbed")
    pool.materials = pool.materials[:1500]
    wanted = fitting(pool)
    plain = run("ingest", "mp", *FILTERS)
    assert plain.returncode == 0, plain.stderr
    assert f"release 2025.02.12: {len(wanted):,} structures match" in plain.stderr
    undisturbed = stored(store)
    assert sorted(e[0] for row in undisturbed.values() for e in row[2]) == sorted(wanted)

    store = own_store("disturbed")
    before = len(pool.asked(SUMMARY))
    pool.failures = [
        Failure(before + 1, 429, retry_after="1"),
        Failure(before + 2, 504),
        Failure(before + 4, "cut"),
        Failure(before + 6, "drop"),
        Failure(before + 11, 504),
        Failure(before + 12, "short"),
    ]
    pool.delay = 0.3
    command = [sys.executable, "-m", "voltscreen", "ingest", "mp", *FILTERS]
    process = subprocess.Popen(command, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 300
    while not store.structures.count_documents({}) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    there = store.structures.count_documents({})
    assert 0 < there < len(undisturbed)
    pool.delay = 0.0
    again = run("ingest", "mp", *FILTERS)
    assert again.returncode == 0, again.stderr
    assert stored(store) == undisturbed
    assert f"{len(wanted):,} structures match, " in again.stderr
    assert all(failure.times == 0 for failure in pool.failures)
    assert KEY not in again.stderr


def same_set(one: Path, other: Path) -> None:
    left, right = (pd.read_parquet(path).set_index("row_id").sort_index() for path in (one, other))
    assert list(left.index) == list(right.index)
    for column in ("ion", "voltage", "host_id", "host", "multi_step"):
        assert (left[column] == right[column]).all(), column


def test_a_training_set_from_electrode_documents_equals_that_of_the_file(
    run, voltscreen_home, materials_project, tmp_path
) -> None:
    shared = REPOSITORY.parent / "shared" / "data"
    if not shared.is_dir():
        pytest.skip("the shared data are not beside this checkout")
    materials_project.electrodes = real_electrodes(shared)
    materials_project.materials = host_materials(shared, materials_project.electrodes)
    materials_project.failures = [Failure(3, 504), Failure(5, "cut")]
    done = run("model", "dataset", "--from-mp", "--output", tmp_path / "mp.parquet", "--json")
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)
    assert (made["rows"]["all"], made["hosts"]["all"]) == (4401, 3229)
    plain = run("model", "dataset", "--data", shared, "--output", tmp_path / "file.parquet")
    assert plain.returncode == 0, plain.stderr
    same_set(tmp_path / "mp.parquet", tmp_path / "file.parquet")

    # Nothing is fetched again; another ask of the same gives the same hash.
    asked = len(materials_project.asked(SUMMARY))
    again = run("model", "dataset", "--from-mp", "--output", tmp_path / "b.parquet", "--json")
    assert json.loads(again.stdout)["sha256"] == made["sha256"]
    assert len(materials_project.asked(SUMMARY)) == asked


@pytest.mark.parametrize(
    ("environment", "arguments", "code", "sentence"),
    [
        ({"MP_API_KEY": ""}, ["ingest", "mp", "elements=O"], 2, "get one at https://materialspr"),
        ({"MP_API_KEY": "x" * 32}, ["ingest", "mp", "elements=O"], 2, "refuses the key"),
        ({}, ["ingest", "mp", "elements"], 2, "write NAME=VALUE"),
        ({}, ["ingest", "mp", "api_key=" + KEY], 2, "a key never stands in a spec"),
        ({}, ["model", "dataset", "--output", "x.parquet"], 2, "one of --data FOLDER and --from-"),
    ],
)  # fmt: skip
def test_what_goes_wrong_is_one_sentence(
    run, store, materials_project, tmp_path, environment, arguments, code, sentence
) -> None:
    variables = {**os.environ, "HOME": str(tmp_path), **environment}
    done = run(*arguments, env=variables)
    assert done.returncode == code, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if not line.startswith("0 struct")]
    assert line.startswith("Error: ")
    assert sentence in line
    assert KEY not in line
    assert "x" * 32 not in line


def test_a_dry_run_says_how_much_and_fetches_nothing(run, store, materials_project) -> None:
    materials_project.materials = [material(f"mp-{i}", oxide(i)) for i in range(7)]
    done = run("ingest", "mp", "elements=O", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "At most 7 structures, 1 requests" in done.stderr
    assert len(materials_project.asked(SUMMARY)) == 1
    assert store.structures.count_documents({}) == 0
