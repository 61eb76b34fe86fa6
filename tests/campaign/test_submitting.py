"""Submits of one campaign at the same moment: one workflow."""

from __future__ import annotations

import contextlib
import multiprocessing

import pytest

from tests.campaign.test_campaign import pool, spec_of
from voltscreen.campaign import control, submitting
from voltscreen.campaign.worker_id import WorkerId
from voltscreen.errors import CampaignError
from voltscreen.store import connect
from voltscreen.store.documents import now


def submit(path, gate, answers) -> None:
    from voltscreen.campaign.launchpad import open_launchpad

    with connect(indexes=False) as store, contextlib.closing(open_launchpad()) as launchpad:
        gate.wait()
        answers.put(control.submit(store, launchpad, spec_of(path)).workflow_id)


def test_four_submits_at_once_make_one_workflow(store, launchpad, tmp_path) -> None:
    path = pool(tmp_path, 10, bad=False)
    context = multiprocessing.get_context("spawn")
    gate, answers = context.Barrier(4), context.Queue()
    processes = [context.Process(target=submit, args=(path, gate, answers)) for _ in range(4)]
    for process in processes:
        process.start()
    given = [answers.get(timeout=200) for _ in processes]
    for process in processes:
        process.join()
    assert sorted(given, key=str) == [1, None, None, None]
    assert launchpad.workflows.count_documents({}) == 1
    assert "submitting" not in store.campaigns.find_one({"_id": "c"})


def test_the_mark_of_a_dead_process_is_taken_over(store, launchpad, tmp_path) -> None:
    spec = spec_of(pool(tmp_path, 10, bad=False))
    control.register(store, spec)
    dead = WorkerId.current().name.rpartition("|")[0] + "|1"
    store.campaigns.update_one({}, {"$set": {"submitting": {"by": dead, "since": now()}}})
    assert control.submit(store, launchpad, spec).workflow_id is not None


def test_a_living_one_is_waited_for_and_then_named(store, launchpad, tmp_path, monkeypatch) -> None:
    spec = spec_of(pool(tmp_path, 10, bad=False))
    control.register(store, spec)
    monkeypatch.setattr(submitting, "WAIT_SECONDS", 0.3)
    with (
        submitting.alone(store, "c"),
        pytest.raises(CampaignError, match="being submitted by another process"),
    ):
        control.submit(store, launchpad, spec)
