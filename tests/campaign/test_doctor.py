"""Each inconsistency is planted in a finished campaign, found, mended, and not found again."""

from __future__ import annotations

import json
import os
import socket
from datetime import UTC, datetime, timedelta

import pytest

from tests.campaign.test_campaign import pool, spec_of
from tests.model.helpers import small_model
from voltscreen.campaign import control
from voltscreen.campaign.doctor import Kind, Patient, examine
from voltscreen.campaign.status import campaign_status
from voltscreen.campaign.worker import work
from voltscreen.graph import INSERTION
from voltscreen.model.files import save_model
from voltscreen.store.documents import CampaignState

DEAD = "elsewhere|1|1"


@pytest.fixture
def campaign(store, launchpad, tmp_path, voltscreen_home):
    """A campaign that is done, by a small model."""
    save_model(small_model(spec=INSERTION), voltscreen_home / "models" / "small.safetensors")
    control.submit(store, launchpad, spec_of(pool(tmp_path, 20), model="small"))
    work("c")
    assert campaign_status(store, "c").state is CampaignState.DONE


@pytest.fixture
def patient(store, launchpad, voltscreen_home):
    return Patient(store, launchpad, voltscreen_home)


def batch_firework(launchpad):
    return launchpad.fireworks.find_one({"spec.batch": {"$exists": True}})


def damaged(data):
    middle = len(data) // 2
    return data[:middle] + b"x" * 64 + data[middle + 64 :]


def index(store, launchpad, home):
    store.rankings.drop_index("campaign_1_ion_1_voltage_1")


def schema(store, launchpad, home):
    store.voltages.update_many(
        {"status": "failed"},
        {"$set": {"schema_version": 1, "reason": "the cell has no room: less than 0.5"}},
    )


def weights(store, launchpad, home):
    chunks = store.database["weights.chunks"]
    chunks.update_one({}, {"$set": {"data": b"x" * 100}})


def cached(store, launchpad, home):
    (path,) = (home / "models-cache").glob(f"{store.models.find_one()['_id']}*")
    path.write_bytes(damaged(path.read_bytes()))


def imported(store, launchpad, home):
    data = (home / "models" / "small.safetensors").read_bytes()
    (home / "models" / "broken.safetensors").write_bytes(damaged(data))


def leased(store, launchpad, home):
    dead = {"host": socket.gethostname(), "pid": os.getpid(), "started": "before"}
    later = datetime.now(UTC) + timedelta(hours=1)
    store.database["leases"].insert_one({"_id": "submit c", "mark": "m", "until": later, **dead})


def lock(store, launchpad, home):
    launchpad.workflows.update_many({}, {"$set": {"locked": True}})


def reserved(store, launchpad, home):
    row = batch_firework(launchpad)
    launchpad.fireworks.update_one(
        {"_id": row["_id"]}, {"$set": {"state": "RESERVED", "launches": []}}
    )
    launchpad.launches.delete_many({"fw_id": row["fw_id"]})


def lost(store, launchpad, home):
    row = batch_firework(launchpad)
    launchpad.fireworks.update_one({"_id": row["_id"]}, {"$set": {"state": "RUNNING"}})
    launchpad.launches.update_many(
        {"fw_id": row["fw_id"]}, {"$set": {"state": "RUNNING", "fworker.name": DEAD}}
    )
    launchpad.launches.update_many(
        {"fw_id": row["fw_id"]}, {"$set": {"state_history.$[].updated_on": "2020-01-01T00:00:00"}}
    )
    store.batches.update_one({"_id": row["spec"]["batch"]}, {"$set": {"state": "running"}})


def orphan(store, launchpad, home):
    row = batch_firework(launchpad)
    row |= {"_id": "other", "fw_id": 9999, "state": "WAITING"}
    launchpad.fireworks.insert_one(row)


def half(store, launchpad, home):
    row = launchpad.workflows.find_one()
    row |= {"_id": "other", "nodes": [7777, 7778], "fw_states": {"7777": "READY"}}
    launchpad.workflows.insert_one(row)


