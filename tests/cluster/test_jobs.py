"""Workers in real SLURM jobs: how many there are, their GPUs, their time, and what they leave."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

import pytest
import yaml
from fireworks import FWorker

from tests.campaign.test_campaign import pool, spec_of
from tests.cluster.cluster import SITE, Stall, until
from voltscreen.campaign import control
from voltscreen.campaign.jobs import slurm_status
from voltscreen.campaign.reconcile import reconcile
from voltscreen.campaign.worker import WorkerEnd, work
from voltscreen.cluster import commands
from voltscreen.cluster.job import Job
from voltscreen.cluster.queue import how_they_ended
from voltscreen.store.documents import CampaignState

pytestmark = pytest.mark.timeout(900)

STRUCTURES = 90
BATCHES = 6
CONTROLLER_LOOKS = 30
"""Seconds between two looks of slurmctld at the time limits of jobs."""


@pytest.fixture
def planned(slurm, store, launchpad, tmp_path):
    """Campaign c: its source is read, all its batches are ready."""
    path = pool(tmp_path, STRUCTURES, bad=False)
    control.submit(store, launchpad, spec_of(path, batch={"max_atoms": 121}))
    work("c", max_launches=1)
    assert store.batches.count_documents({"state": "ready"}) == BATCHES


@pytest.fixture
def site(tmp_path):
    """Write a site profile: that of the test cluster, with changes."""

    def write(**changes):
        content = {**yaml.safe_load(SITE.read_text()), "folder": str(tmp_path / "jobs"), **changes}
        path = tmp_path / "site.yaml"
        path.write_text(yaml.safe_dump(content))
        return path

    return write


@pytest.fixture
def submit(run, site):
    """`voltscreen slurm submit` for campaign c."""

    def call(*options, environment=None, **changes):
        arguments = ("slurm", "submit", "--site", site(**changes), "--campaign", "c", *options)
        return run(*arguments, env={**os.environ, **(environment or {})})

    return call


def attempts(store):
    return [one for row in store.batches.find({"kind": "predict"}) for one in row["attempts"]]


def finished(store, launchpad) -> bool:
    return control.open_fireworks(launchpad, "c") == []


def test_ten_submits_and_two_at_once_never_exceed_cap_or_work(
    planned, slurm, submit, site, store, run
) -> None:
    def queued() -> int:
        return len(slurm.ask("squeue", "--noheader", "--array").splitlines())

    held = {"options": ["--hold"]}
    first = submit("--max-jobs", 4, **held)
    assert first.returncode == 0, first.stderr
    assert "of 4 jobs" in first.stderr
    for _ in range(9):
        again = submit("--max-jobs", 4, **held)
        assert again.returncode == 0
        assert "Nothing is submitted: 4 jobs are queued" in again.stderr
    assert queued() == 4

    slurm.clear()
    command = [
        sys.executable, "-m", "voltscreen", "slurm", "submit", "--campaign", "c",
        "--site", str(site(**held)), "--max-jobs", "20",
    ]  # fmt: skip
    both = [subprocess.Popen(command, stderr=subprocess.DEVNULL) for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0]
    assert queued() == BATCHES
    assert store.database["leases"].count_documents({}) == 0
    assert store.job_arrays.count_documents({}) == 2


def test_with_no_work_nothing_is_submitted(slurm, submit, store, launchpad, tmp_path) -> None:
    control.submit(store, launchpad, spec_of(pool(tmp_path, 10, bad=False)))
    work("c")
    done = submit()
    assert done.returncode == 0
    assert "nothing is submitted" in done.stderr
    assert store.job_arrays.count_documents({}) == 0


def test_a_reservation_is_kept_while_its_job_waits_and_freed_when_it_is_gone(
    planned, slurm, launchpad, tmp_path
) -> None:
    firework, launch = launchpad.reserve_fw(FWorker(name="qlaunch"), str(tmp_path))
    job = slurm.ask("sbatch", "--parsable", "--hold", "--wrap", "true", "--output=/dev/null")
    launchpad.set_reservation_id(launch, job)
    found = reconcile(launchpad, "c")
    assert found.freed == ()
    assert found.left[0].verdict.reason == f"reserved for job {job}: PENDING"
    slurm.ask("scancel", job)
    (freed,) = until(lambda: reconcile(launchpad, "c").freed, 30)
    assert freed.fw_id == firework.fw_id
    assert launchpad.fireworks.count_documents({"state": "READY"}) == BATCHES


def test_nothing_is_freed_while_slurm_does_not_answer(
    planned, slurm, launchpad, tmp_path, monkeypatch
) -> None:
    # A number that the cluster never gave: of its first jobs it may still know how they ended.
    env = {"job": Job("voltscreen", "900000", "900000", 0, "vs1", "root").to_plain()}
    launchpad.checkout_fw(FWorker(name="vs1|1|0", env=env), str(tmp_path))
    nobody = tmp_path / "slurm.conf"
    nobody.write_text((slurm.folder / "slurm.conf").read_text().replace("=16817", "=9"))
    with monkeypatch.context() as patch:
        patch.setenv("SLURM_CONF", str(nobody))
        patch.setattr(commands, "TIMEOUT", 5.0)
        found = reconcile(launchpad, "c")
        assert found.freed == ()
        assert "SLURM does not answer" in found.left[0].verdict.reason
    (freed,) = reconcile(launchpad, "c").freed
    assert freed.verdict.reason == "its job is gone"


def test_what_sbatch_refuses_is_told_in_its_own_words(planned, submit) -> None:
    done = submit(options=["--gres=tpu:1"])
    assert done.returncode == 3
    assert "Invalid generic resource" in done.stderr
    assert "The script is" in done.stderr


def test_a_database_that_the_nodes_cannot_reach_is_refused(planned, submit, store) -> None:
    done = submit(partition="far")
    assert done.returncode == 3
    assert "far1" in done.stderr
    assert "VOLTSCREEN_MONGO_URI" in done.stderr
    assert store.job_arrays.count_documents({}) == 0


def test_two_jobs_of_a_node_have_gpus_of_their_own_and_slow_batches_are_left_alone(
    planned, slurm, submit, store, launchpad, run
) -> None:
    with Stall() as stall:
        done = submit("--max-jobs", 2, options=["--nodelist=vs1"], environment=stall.environment)
        assert done.returncode == 0, done.stderr
        stall.wait(2)
        # Silent for an hour: as slow as a batch can be, and no heartbeat reached the database.
        for launch in launchpad.launches.find({"state": "RUNNING"}):
            history = launch["state_history"]
            for entry in history:
                entry["updated_on"] = datetime.now(UTC) - timedelta(hours=1)
            launchpad.launches.update_one(
                {"_id": launch["_id"]}, {"$set": {"state_history": history}}
            )
        for _ in range(3):
            found = reconcile(launchpad, "c")
            assert found.freed == ()
            assert {one.verdict.reason for one in found.left} == {"its job is RUNNING"}
        shown = json.loads(run("slurm", "status", "--campaign", "c", "--json").stdout)
        assert shown["jobs"] == {"RUNNING": 2}
        assert shown["batches"]["running"] == 2
        again = submit("--max-jobs", 2)
        assert "Nothing is submitted: 2 jobs" in again.stderr
    until(lambda: finished(store, launchpad), 200)
    tried = attempts(store)
    assert len(tried) == BATCHES
    assert {one["gpus"] for one in tried} == {"0", "1"}
    assert len({(one["job"], one["gpus"]) for one in tried}) == 2
    assert {one["host"] for one in tried} == {"vs1"}
    assert all(one["restart"] == 0 and one["device"] == "cpu" for one in tried)
    assert all(one["peak_memory"] > 50 and one["seconds"] > 0 for one in tried)


def test_a_requeued_job_takes_up_its_own_batch(planned, slurm, submit, store, launchpad) -> None:
    with Stall() as stall:
        submit("--max-jobs", 1, environment=stall.environment)
        stall.wait()
        (row,) = launchpad.fireworks.find({"state": "RUNNING"})
        job = launchpad.launches.find_one({"fw_id": row["fw_id"]})["fworker"]["env"]["job"]
        slurm.ask("scontrol", "requeue", job["id"])
        # Stopped as it is, it does not hear SIGTERM's handler, and is killed.
        until(lambda: "PENDING" in slurm.ask("squeue", "--noheader", "--format=%T"), 60)
    until(lambda: finished(store, launchpad), 300)
    batch = store.batches.find_one({"_id": row["spec"]["batch"]})
    (attempt,) = batch["attempts"]
    assert (attempt["job"], attempt["restart"]) == (job["name"], 1)
    tried = attempts(store)
    assert attempt["started_at"] == min(one["started_at"] for one in tried)
    assert len(tried) == BATCHES


def test_jobs_that_slurm_holds_after_a_failed_launch_are_released(
    planned, slurm, submit, store, launchpad, run
) -> None:
    ill = slurm.folder / "ill.vs1"
    ill.touch()
    try:
        submit("--max-jobs", 2, options=["--nodelist=vs1"])
        reasons = ("squeue", "--noheader", "--array", "--format=%r")
        until(lambda: slurm.ask(*reasons).count("launch failed requeued held") == 2, 60)
        shown = run("slurm", "status", "--campaign", "c").stdout
        assert re.search("Pending +2 launch failed requeued held", shown)
    finally:
        ill.unlink()
        slurm.ask("scontrol", "update", "node=vs1", "state=resume")
    done = submit("--max-jobs", 2)
    assert done.stderr.count("which SLURM held: launch failed requeued held") == 2
    assert "Nothing is submitted: 2 jobs are queued" in done.stderr
    until(lambda: finished(store, launchpad), 200)
    assert store.job_arrays.count_documents({}) == 1
    assert len(attempts(store)) == BATCHES


def test_slurms_signal_ends_a_worker_after_its_batch_and_before_its_time(
    planned, slurm, submit, store, launchpad, tmp_path, monkeypatch
) -> None:
    with Stall() as stall:
        submit("--max-jobs", 1, signal_seconds=120, environment=stall.environment)
        stall.wait()
        # A batch is in hand: now the end comes so near that the signal is due.
        began = datetime.fromisoformat(slurm.ask("squeue", "--noheader", "--format=%S"))
        minutes = 2 + (datetime.now() - began) // timedelta(minutes=1)  # noqa: DTZ005
        number = slurm.ask("squeue", "--noheader", "--format=%A")
        slurm.ask("scontrol", "update", f"jobid={number}", f"timelimit={minutes}")
        time.sleep(CONTROLLER_LOOKS + 2)
    array = store.job_arrays.find_one()
    until(lambda: slurm_status(store, "c").jobs == {"COMPLETED": 1}, 60)
    found = slurm.ask("sacct", "-X", "-n", "-P", "-o", "State,ExitCode", "-j", array["number"])
    assert found == f"FAILED|{int(WorkerEnd.STOPPED)}:0"
    name = f"{array['number']}_0"
    assert how_they_ended([name])[name].exit_code == WorkerEnd.STOPPED
    # The same without accounting: squeue remembers jobs for a while.
    plain = tmp_path / "slurm.conf"
    conf = (slurm.folder / "slurm.conf").read_text()
    plain.write_text(re.sub(r"(?m)^Accounting.*$", "", conf))
    with monkeypatch.context() as patch:
        patch.setenv("SLURM_CONF", str(plain))
        assert how_they_ended([name]) == {}
        assert slurm_status(store, "c").jobs == {"COMPLETED": 1}
    assert len(attempts(store)) == 1
    assert store.batches.count_documents({"state": "ready"}) == BATCHES - 1
    assert store.batches.count_documents({"state": "running"}) == 0
    assert slurm_status(store, "c").state is CampaignState.RUNNING
