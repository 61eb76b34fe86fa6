"""A worker that dies between two writes of FireWorks' own bookkeeping: resume mends it."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest

from tests.campaign.test_campaign import pool, spec_of
from voltscreen.campaign import control
from voltscreen.campaign.status import campaign_status
from voltscreen.campaign.worker import work
from voltscreen.campaign.worker_id import WorkerId
from voltscreen.process import ProcessId
from voltscreen.store.documents import CampaignState

CHILD = """
import os
from fireworks import LaunchPad
from voltscreen.campaign.worker import work

def die(): os._exit(9)
update, upsert = LaunchPad._update_wf, LaunchPad._upsert_fws
point = {point!r}

def updating(self, wf, ids):
    planned = len(wf.id_fw) > 2 and any(wf.id_fw[i].name.endswith("ingest") for i in ids)
    predicted = any("batch" in wf.id_fw[i].spec and wf.id_fw[i].state == "COMPLETED" for i in ids)
    if planned and point == "detours written, workflow not":
        die()
    if planned and point == "first Firework completed, workflow not":
        upsert(self, [wf.id_fw[i] for i in ids]); die()
    if predicted and point == "batch completed, workflow not":
        upsert(self, [wf.id_fw[i] for i in ids]); die()
    update(self, wf, ids)
    if planned and point == "workflow written, detours wait":
        die()

def upserting(self, fws, reassign_all=False):
    if point == "launch written, Firework not" and any(
        "batch" in fw.spec and fw.state == "RUNNING" for fw in fws):
        die()
    return upsert(self, fws, reassign_all)

LaunchPad._update_wf, LaunchPad._upsert_fws = updating, upserting
work("c")
"""


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "point",
    [
        "detours written, workflow not",
        "first Firework completed, workflow not",
        "workflow written, detours wait",
        "batch completed, workflow not",
        "launch written, Firework not",
    ],
)
def test_resume_mends_a_death_between_two_writes(store, launchpad, tmp_path, point) -> None:
    control.submit(store, launchpad, spec_of(pool(tmp_path)))
    child = subprocess.run(
        [sys.executable, "-c", CHILD.format(point=point)],
        check=False,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert child.returncode == 9, child.stderr
    control.resume(store, launchpad, "c")
    work("c")
    found = campaign_status(store, "c")
    assert (found.state, found.predicted, found.failed) == (CampaignState.DONE, 59, 1)
    assert found.batches["ready"] == found.batches["running"] == 0
    assert control.open_fireworks(launchpad, "c") == []


@pytest.mark.timeout(300)
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