def asleep(store, launchpad, home):
    row = launchpad.workflows.find_one()
    states = dict.fromkeys(row["fw_states"], "WAITING")
    launchpad.workflows.update_one({"_id": row["_id"]}, {"$set": {"fw_states": states}})


def idle(store, launchpad, home):
    store.batches.update_one({"_id": "c:000001"}, {"$set": {"state": "ready"}})


def hole(store, launchpad, home):
    keys = store.batches.find_one({"_id": "c:000001"})["structure_ids"][:2]
    store.voltages.delete_many({"structure_id": {"$in": keys}})


def loose(store, launchpad, home):
    row = store.voltages.find_one({"status": "ok"})
    row |= {"_id": f"{'0' * 32}:{row['model_id']}", "structure_id": "0" * 32}
    store.voltages.insert_one(row)


PLANTED = {
    index: Kind.INDEX,
    schema: Kind.SCHEMA,
    weights: Kind.MODEL,
    cached: Kind.MODEL,
    imported: Kind.MODEL,
    leased: Kind.LEASE,
    lock: Kind.LOCK,
    reserved: Kind.RESERVED,
    lost: Kind.LOST,
    orphan: Kind.ORPHAN,
    half: Kind.HALF,
    asleep: Kind.WAITING,
    idle: Kind.BATCH,
    hole: Kind.HOLE,
    loose: Kind.LOOSE,
}


def test_every_kind_of_finding_is_planted() -> None:
    assert set(PLANTED.values()) == set(Kind)


def test_a_healthy_database_has_no_findings(campaign, patient) -> None:
    assert examine(patient).findings == ()


def test_every_planted_inconsistency_is_found_and_mended(
    campaign, store, launchpad, patient, voltscreen_home
) -> None:
    voltages = store.voltages.count_documents({})
    for plant, kind in PLANTED.items():
        plant(store, launchpad, voltscreen_home)
        found = examine(patient)
        assert kind in {finding.kind for finding in found.findings}, plant.__name__
        assert found.mended == ()
        for finding in found.findings:
            assert finding.meaning
            assert finding.repair
        repaired = examine(patient, repair=True)
        assert repaired.left == (), plant.__name__
        # What a repair made ready again is done by a worker; then nothing is left to find.
        work("c")
        assert examine(patient).findings == (), plant.__name__
        assert examine(patient, repair=True).findings == ()
    found = campaign_status(store, "c")
    assert (found.state, found.predicted, found.failed) == (CampaignState.DONE, 19, 1)
    assert store.voltages.count_documents({}) == voltages + 1
    assert control.open_fireworks(launchpad, "c") == []


def test_all_at_once_are_mended_in_one_repair(
    campaign, store, launchpad, patient, voltscreen_home
) -> None:
    for plant in PLANTED:
        plant(store, launchpad, voltscreen_home)
    repaired = examine(patient, repair=True)
    assert repaired.left == ()
    again = examine(patient, repair=True)
    assert again.findings == ()
    work("c")
    assert campaign_status(store, "c").state is CampaignState.DONE
    assert examine(patient).findings == ()


def test_weights_without_a_good_copy_are_reported_and_left(
    campaign, store, launchpad, patient, voltscreen_home
) -> None:
    weights(store, launchpad, voltscreen_home)
    for folder in ("models", "models-cache"):
        for path in (voltscreen_home / folder).glob("*.safetensors"):
            path.unlink()
    (left,) = examine(patient, repair=True).left
    assert left[0].kind is Kind.MODEL
    assert "no good copy" in left[1]


def test_the_command_says_what_it_means_and_exits_1_until_it_is_mended(
    campaign, store, launchpad, run, voltscreen_home
) -> None:
    lock(store, launchpad, voltscreen_home)
    found = run("doctor")
    assert found.returncode == 1
    assert "locked workflow" in found.stdout
    assert "means" in found.stdout
    assert "doctor --repair" in found.stderr
    (row,) = json.loads(run("doctor", "--json").stdout)
    assert row["mended"] is False
    mended = run("doctor", "--repair")
    assert mended.returncode == 0, mended.stderr
    assert "1 found, 1 mended, 0 left" in mended.stderr
    healthy = run("doctor", "--repair")
    assert (healthy.returncode, healthy.stdout) == (0, "")
