"""Campaigns on a real server, with the worker in this process."""

from __future__ import annotations

import contextlib
import json

import numpy as np
import pandas as pd
import pytest

from tests.model.helpers import random_crystal
from voltscreen.campaign import control
from voltscreen.campaign.liveness import Liveness
from voltscreen.campaign.plan import campaign_members, ingest_campaign, plan_campaign
from voltscreen.campaign.register import register
from voltscreen.campaign.spec import parse_spec
from voltscreen.campaign.status import campaign_status, failures
from voltscreen.campaign.worker import work
from voltscreen.campaign.worker_id import WorkerId, parse_worker_name
from voltscreen.errors import CampaignError, FileFormatError
from voltscreen.model import load_model, predict_candidates
from voltscreen.process import ProcessId
from voltscreen.store import ResultQuery, get_structure, query_results
from voltscreen.store.documents import BatchKind, CampaignState


def pool(folder, count: int = 60, bad: bool = True):
    rows = []
    for seed in range(count):
        crystal = random_crystal(seed, 4 + seed % 9, (3, 8, 15, 25, 26))
        rows.append(
            {
                "material_id": f"mp-{seed}",
                "lattice": crystal.lattice.ravel(),
                "atomic_numbers": crystal.atomic_numbers.astype(int),
                "frac_coords": crystal.frac_coords.ravel(),
                "energy_above_hull": seed / 100,
            }
        )
    if bad:
        rows[7]["frac_coords"] = np.zeros_like(rows[7]["frac_coords"])
    path = folder / f"pool-{count}.parquet"
    pd.DataFrame(rows).to_parquet(path)
    return path


def spec_of(path, name: str = "c", **fields):
    source = {"parquet": {"path": str(path), **fields.pop("rows", {})}}
    return parse_spec(
        {
            "name": name,
            "ions": ["Li", "Mg"],
            "source": source,
            "batch": {"max_atoms": 150},
            **fields,
        }
    )


def test_a_campaign_from_submit_to_ranking(store, launchpad, tmp_path) -> None:
    spec = spec_of(pool(tmp_path))
    submission = control.submit(store, launchpad, spec)
    assert submission.workflow_id is not None
    assert campaign_status(store, "c").state is CampaignState.NEW
    worked = work("c")
    found = campaign_status(store, "c")
    assert found.state is CampaignState.DONE
    assert (found.structures, found.predicted, found.failed) == (60, 59, 1)
    assert found.batches == {"ready": 0, "running": 0, "done": found.batches["done"], "failed": 0}
    assert found.batches["done"] >= 3
    assert worked.launches == found.batches["done"] + 2
    assert found.errors == []
    (failure,) = failures(store, "c", 5)
    assert failure.source_ids == ["mp-7"]
    assert "overlapping" in failure.reason

    # Every structure has a voltages document, and it is what the model says.
    model = load_model("default")
    members = list(campaign_members(store, "c"))
    assert store.voltages.count_documents({}) == len(members) == 60
    expected = predict_candidates(model, [random_crystal(3, 7, (3, 8, 15, 25, 26))])[0]
    row = store.voltages.find_one(
        {"structure_id": random_crystal(3, 7, (3, 8, 15, 25, 26)).content_hash}
    )
    for ion in model.ions:
        stored = row["ions"][ion]
        assert abs(stored["voltage"] - expected.ions[ion].voltage) < 1e-5
        additive = np.frombuffer(stored["additive"], "<f4").astype(float)
        assert abs(additive.mean() + stored["site"] - stored["voltage"]) < 1e-6
        assert len(np.frombuffer(stored["linear"], "<f4")) == len(additive)

    rows = query_results(store, ResultQuery(campaign="c", ion="Mg"))
    assert [r.rank for r in rows] == list(range(1, len(rows) + 1))
    assert rows[0].energy_density == max(r.energy_density or 0 for r in rows)
    assert rows[0].properties.keys() == {"energy_above_hull"}

    batch = store.batches.find_one({"campaign": "c", "kind": BatchKind.PREDICT})
    assert launchpad.get_fw_by_id(batch["fw_id"]).spec["batch"] == batch["_id"]
    (attempt,) = batch["attempts"]
    assert attempt["device"] == "cpu"
    assert attempt["peak_memory"] > 50
    assert attempt["seconds"] > 0


