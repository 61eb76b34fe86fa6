"""A campaign that is forgotten leaves what was predicted, and can be started anew."""

from __future__ import annotations

import pytest

from tests.campaign.test_campaign import pool, spec_of, work
from voltscreen.campaign import control
from voltscreen.campaign.forget import forget_campaign, replace_campaign
from voltscreen.campaign.status import campaign_status
from voltscreen.campaign.worker_id import WorkerId
from voltscreen.errors import CampaignError
from voltscreen.process import ProcessId
from voltscreen.store import ResultQuery, query_results


def test_a_forgotten_campaign_is_predicted_from_what_is_kept(
    store, launchpad, tmp_path, capfd
) -> None:
    spec = spec_of(pool(tmp_path, 20, bad=False))
    control.submit(store, launchpad, spec)
    work("c")
    ranked = query_results(store, ResultQuery(campaign="c", ion="Li"))
    written = {row["_id"]: row["written_at"] for row in store.voltages.find()}
    capfd.readouterr()
    assert forget_campaign(store, launchpad, "c")
    assert capfd.readouterr().out == ""
    for collection in (store.campaigns, store.batches, store.rankings):
        assert collection.count_documents({}) == 0
    assert launchpad.fireworks.count_documents({}) == 0
    assert launchpad.workflows.count_documents({}) == 0
    assert not forget_campaign(store, launchpad, "c")
    control.submit(store, launchpad, spec)
    work("c")
    assert campaign_status(store, "c").reused == 20
    assert {row["_id"]: row["written_at"] for row in store.voltages.find()} == written
    again = query_results(store, ResultQuery(campaign="c", ion="Li"))
    assert [row.structure_id for row in again] == [row.structure_id for row in ranked]


def test_other_campaigns_stay(store, launchpad, tmp_path) -> None:
    path = pool(tmp_path, 10, bad=False)
    for name in ("first", "second"):
        control.submit(store, launchpad, spec_of(path, name))
        work(name)
    assert forget_campaign(store, launchpad, "first")
    assert query_results(store, ResultQuery(campaign="second", ion="Li"))
    assert launchpad.fireworks.count_documents({"spec.campaign": "second"}) > 0


def test_only_a_campaign_that_was_begun_otherwise_is_replaced(store, launchpad, tmp_path) -> None:
    path = pool(tmp_path, 10, bad=False)
    spec = spec_of(path)
    assert not replace_campaign(store, launchpad, spec)
    control.submit(store, launchpad, spec)
    work("c")
    assert not replace_campaign(store, launchpad, spec)
    store.campaigns.update_one({"_id": "c"}, {"$set": {"model_id": "older"}})
    with pytest.raises(CampaignError, match="campaign delete c"):
        control.submit(store, launchpad, spec)
    assert replace_campaign(store, launchpad, spec)
    other = spec_of(path, rows={"limit": 3})
    control.submit(store, launchpad, spec)
    assert replace_campaign(store, launchpad, other)


def test_a_campaign_is_not_forgotten_while_a_living_worker_has_a_batch(
    store, launchpad, tmp_path
) -> None:
    from fireworks import FWorker

    control.submit(store, launchpad, spec_of(pool(tmp_path, 10, bad=False)))
    me = WorkerId.current()
    launchpad.checkout_fw(FWorker(name=me.name), str(tmp_path))
    with pytest.raises(CampaignError, match="has batches running"):
        forget_campaign(store, launchpad, "c")
    assert campaign_status(store, "c").name == "c"
    dead = WorkerId(me.host, ProcessId(me.process.pid, "1"))
    launchpad.launches.update_many({}, {"$set": {"fworker.name": dead.name}})
    assert forget_campaign(store, launchpad, "c")
