"""A large campaign through an array of jobs, and batches for nodes without the database."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pyarrow.parquet as pq
import pytest
import yaml

from tests.cluster.cluster import SITE, until
from voltscreen.campaign.status import campaign_status
from voltscreen.settings import settings
from voltscreen.store import connect, embedded
from voltscreen.store.documents import CampaignState

pytestmark = pytest.mark.timeout(3000)

COUNT = 20_000
BATCHES = 40


def write_site(folder, **changes):
    content = {**yaml.safe_load(SITE.read_text()), "folder": str(folder / "jobs"), **changes}
    path = folder / "site.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def write_spec(folder, pool, count, batches, name):
    sizes = pq.read_table(pool, columns=["nsites"]).column(0).slice(0, count)
    spec = {
        "name": name,
        "ions": ["Mg", "Ca"],
        "model": "single",  # half the time of the default: what is tried is the cluster
        "source": {"parquet": {"path": str(pool), "limit": count}},
        "batch": {"max_atoms": sum(sizes.to_pylist()) // batches + 1},
        "rank": {"top": 100},
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(spec))
    return path


@pytest.fixture
def own_store(slurm, tmp_path, monkeypatch):
    """A server of its own, stopped afterwards: to drop so many documents takes minutes."""
    home = tmp_path / "home"
    monkeypatch.setenv("VOLTSCREEN_HOME", str(home))
    settings.cache_clear()
    with connect() as opened:
        yield opened
    embedded.stop(home)


def test_20000_pool_structures_in_40_batches_over_both_nodes(
    slurm, run, own_store, shared_data, tmp_path
) -> None:
    store = own_store
    pool = shared_data / "mp_pool.parquet"
    assert (
        run("campaign", "submit", write_spec(tmp_path, pool, COUNT, BATCHES, "big")).returncode == 0
    )
    read = run("worker", "--campaign", "big", "--nlaunches", 1)
    assert read.returncode == 0, read.stderr
    site = write_site(tmp_path, options=["--ntasks-per-node=1"])
    done = run(
        "slurm", "submit", "--campaign", "big", "--site", site, "--until-done", "--interval", 5
    )
    assert done.returncode == 0, done.stderr
    assert re.search(rf"array \d+ of 4 jobs for {BATCHES} ready batches", done.stderr)
    found = campaign_status(store, "big")
    assert found.state is CampaignState.DONE
    assert found.batches == {"ready": 0, "running": 0, "done": BATCHES, "failed": 0}
    assert found.predicted + found.failed == found.structures
    assert store.voltages.count_documents({}) == found.structures > 0.99 * COUNT
    assert found.failed < 0.02 * COUNT
    rows = list(store.batches.find({"campaign": "big", "kind": "predict"}))
    assert {len(row["attempts"]) for row in rows} == {1}
    assert {row["attempts"][0]["host"] for row in rows} == {"vs1", "vs2"}
    assert len({row["attempts"][0]["job"] for row in rows}) == 4
    for ion in ("Mg", "Ca"):
        best = run("results", "query", "--campaign", "big", "--ion", ion, "--top", 20, "--json")
        assert [row["rank"] for row in json.loads(best.stdout)] == list(range(1, 21))
    shown = run("slurm", "status", "--campaign", "big").stdout
    assert re.search(r"Jobs +\d+ completed\n", shown), shown
    assert f"{BATCHES} done" in shown


def test_batches_are_worked_where_the_database_is_never_reached(
    slurm, run, store, shared_data, tmp_path
) -> None:
    spec = write_spec(tmp_path, shared_data / "mp_pool.parquet", 120, 3, "away")
    run("campaign", "submit", spec)
    run("worker", "--campaign", "away", "--nlaunches", 1)
    folder = tmp_path / "files"
    written = run("campaign", "export", "away", folder)
    assert written.returncode == 0, written.stderr
    assert "Wrote 3 batch files" in written.stderr
    # What is exported is nobody else's, and no reconcile takes it for lost.
    assert run("worker", "--campaign", "away", "--nlaunches", 1).stderr.startswith("Ran 0")
    assert "0 lost" in run("slurm", "reconcile", "--campaign", "away").stdout

    nowhere = {
        **{k: v for k, v in os.environ.items() if not k.startswith("VOLTSCREEN_")},
        "VOLTSCREEN_HOME": str(tmp_path / "node"),
        "VOLTSCREEN_MONGO_URI": "mongodb://127.0.0.1:9/",
    }
    command = [sys.executable, "-m", "voltscreen", "worker", "--offline", str(folder)]
    script = ["sbatch", "--parsable", "--array=0-1", "--output=/dev/null", "--mem=2500",
              f"--wrap={' '.join(command)}"]  # fmt: skip
    job = subprocess.run(script, env=nowhere, capture_output=True, text=True, check=True).stdout
    until(lambda: not slurm.ask("squeue", "--noheader", f"--jobs={job.strip()}"), 400)
    assert len(list((folder / "done").glob("*.batch"))) == 3
    assert not list(folder.glob("*.batch"))
    assert not list(folder.glob("*.claim"))

    recovered = run("campaign", "recover", folder)
    assert recovered.returncode == 0, recovered.stderr
    assert re.search(r"Replayed 3 files: 1\d\d voltages are new, 0 were there; 3 batches ended",
                     recovered.stderr)  # fmt: skip
    assert "0 voltages are new" in run("campaign", "recover", folder, "--delete").stderr
    assert run("worker", "--campaign", "away").returncode == 0
    found = campaign_status(store, "away")
    assert found.state is CampaignState.DONE
    tried = [one for row in store.batches.find({"kind": "predict"}) for one in row["attempts"]]
    assert {one["job"].partition("_")[0] for one in tried} == {job.strip()}


def test_qlaunch_works_with_the_files_that_init_writes(slurm, run, store, tmp_path) -> None:
    folder = tmp_path / "project"
    assert run("init", folder).returncode == 0
    spec = tmp_path / "s.yaml"
    spec.write_text(
        yaml.safe_dump({"name": "q", "ions": ["Mg"], "source": {"hosts": ["graphite"]}})
    )
    run("campaign", "submit", spec)
    adapter = folder / "my_qadapter.yaml"
    adapter.write_text(adapter.read_text().replace("mem: 8G", "mem: 2500M"))
    launched = subprocess.run(
        [sys.executable, "-m", "fireworks.scripts.qlaunch_run", "-l", folder / "my_launchpad.yaml",
         "-w", folder / "my_fworker.yaml", "-q", adapter, "singleshot"],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert launched.returncode == 0, launched.stderr
    until(lambda: campaign_status(store, "q").state is CampaignState.DONE, 300)
    (batch,) = store.batches.find({"kind": "predict"})
    assert batch["attempts"][0]["gpus"] in {"0", "1"}
    (log,) = tmp_path.glob("voltscreen-*.log")
    until(lambda: "nothing more is ready" in log.read_text(), 60)