def test_the_same_spec_again_finds_nothing_to_do(store, launchpad, tmp_path) -> None:
    spec = spec_of(pool(tmp_path))
    control.submit(store, launchpad, spec)
    assert "already submitted" in control.submit(store, launchpad, spec).message
    work("c")
    before = {row["_id"]: row["written_at"] for row in store.voltages.find()}
    again = control.submit(store, launchpad, spec)
    assert again.workflow_id is None
    assert "nothing new" in again.message
    assert {row["_id"]: row["written_at"] for row in store.voltages.find()} == before
    assert store.batches.count_documents({"kind": BatchKind.INGESTED}) == 0


def test_an_overlapping_spec_predicts_only_the_rest(store, launchpad, tmp_path) -> None:
    path = pool(tmp_path)
    control.submit(store, launchpad, spec_of(path, "first", rows={"limit": 30}))
    work("first")
    before = {row["_id"]: row["written_at"] for row in store.voltages.find()}
    control.submit(store, launchpad, spec_of(path, "second", rows={"start": 15, "limit": 30}))
    work("second")
    found = campaign_status(store, "second")
    assert (found.structures, found.reused, found.predicted) == (30, 15, 30)
    predicted = store.batches.find({"campaign": "second", "kind": BatchKind.PREDICT})
    assert sum(row["n_structures"] for row in predicted) == 15
    after = {row["_id"]: row["written_at"] for row in store.voltages.find()}
    assert len(after) == 45
    assert {key: after[key] for key in before} == before
    ranked = query_results(store, ResultQuery(campaign="second", ion="Li"))
    assert len(ranked) > 15


def test_a_source_that_grew_adds_only_what_is_new(store, launchpad, tmp_path) -> None:
    path = pool(tmp_path, 20, bad=False)
    spec = spec_of(path)
    control.submit(store, launchpad, spec)
    work("c")
    pool(tmp_path, 25, bad=False).replace(path)
    assert "5 new structures" in control.submit(store, launchpad, spec).message
    work("c")
    found = campaign_status(store, "c")
    assert (found.state, found.structures, found.predicted) == (CampaignState.DONE, 25, 25)


def test_sources_are_read_together_and_what_they_share_is_one_member(
    store, launchpad, tmp_path
) -> None:
    path = pool(tmp_path, 20, bad=False)
    shared = random_crystal(3, 7, (3, 8, 15, 25, 26)).to_pymatgen()
    (tmp_path / "shared.json").write_text(json.dumps(shared.as_dict()))
    several = {"hosts": ["tis2-1t"], "files": str(tmp_path / "*.json"), "parquet": str(path)}
    spec = parse_spec({"name": "c", "ions": ["Mg"], "source": several})
    control.submit(store, launchpad, spec)
    work("c")
    assert campaign_status(store, "c").structures == len(list(campaign_members(store, "c"))) == 21
    both = get_structure(store, "shared.json")
    assert {entry.source for entry in both.sources} == {"files", "parquet"}
    assert get_structure(store, "tis2-1t").id in set(campaign_members(store, "c"))
    assert "nothing new" in control.submit(store, launchpad, spec).message

    # Each of them may grow.
    for each in (pool(tmp_path, 23, bad=False), tmp_path / "shared.json"):
        each.replace(path if each.suffix == ".parquet" else tmp_path / "renamed.json")
        control.submit(store, launchpad, spec)
        work("c")
    assert len(list(campaign_members(store, "c"))) == 24
    assert {entry.id for entry in get_structure(store, both.id).sources} >= {"renamed.json"}


