"""What a dead process leaves while others live, or for the next submit (more in tests/chaos)."""

from __future__ import annotations

import socket

import pytest

from tests.campaign.test_campaign import pool, spec_of
from voltscreen.campaign import control
from voltscreen.campaign.status import campaign_status
from voltscreen.campaign.worker import work
from voltscreen.campaign.worker_id import WorkerId
from voltscreen.process import ProcessId


def test_a_lock_of_a_dead_worker_is_freed_while_another_lives(store, launchpad, tmp_path) -> None:
    from fireworks import FWorker

    control.submit(store, launchpad, spec_of(pool(tmp_path)))
    work("c", max_launches=1)
    me = WorkerId(socket.gethostname(), ProcessId.current())
    launchpad.checkout_fw(FWorker(name=me.name), str(tmp_path))
    dead = WorkerId(me.host, ProcessId(me.process.pid, "1"))
    launchpad.checkout_fw(FWorker(name=dead.name), str(tmp_path))
    launchpad.workflows.update_many({}, {"$set": {"locked": True}})
    assert control.resume(store, launchpad, "c").lost == 1
    assert launchpad.fireworks.count_documents({"state": "RUNNING"}) == 1


def test_a_submit_that_died_after_its_plan_is_made_good_by_the_next(
    store, launchpad, tmp_path, monkeypatch
) -> None:
    path = pool(tmp_path, 20, bad=False)
    control.submit(store, launchpad, spec_of(path))
    work("c")
    pool(tmp_path, 40, bad=False).replace(path)
    with monkeypatch.context() as patch:
        patch.setattr(control, "continued_workflow", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            control.submit(store, launchpad, spec_of(path))
    assert control.submit(store, launchpad, spec_of(path)).workflow_id is not None
    work("c")
    assert campaign_status(store, "c").predicted == 40
