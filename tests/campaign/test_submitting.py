"""Submits of one campaign at the same moment: one workflow."""

from __future__ import annotations

import contextlib
import multiprocessing
import os

import pytest

from tests.campaign.test_campaign import pool, spec_of
from voltscreen.campaign import control
from voltscreen.errors import CampaignError
from voltscreen.store import connect
from voltscreen.store.lease import lease


def submit(path, gate, answers) -> None:
    from voltscreen.campaign.launchpad import open_launchpad

    with connect(indexes=False) as store, contextlib.closing(open_launchpad()) as launchpad:
        gate.wait()
        answers.put(control.submit(store, launchpad, spec_of(path)).workflow_id)


def hold_and_die() -> None:
    with connect(indexes=False) as store, lease(store, "submit c", seconds=3600):
        os._exit(1)


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
    assert store.database["leases"].count_documents({}) == 0


def test_a_lease_of_a_dead_process_is_taken_over(store, launchpad, tmp_path) -> None:
    dead = multiprocessing.get_context("spawn").Process(target=hold_and_die)
    dead.start()
    dead.join()
    assert store.database["leases"].count_documents({"_id": "submit c"}) == 1
    spec = spec_of(pool(tmp_path, 10, bad=False))
    assert control.submit(store, launchpad, spec).workflow_id is not None


def test_a_living_one_is_waited_for_and_then_named(store, launchpad, tmp_path, monkeypatch) -> None:
    spec = spec_of(pool(tmp_path, 10, bad=False))
    control.register(store, spec)
    monkeypatch.setattr(control, "WAIT_SECONDS", 0.3)
    with (
        lease(store, "submit c"),
        pytest.raises(CampaignError, match="'submit c' is under way in process"),
    ):
        control.submit(store, launchpad, spec)