def test_a_campaign_of_several_sources_wants_all_of_them(store, launchpad, tmp_path) -> None:
    lacking = {"hosts": "all", "parquet": str(tmp_path / "none.parquet")}
    with pytest.raises(FileFormatError, match="none.parquet"):
        control.submit(
            store, launchpad, parse_spec({"name": "c", "ions": ["Mg"], "source": lacking})
        )
    assert store.campaigns.count_documents({}) == 0


def test_a_name_that_is_taken_is_refused(store, launchpad, tmp_path) -> None:
    path = pool(tmp_path, 10)
    control.submit(store, launchpad, spec_of(path))
    with pytest.raises(CampaignError, match="another spec"):
        control.submit(store, launchpad, spec_of(path, rows={"limit": 3}))
    store.campaigns.update_one({"_id": "c"}, {"$set": {"model_id": "older"}})
    with pytest.raises(CampaignError, match="made with model older"):
        control.submit(store, launchpad, spec_of(path))


def test_a_campaign_that_a_newer_voltscreen_stored_is_not_worked(
    store, launchpad, tmp_path
) -> None:
    control.submit(store, launchpad, spec_of(pool(tmp_path, 10, bad=False)))
    store.campaigns.update_one({}, {"$set": {"spec.version": 2}})
    work("c")
    found = campaign_status(store, "c")
    assert found.batches["done"] == 0
    reasons = " ".join(error["reason"] for error in found.errors)
    assert "of version 2, and this voltscreen reads version 1" in reasons
    assert store.voltages.count_documents({}) == 0


def test_planning_twice_finds_nothing_more_and_batches_are_even(store, tmp_path) -> None:
    spec = spec_of(pool(tmp_path))
    model_id = register(store, spec).model_id
    assert ingest_campaign(store, spec) == 60
    assert plan_campaign(store, "c", model_id, 150) == 60
    batches = list(store.batches.find({"campaign": "c"}).sort("number"))
    assert [b["_id"] for b in batches] == [f"c:{n:06d}" for n in range(1, len(batches) + 1)]
    atoms = [b["atoms"] for b in batches]
    assert max(atoms) <= 165
    assert min(atoms) > 0.6 * max(atoms)
    members = list(campaign_members(store, "c"))
    ingest_campaign(store, spec)
    assert plan_campaign(store, "c", model_id, 150) == 0
    assert list(campaign_members(store, "c")) == members


def test_a_failing_batch_is_recorded_and_resumed(store, launchpad, tmp_path, monkeypatch) -> None:
    from voltscreen.model import predictor

    spec = spec_of(pool(tmp_path))
    control.submit(store, launchpad, spec)
    real = predictor.predict_columns
    calls = []

    def fails_once(model, structures):
        calls.append(len(structures))
        if len(calls) == 2:
            raise MemoryError("no memory left")
        return real(model, structures)

    monkeypatch.setattr(predictor, "predict_columns", fails_once)
    work("c")
    found = campaign_status(store, "c")
    # The others are ranked all the same, and the reason is on record.
    assert found.state is CampaignState.DONE
    assert found.batches["failed"] == 1
    assert found.errors[0]["stage"] == "predict"
    assert "no memory left" in found.errors[0]["reason"]
    failed = store.batches.find_one({"campaign": "c", "state": "failed"})
    assert "no memory left" in failed["attempts"][0]["error"]

    resumed = control.resume(store, launchpad, "c")
    assert (resumed.lost, resumed.failed) == (0, 1)
    work("c")
    found = campaign_status(store, "c")
    assert found.state is CampaignState.DONE
    assert found.batches["failed"] == 0
    assert (found.predicted, found.failed) == (59, 1)
    assert store.voltages.count_documents({}) == 60


