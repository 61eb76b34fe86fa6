"""Results while the database is away, batches that are handed back, and files that carry them."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta

import pytest
from fireworks import FWorker
from pymongo.errors import AutoReconnect

from tests.campaign.test_campaign import pool, spec_of
from voltscreen.campaign import control, offline, predict, writer
from voltscreen.campaign.lock import WorkflowLock
from voltscreen.campaign.reconcile import reconcile
from voltscreen.campaign.recover import recover
from voltscreen.campaign.shift import MARGIN, BatchEnd, Shift
from voltscreen.campaign.spool import read_spool, spool_files
from voltscreen.campaign.status import campaign_status
from voltscreen.campaign.worker import WorkerEnd, offline_work, work
from voltscreen.errors import CampaignError, FileFormatError
from voltscreen.model import load_model
from voltscreen.settings import settings
from voltscreen.store.documents import BatchDocument, CampaignState
from voltscreen.store.lease import lease

STRUCTURES = 40


@pytest.fixture
def spool(tmp_path, monkeypatch):
    monkeypatch.setenv("VOLTSCREEN_SPOOL", str(tmp_path / "spool"))
    settings.cache_clear()
    return tmp_path / "spool"


@pytest.fixture
def planned(store, launchpad, tmp_path) -> list[BatchDocument]:
    """Campaign c, read and planned."""
    control.submit(store, launchpad, spec_of(pool(tmp_path, STRUCTURES, bad=False)))
    work("c", max_launches=1)
    rows = store.batches.find({"kind": "predict"}).sort("number")
    return [BatchDocument.from_mongo(row) for row in rows]


def away(*_: object, **__: object) -> None:
    raise AutoReconnect("the server is away")


def test_results_wait_in_a_spool_file_and_are_written_when_the_database_is_back(
    planned, store, spool, monkeypatch
) -> None:
    seen = []
    with monkeypatch.context() as patch:
        patch.setattr(writer, "insert_new", away)
        real = writer.replay

        def replaying(*arguments):
            seen.append([path.name for path in spool_files(spool)])
            return real(*arguments)

        patch.setattr(writer, "replay", replaying)
        end = predict.predict_batch(store, planned[0].id, load_model("default"), 1, Shift())
    assert end is BatchEnd.DONE
    assert len(seen) == 1
    assert len(seen[0]) == 1
    assert list(spool_files(spool)) == []
    row = store.batches.find_one({"_id": planned[0].id})
    assert row["state"] == "done"
    assert row["predicted"] == planned[0].n_structures
    assert [one["spooled"] for one in row["attempts"]] == [True]
    assert store.voltages.count_documents({}) == planned[0].n_structures


def test_a_database_that_stays_away_leaves_a_file_that_recover_replays_once(
    planned, store, launchpad, spool, monkeypatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(writer, "insert_new", away)
        patch.setattr(Shift, "wait_for_database", lambda *_: False)
        assert work("c").end is WorkerEnd.SPOOLED
    assert store.voltages.count_documents({}) == 0
    (path,) = spool_files(spool)
    first, *_ = recover(store, launchpad, spool)
    assert (first.new, first.known, first.finished) == (planned[0].n_structures, 0, True)
    again, *_ = recover(store, launchpad, spool)
    assert (again.new, again.known, again.finished) == (0, planned[0].n_structures, False)
    assert work("c").end is WorkerEnd.NOTHING_READY
    found = campaign_status(store, "c")
    assert (found.state, found.predicted) == (CampaignState.DONE, STRUCTURES)
    rows = store.batches.find({"kind": "predict"})
    assert [len(row["attempts"]) for row in rows] == [1] * len(planned)

    # A byte that changed, a file that was cut off, another file: told, and left alone.
    whole = path.read_bytes()
    for content in (whole[:-1] + bytes([whole[-1] ^ 1]), whole[: len(whole) // 2], b"hello"):
        path.write_bytes(content)
        with pytest.raises(FileFormatError, match="damaged"):
            read_spool(path)
        (refused,) = recover(store, launchpad, spool)
        assert "damaged" in refused.refused
    with pytest.raises(CampaignError, match="no folder"):
        list(recover(store, launchpad, spool / "nowhere"))


def test_a_batch_without_time_is_handed_back_with_what_it_has(
    planned, store, launchpad, monkeypatch
) -> None:
    monkeypatch.setattr(predict, "CHUNK", 4)
    shift = Shift(end=time.time() + 3600)
    real = predict.predict_structures

    def slow(found, ids, model):
        # The time is over while the first chunk is predicted.
        shift.end = time.time() + MARGIN
        return real(found, ids, model)

    with monkeypatch.context() as patch:
        patch.setattr(predict, "predict_structures", slow)
        patch.setattr(Shift, "begin", lambda: shift)
        assert work("c").end is WorkerEnd.HANDED_BACK
    row = store.batches.find_one({"_id": planned[0].id})
    assert row["state"] == "ready"
    assert row["attempts"][0]["handed_back"] is True
    assert store.voltages.count_documents({}) == 4
    assert launchpad.fireworks.count_documents({"state": "READY"}) == len(planned)
    assert launchpad.fireworks.count_documents({"state": "FIZZLED"}) == 0
    work("c")
    assert campaign_status(store, "c").predicted == STRUCTURES


def test_an_outage_between_batches_is_waited_for(planned, store, launchpad, monkeypatch) -> None:
    from voltscreen.campaign.launchpad import VoltscreenLaunchPad

    real = VoltscreenLaunchPad.checkout_fw
    calls = []

    def cut(self, *arguments, **options):
        calls.append(1)
        found = real(self, *arguments, **options)
        if len(calls) == 2:
            # Checked out, and the answer never came.
            away()
        return found

    monkeypatch.setattr(VoltscreenLaunchPad, "checkout_fw", cut)
    assert work("c").end is WorkerEnd.NOTHING_READY
    assert campaign_status(store, "c").predicted == STRUCTURES
    rows = store.batches.find({"kind": "predict"})
    assert [len(row["attempts"]) for row in rows] == [1] * len(planned)


def test_exported_batches_come_back(planned, store, launchpad, tmp_path) -> None:
    folder = tmp_path / "files"
    paths = offline.export_batches(store, launchpad, "c", folder, 2)
    assert len(paths) == 2
    assert reconcile(launchpad, "c").freed == ()
    assert control.resume(store, launchpad, "c").lost == 0
    # A dead worker's claim is nobody's, a living one's is.
    (folder / f"{paths[0].stem}.claim").write_text("here|1|0")
    assert offline_work(folder).launches == 1
    (folder / f"{paths[0].stem}.claim").unlink()
    assert offline_work(folder).end is WorkerEnd.NOTHING_READY
    assert offline.open_files(folder) == []
    assert [found.finished for found in recover(store, launchpad, folder)] == [True, True]
    offline.export_batches(store, launchpad, "c", tmp_path / "more")
    # Nobody waits for what a person must bring back.
    assert work("c").launches == 0
    assert offline.take_back(store, launchpad, "c") == len(planned) - 2
    work("c")
    assert campaign_status(store, "c").predicted == STRUCTURES


def test_a_reconcile_does_not_free_what_was_taken_anew(planned, launchpad, tmp_path) -> None:
    from voltscreen.campaign.reconcile import free

    firework, _ = launchpad.checkout_fw(FWorker(name="gone|1|0"), str(tmp_path))
    columns = {"fw_id": 1, "state": 1, "launches": 1, "claim": 1, "spec": 1}
    judged = launchpad.fireworks.find_one({"fw_id": firework.fw_id}, columns)
    launchpad.ready_again(firework.fw_id)
    launchpad.checkout_fw(FWorker(name="lives|1|0"), str(tmp_path), fw_id=firework.fw_id)
    assert not free(launchpad, judged)
    assert launchpad.fireworks.find_one({"fw_id": firework.fw_id})["state"] == "RUNNING"


def test_a_reservation_whose_job_was_never_submitted_is_freed(planned, launchpad, tmp_path) -> None:
    firework, launch = launchpad.reserve_fw(FWorker(name="qlaunch"), str(tmp_path))
    assert reconcile(launchpad, "c").freed == ()
    old = datetime.now(UTC) - timedelta(hours=1)
    launchpad.launches.update_one(
        {"launch_id": launch},
        {"$set": {"state_history.0.created_on": old, "state_history.0.updated_on": old}},
    )
    (freed,) = reconcile(launchpad, "c").freed
    assert freed.fw_id == firework.fw_id
    assert launchpad.fireworks.find_one({"fw_id": firework.fw_id})["state"] == "READY"


def test_a_lock_of_the_dead_is_broken_and_one_of_the_living_is_not(
    planned, launchpad, monkeypatch
) -> None:
    from voltscreen.campaign import lock

    monkeypatch.setattr(lock, "BREAK_AFTER", 1.0)
    (workflow,) = launchpad.workflows.find()
    node = workflow["nodes"][0]
    launchpad.workflows.update_one({"_id": workflow["_id"]}, {"$set": {"locked": True}})
    began = time.monotonic()
    with launchpad.locked(node):
        assert time.monotonic() - began > 1.0
        taken = threading.Event()

        def waits() -> None:
            with WorkflowLock(launchpad.workflows, node):
                taken.set()

        waiting = threading.Thread(target=waits)
        waiting.start()
        assert not taken.wait(0.5)
    assert taken.wait(5)
    waiting.join()
    with pytest.raises(LookupError), launchpad.locked(99_999):
        pass


def test_a_lease_is_held_by_one_and_ends_with_its_holder(store) -> None:
    order = []

    def second() -> None:
        with lease(store, "x"):
            order.append("second")

    with lease(store, "x"):
        other = threading.Thread(target=second)
        other.start()
        time.sleep(0.3)
        order.append("first")
    other.join()
    assert order == ["first", "second"]
    past = datetime.now(UTC) - timedelta(seconds=1)
    store.database["leases"].insert_one({"_id": "x", "mark": "dead", "until": past})
    with lease(store, "x", wait=1):
        pass
