"""Campaigns as a user runs them: the command line, worker processes, real structures, kill -9."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import yaml

from voltscreen.sources.known_hosts import known_hosts

COUNT = 400


def write_spec(folder, name, path, start=0, limit=COUNT, **fields):
    spec = {
        "name": name,
        "ions": ["Li", "Na", "K", "Rb", "Cs", "Mg", "Ca", "Zn", "Al", "Y"],
        "source": {"parquet": {"path": str(path), "start": start, "limit": limit}},
        "batch": {"max_atoms": 800},
        **fields,
    }
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(spec))
    return folder / f"{name}.yaml"


def status(run, name):
    return json.loads(run("campaign", "status", name, "--json").stdout)


def numbers(store):
    """All voltages without what depends on the time."""
    return {
        row["_id"]: {k: v for k, v in row.items() if k not in ("_id", "written_at")}
        for row in store.voltages.find()
    }


def assert_equal(found, expected):
    assert found.keys() == expected.keys()
    for key, row in expected.items():
        assert found[key].keys() == row.keys()
        assert found[key]["status"] == row["status"]
        for ion, values in row["ions"].items():
            for field, value in values.items():
                other = found[key]["ions"][ion][field]
                if isinstance(value, bytes):
                    np.testing.assert_allclose(
                        np.frombuffer(other, "<f4"), np.frombuffer(value, "<f4"), atol=1e-4
                    )
                elif isinstance(value, float):
                    assert other == pytest.approx(value, abs=1e-5, rel=1e-5)
                else:
                    assert other == value


def test_pool_campaign_survives_kill_9_and_equals_an_undisturbed_run(
    run, store, shared_data, tmp_path
) -> None:
    pool = shared_data / "mp_pool.parquet"
    spec = write_spec(tmp_path, "pool", pool)

    # Undisturbed, two workers.
    done = run("screen", spec, "--workers", 2, "--top", 3)
    assert done.returncode in (0, 1), done.stderr
    found = status(run, "pool")
    assert found["state"] == "done"
    assert found["structures"] == COUNT
    assert found["predicted"] + found["failed"] == COUNT
    assert found["batches"]["ready"] == found["batches"]["running"] == 0
    assert found["batches"]["done"] > 4
    assert (done.returncode == 0) == (found["failed"] == 0)
    assert store.voltages.count_documents({}) == COUNT
    for row in store.voltages.find():
        assert row["status"] == "ok" or row["reason"]
    expected = numbers(store)

    # The same again finds nothing to do, within five seconds for ten times as many.
    again = run("campaign", "submit", spec)
    assert again.returncode == 0
    assert "Nothing to do" in again.stderr

    # A spec that overlaps by half predicts the other half.
    half = write_spec(tmp_path, "half", pool, start=COUNT // 2)
    assert run("screen", half, "--workers", 2).returncode in (0, 1)
    found = status(run, "half")
    assert found["reused"] == COUNT // 2
    assert store.voltages.count_documents({}) == COUNT * 3 // 2

    # kill -9 of a worker in the middle, then resume.
    store.database.client.drop_database(store.database.name)
    assert run("campaign", "submit", spec).returncode == 0
    command = [sys.executable, "-m", "voltscreen", "worker", "--campaign", "pool"]
    worker = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        time.sleep(0.05)
        if store.batches.count_documents({"state": "done"}) < 2:
            continue
        # Freeze it first, so that it is killed in the middle of a batch and not between two.
        os.kill(worker.pid, signal.SIGSTOP)
        if store.batches.count_documents({"state": "running"}) == 1:
            break
        os.kill(worker.pid, signal.SIGCONT)
    os.kill(worker.pid, signal.SIGKILL)
    worker.wait()
    before = store.voltages.count_documents({})
    assert 0 < before < COUNT
    assert store.batches.count_documents({"state": "running"}) == 1
    resumed = run("campaign", "resume", "pool", "--workers", 2)
    assert resumed.returncode in (0, 1), resumed.stderr
    assert "1 lost" in resumed.stderr
    assert_equal(numbers(store), expected)
    assert status(run, "pool")["state"] == "done"


def test_sigterm_lets_the_batch_in_hand_finish(run, store, shared_data, tmp_path) -> None:
    spec = write_spec(tmp_path, "stopped", shared_data / "mp_pool.parquet", limit=300)
    run("campaign", "submit", spec)
    worker = subprocess.Popen(
        [sys.executable, "-m", "voltscreen", "worker"], stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 120
    while not store.batches.count_documents({"state": "running"}) and time.monotonic() < deadline:
        time.sleep(0.02)
    worker.send_signal(signal.SIGTERM)
    _, said = worker.communicate(timeout=60)
    assert worker.returncode == 5
    assert "stopped as asked" in said
    assert store.batches.count_documents({"state": "running"}) == 0
    assert store.batches.count_documents({"state": "ready"}) > 0
    assert run("campaign", "run", "stopped").returncode in (0, 1)
    assert store.voltages.count_documents({}) == 300


def test_known_hosts_from_a_spec_to_exports(run, store, tmp_path) -> None:
    names = ["mno2-lambda", "fesio4", "tise2-1t", "graphite", "mo6s8-chevrel"]
    spec = tmp_path / "hosts.yaml"
    spec.write_text(
        yaml.safe_dump({"name": "hosts", "ions": ["Mg", "Al"], "source": {"hosts": names}})
    )
    done = run("screen", spec, "--top", 3)
    assert done.returncode == 0, done.stderr
    assert "hosts: Mg, best 3" in done.stdout
    assert "2.00 ± 0.10 (other)" in done.stdout
    assert "results query --campaign hosts --ion Mg" in done.stdout
    lines = [line for line in done.stdout.splitlines() if "everything is kept" not in line]
    assert max(map(len, lines)) <= 110

    found = json.loads(
        run("results", "query", "--campaign", "hosts", "--ion", "Mg", "--json").stdout
    )
    assert [row["rank"] for row in found] == [1, 2, 3, 4, 5]
    required = {
        "rank", "structure_id", "source_ids", "formula", "voltage", "sd", "lo90", "hi90",
        "capacity", "energy_density", "pareto",
    }  # fmt: skip
    assert required <= set(found[0])
    spinel = next(row for row in found if row["source_ids"] == ["mno2-lambda"])
    assert spinel["measured"][0]["ion"] == "Mg"
    only = run(
        "results", "query", "--campaign", "hosts", "--ion", "Mg", "--elements", "Si,O", "--json"
    )
    assert [row["formula"] for row in json.loads(only.stdout)] == ["FeSiO4"]

    import pandas as pd

    export = ("results", "export", "--campaign", "hosts", "--ion", "Mg")
    for suffix in ("csv", "json", "parquet"):
        assert run(*export, "-o", tmp_path / f"x.{suffix}").returncode == 0
    assert len(pd.read_csv(tmp_path / "x.csv")) == 5
    assert len(json.loads((tmp_path / "x.json").read_text())) == 5
    table = pd.read_parquet(tmp_path / "x.parquet")
    assert table.loc[0, "voltage"] == pytest.approx(found[0]["voltage"])
    assert run(*export, "--cif", "--top", 2, "-o", tmp_path / "cifs").returncode == 0
    (first, _) = sorted((tmp_path / "cifs").iterdir())
    predicted = json.loads(run("predict", first, "--ion", "Mg", "--json").stdout)
    assert predicted[0]["structure_id"] == found[0]["structure_id"]
    assert predicted[0]["voltage"] == pytest.approx(found[0]["voltage"], abs=1e-4)
    assert run(*export, "-o", tmp_path / "x.xls").returncode == 2

    shown = run("results", "show", "mno2-lambda", "--ion", "Mg")
    assert "spinel Mn2O4" in shown.stdout
    assert "Local voltages for Mg" in shown.stdout
    data = json.loads(run("results", "show", "mno2-lambda", "--json").stdout)
    by_ion = {entry["ion"]: entry for entry in data["predictions"][0]["ions"]}
    assert len(by_ion["Mg"]["local"]["additive"]) == len(data["crystal"]["symbols"])


def test_fireworks_own_commands_work_on_the_same_database(run, store, tmp_path) -> None:
    folder = tmp_path / "project"
    assert run("init", folder).returncode == 0
    assert (folder / "workflows" / "known-hosts.yaml").exists()
    assert "# voltage" not in (folder / "settings.yaml").read_text()
    assert "VOLTSCREEN_" in (folder / "settings.yaml").read_text()
    spec = tmp_path / "s.yaml"
    spec.write_text(
        yaml.safe_dump({"name": "viafw", "ions": ["Mg"], "source": {"hosts": ["graphite"]}})
    )
    dry = run("campaign", "submit", spec, "--dry-run")
    assert dry.returncode == 0
    assert store.campaigns.count_documents({}) == 0
    (tmp_path / "wf.yaml").write_text(dry.stdout)

    def lpad(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "fireworks.scripts.lpad_run", "-l",
             str(folder / "my_launchpad.yaml"), *arguments],
            capture_output=True, text=True, check=False, cwd=tmp_path,
        )  # fmt: skip

    added = lpad("add", "wf.yaml")
    assert added.returncode == 0, added.stderr
    assert run("worker").returncode == 0
    assert status(run, "viafw")["state"] == "done"
    listed = lpad("get_wflows", "-d", "more")
    assert '"viafw' in listed.stdout or "viafw" in listed.stdout
    assert "COMPLETED" in listed.stdout


@pytest.mark.parametrize(
    ("environment", "arguments", "code", "sentence"),
    [
        ({}, ["campaign", "status", "nothing"], 2, "no campaign 'nothing'"),
        ({}, ["screen", "missing.yaml"], 2, "cannot read the spec"),
        (
            {
                "VOLTSCREEN_MONGO_URI": "mongodb://u:secret@127.0.0.1:9/",
                "VOLTSCREEN_CONNECT_TIMEOUT": "0.5",
            },
            ["campaign", "list"], 3, "no MongoDB answers",
        ),
        ({"VOLTSCREEN_DATABASE": "a b"}, ["db", "status"], 2, "VOLTSCREEN_DATABASE"),
    ],
)  # fmt: skip
def test_what_goes_wrong_is_one_sentence_and_the_documented_exit_code(
    run, environment, arguments, code, sentence
) -> None:
    done = run(*arguments, env={**os.environ, **environment})
    assert done.returncode == code
    assert re.fullmatch(r"Error: [^\n]*\n", done.stderr), done.stderr
    assert sentence in done.stderr
    assert "secret" not in done.stderr


def test_ingest_and_db_commands(run, store, tmp_path) -> None:
    assert "2 new" in run("ingest", "hosts", "graphite", "fesio4").stderr
    assert "0 new" in run("ingest", "hosts", "graphite").stderr
    (tmp_path / "bad.cif").write_text("nonsense")
    bad = run("ingest", "files", tmp_path / "bad.cif")
    assert bad.returncode == 1
    assert "1 refused" in bad.stderr
    found = json.loads(run("db", "status", "--json").stdout)
    assert found["running"] is True
    assert found["documents"]["structures"] == 3


def test_a_worker_that_cannot_start_is_reported(run, store, tmp_path) -> None:
    spec = tmp_path / "s.yaml"
    spec.write_text(yaml.safe_dump({"name": "x", "ions": ["Mg"], "source": {"hosts": "all"}}))
    assert run("campaign", "submit", spec).returncode == 0
    done = run("campaign", "run", "x", env={**os.environ, "VOLTSCREEN_DEVICE": "cuda:99"})
    assert done.returncode == 1
    assert "device cuda:99 is not there" in done.stderr
    assert "voltscreen campaign resume x" in done.stderr.replace("\n", " ")
    assert run("campaign", "resume", "x").returncode == 0
    assert status(run, "x")["predicted"] == len(known_hosts())