def test_a_source_that_vanished_is_reported_and_can_be_resumed(store, launchpad, tmp_path) -> None:
    path = pool(tmp_path, 10, bad=False)
    control.submit(store, launchpad, spec_of(path))
    path.rename(tmp_path / "away")
    work("c")
    found = campaign_status(store, "c")
    assert found.state is not CampaignState.DONE
    assert "cannot read" in found.errors[0]["reason"]
    (tmp_path / "away").rename(path)
    control.resume(store, launchpad, "c")
    work("c")
    found = campaign_status(store, "c")
    assert (found.state, found.predicted) == (CampaignState.DONE, 10)


def test_cancel_takes_back_what_has_not_started(store, launchpad, tmp_path) -> None:
    spec = spec_of(pool(tmp_path))
    control.submit(store, launchpad, spec)
    work("c", max_launches=2)
    done = store.voltages.count_documents({})
    assert done > 0
    assert control.cancel(store, launchpad, "c") > 0
    assert work("c").launches == 0
    assert store.voltages.count_documents({}) == done
    assert campaign_status(store, "c").state is CampaignState.CANCELLED
    for action in (
        lambda: control.submit(store, launchpad, spec),
        lambda: control.resume(store, launchpad, "c"),
    ):
        with pytest.raises(CampaignError, match="cancelled"):
            action()


def test_a_launch_of_a_dead_process_is_lost_and_of_a_living_one_is_not(
    store, launchpad, tmp_path
) -> None:
    import socket

    from fireworks import FWorker

    control.submit(store, launchpad, spec_of(pool(tmp_path)))
    alive = WorkerId(socket.gethostname(), ProcessId.current())
    firework, _ = launchpad.checkout_fw(FWorker(name=alive.name), str(tmp_path))
    row = launchpad.fireworks.find_one({"fw_id": firework.fw_id})
    assert not Liveness(launchpad).judge([row])[firework.fw_id].lost
    assert control.resume(store, launchpad, "c").lost == 0
    dead = WorkerId(alive.host, ProcessId(alive.process.pid, "1"))
    launchpad.launches.update_many({}, {"$set": {"fworker.name": dead.name}})
    assert Liveness(launchpad).judge([row])[firework.fw_id].lost
    assert control.resume(store, launchpad, "c").lost == 1
    work("c")
    assert campaign_status(store, "c").state is CampaignState.DONE


def test_a_checkout_that_died_before_its_launch_was_written_is_lost(
    store, launchpad, tmp_path
) -> None:
    control.submit(store, launchpad, spec_of(pool(tmp_path, 10, bad=False)))
    launchpad.fireworks.update_many({"state": "READY"}, {"$set": {"state": "RESERVED"}})
    assert work("c").launches == 0
    assert control.resume(store, launchpad, "c").lost == 1
    work("c")
    assert campaign_status(store, "c").predicted == 10


def test_worker_names_come_back() -> None:
    worker = WorkerId("node-1", ProcessId(12, "345"))
    assert parse_worker_name(worker.name) == worker
    assert parse_worker_name("Automatically generated Worker") is None


def test_an_unknown_campaign_lists_the_known_ones(store, launchpad, tmp_path) -> None:
    control.submit(store, launchpad, spec_of(pool(tmp_path, 10), "oxides"))
    with pytest.raises(CampaignError, match="oxides"):
        campaign_status(store, "oxide")


def test_workflow_and_heartbeat_survive_a_lock_left_by_a_dead_process(
    store, launchpad, tmp_path
) -> None:
    control.submit(store, launchpad, spec_of(pool(tmp_path, 10, bad=False)))
    launchpad.workflows.update_many({}, {"$set": {"locked": True}})
    with contextlib.suppress(Exception):
        control.resume(store, launchpad, "c")
    assert launchpad.workflows.count_documents({"locked": {"$exists": True}}) == 0
    work("c")
    assert campaign_status(store, "c").state is CampaignState.DONE
