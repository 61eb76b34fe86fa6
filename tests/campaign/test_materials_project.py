"""The Materials Project into the database, in this process: the real client and a stand-in."""

from __future__ import annotations

import pytest

from tests.mp_stand_in.records import electrode, generated, material, oxide
from tests.mp_stand_in.server import ELECTRODES, SUMMARY, Failure
from voltscreen.campaign import materials_project as ours
from voltscreen.campaign.materials_project import News, ingest_electrodes, ingest_materials
from voltscreen.errors import MaterialsProjectError
from voltscreen.sources.mp import MPClient, parse_query
from voltscreen.sources.mp import client as mp_client
from voltscreen.sources.mp.session import Patience
from voltscreen.store import get_structure
from voltscreen.store.electrodes import electrodes_release, known_of, known_voltages

QUICK = Patience(tries=4, first=0.02, longest=0.05, retry_after=1.5, timeout=5.0)
OXIDES = parse_query({"elements": ["O"]})
pytestmark = pytest.mark.timeout(300)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(mp_client, "CHUNK", 10)
    monkeypatch.setattr(ours, "CHUNK", 10)
    monkeypatch.setattr(ours, "CHUNKS_A_HEARTBEAT", 2)


class Heard(News):
    def __init__(self) -> None:
        super().__init__()
        self.plans = []

    def begin(self, plan) -> None:
        self.plans.append(plan)


def fetch(store, **options) -> tuple[Heard, list]:
    news = Heard()
    with MPClient(QUICK) as client:
        reports = list(ingest_materials(store, client, OXIDES, news, **options))
    return news, reports


def stored(store) -> dict:
    """All structures without what depends on the time."""
    rows = {}
    for row in store.structures.find():
        sources = [{k: v for k, v in e.items() if k != "fetched_at"} for e in row["sources"]]
        rows[row["_id"]] = {**row, "sources": sources, "written_at": None}
    return rows


def test_a_disturbed_and_killed_ingest_stores_what_an_undisturbed_one_does(
    store, materials_project
) -> None:
    materials_project.materials = generated(75)
    news, reports = fetch(store)
    undisturbed = stored(store)
    assert len(undisturbed) == 75
    assert sum(report.new for report in reports) == 75
    assert {key for report in reports for key in report.ids} == set(undisturbed)
    assert news.plans == [ours.Plan("2025.02.12", 75, 0, 75)]
    assert len(materials_project.pages()) == 8
    row = next(iter(undisturbed.values()))
    assert row["sources"][0]["db_version"] == "2025.02.12"
    assert set(row["properties"]) == {
        "energy_above_hull", "formation_energy_per_atom", "band_gap", "is_stable", "theoretical",
    }  # fmt: skip

    store.structures.delete_many({})
    materials_project.failures = [
        Failure(len(materials_project.asked(SUMMARY)) + at, kind)
        for at, kind in ((1, 429), (3, 504), (4, "cut"), (5, "drop"), (6, "short"), (7, "garbled"))
    ]
    with MPClient(QUICK) as client:
        cut_off = ingest_materials(store, client, OXIDES, News())
        for _ in range(3):
            next(cut_off)
        cut_off.close()
    there = store.structures.count_documents({})
    assert 0 < there < 75
    asked = len(materials_project.pages())
    news, reports = fetch(store)
    assert stored(store) == undisturbed
    assert (news.plans[0].stored, news.plans[0].wanted) == (there, 75 - there)
    assert {key for report in reports for key in report.ids} == set(undisturbed)
    assert all(failure.times == 0 for failure in materials_project.failures)
    failed = 4  # of the six, those that can have met a page of documents after the restart
    assert len(materials_project.pages()) - asked <= -(-(75 - there) // 10) + failed + 1
    assert news.notices == []


def test_what_is_stored_is_not_fetched_again(store, materials_project) -> None:
    materials_project.materials = generated(30)
    fetch(store)
    asked = len(materials_project.pages())
    materials_project.materials = generated(35)
    news, reports = fetch(store)
    assert len(materials_project.pages()) == asked + 1
    assert (news.plans[0].stored, news.plans[0].wanted) == (30, 5)
    assert sum(len(report.ids) for report in reports) == 35
    assert str(news.plans[0]).startswith("Materials Project, release 2025.02.12: 35 structures")


def test_refresh_fetches_what_changed_and_marks_what_was_replaced(store, materials_project) -> None:
    materials = materials_project.materials = generated(25)
    fetch(store)
    materials_project.release = "2025.04.18"
    materials[3] = {**materials[3], "band_gap": 9.0, "last_updated": "2025-04-01T00:00:00"}
    materials[4] = material("mp-1004", oxide(900), last_updated="2025-04-01T00:00:00")
    asked = len(materials_project.pages())
    news, _ = fetch(store)
    assert len(materials_project.pages()) == asked
    assert "2 stored structures have changed" in news.notices[0]
    assert "--refresh" in news.notices[0]

    before = get_structure(store, "mp-1004").id
    news, _ = fetch(store, renew=True)
    assert news.notices == []
    assert len(materials_project.pages()) == asked + 1
    assert get_structure(store, "mp-1003").properties["band_gap"] == 9.0
    assert get_structure(store, "mp-1003").sources[0].db_version == "2025.04.18"
    assert get_structure(store, "mp-1002").sources[0].db_version == "2025.02.12"
    now = get_structure(store, "mp-1004")
    assert now.id == oxide(900).content_hash
    assert get_structure(store, before).sources[0].superseded_by == now.id
    news, _ = fetch(store, renew=True)
    assert len(materials_project.pages()) == asked + 1


def test_a_release_that_changes_on_the_way_is_noticed_and_said(store, materials_project) -> None:
    materials_project.materials = generated(60)
    materials_project.releases = {4: "2025.04.18"}
    news, reports = fetch(store)
    assert len(news.notices) == 1
    assert "went from release 2025.02.12 to 2025.04.18" in news.notices[0]
    assert [plan.release for plan in news.plans] == ["2025.02.12", "2025.04.18"]
    assert store.structures.count_documents({}) == 60
    assert {key for report in reports for key in report.ids} == set(stored(store))
    releases = [row["sources"][0]["db_version"] for row in store.structures.find()]
    # No document is told to be of the old release that may be of the new one.
    assert releases.count("2025.04.18") == 60
    materials_project.releases = {
        len(materials_project.asked(SUMMARY)) + at: f"2026.{at}" for at in range(1, 60)
    }
    store.structures.delete_many({})
    with pytest.raises(MaterialsProjectError, match="changed its release 3 times"):
        fetch(store)


def test_what_is_listed_and_does_not_come_is_named(store, materials_project, monkeypatch) -> None:
    materials_project.materials = generated(12)
    listed = mp_client.MPClient.listing

    def listing(self, query):
        found = listed(self, query)
        materials_project.materials = materials_project.materials[1:]
        return found

    monkeypatch.setattr(mp_client.MPClient, "listing", listing)
    news, _ = fetch(store)
    assert news.incomplete
    assert "1 structures were listed and did not come (mp-1000)" in news.notices[0]


def test_a_bad_document_is_refused_and_the_rest_stored(store, materials_project) -> None:
    bad = generated(5)
    bad[0]["structure"] = None
    bad[1]["structure"] = {"sites": "nonsense"}
    bad[2]["structure"]["sites"][0]["species"] = [
        {"element": "Fe", "occu": 0.5}, {"element": "Mn", "occu": 0.5},
    ]  # fmt: skip
    bad[3]["energy_above_hull"] = "low"
    materials_project.materials = bad
    _, reports = fetch(store)
    assert (sum(r.new for r in reports), sum(r.refused for r in reports)) == (5, 4)
    assert "no structure" in get_structure(store, "mp-1000").refused
    assert "disordered" in get_structure(store, "mp-1002").refused
    assert "energy_above_hull" in get_structure(store, "mp-1003").refused
    asked = len(materials_project.pages())
    _, (again,) = fetch(store)
    assert len(materials_project.pages()) == asked
    assert (again.new, again.refused) == (0, 4)


def test_a_structure_is_found_by_every_alias(store, materials_project) -> None:
    one = material("mp-aaaaaaft", oxide(1), task_ids=["mp-149", "mvc-77", "mp-5000000"])
    materials_project.materials = [one, material("mp-150", oxide(2))]
    fetch(store)
    key = oxide(1).content_hash
    for name in ("mp-149", "mp-aaaaaaft", "mp-ft", "mvc-77", "mvc-cz", "mp-5000000", "mp-kymls"):
        assert get_structure(store, name).id == key
    assert get_structure(store, "mp-149").sources[0].id == "mp-149"
    asked = len(materials_project.pages())
    one["material_id"] = "mp-149"
    fetch(store)
    assert len(materials_project.pages()) == asked


def known_electrode(battery_id, charged, discharged, voltage, **fields):
    return electrode(
        {"battery_id": battery_id, "working_ion": battery_id.split("_")[1],
         "average_voltage": voltage, "charged_id": charged, "discharged_id": discharged,
         "formula_charge": None, "formula_discharge": None, "capacity_grav": 200.0,
         "max_delta_volume": 0.05, "stability_charge": 0.1, "stability_discharge": 0.2, **fields}
    )  # fmt: skip


def test_known_electrodes_are_fetched_once_a_release_and_meet_their_structures(
    store, materials_project
) -> None:
    host = material("mp-1", oxide(1), task_ids=["mp-1", "mvc-9"])
    materials_project.materials = [host, material("mp-2", oxide(2)), material("mp-3", oxide(3))]
    materials_project.electrodes = [
        known_electrode("mp-1_Mg", "mvc-9", "mp-2", 2.5),
        known_electrode("mp-7_Mg", "mp-1", "mp-8", 1.5),
        known_electrode("mp-1_Li", "mp-aaaaaaab", "mp-5", 3.5, working_ion="Li"),
        {**known_electrode("mp-6_Zn", "mp-6", "mp-4", None)},
    ]
    with MPClient(QUICK) as client:
        assert ingest_electrodes(store, client) == 3
        list(ingest_materials(store, client, OXIDES, News()))
        asked = len(materials_project.asked(ELECTRODES))
        ingest_electrodes(store, client)
        assert len(materials_project.asked(ELECTRODES)) == asked
    found = known_voltages(store, "Mg")
    assert set(found) == {oxide(1).content_hash, oxide(2).content_hash}
    mine = found[oxide(1).content_hash]
    assert (mine.battery_id, mine.end, mine.voltage) == ("mp-1_Mg", "host", 2.5)
    assert (mine.capacity, mine.volume_change) == (200.0, 0.05)
    assert (mine.stability_charge, mine.stability_discharge) == (0.1, 0.2)
    assert found[oxide(2).content_hash].end == "discharged"
    of_one = dict(known_of(store, get_structure(store, "mp-1")))
    assert {ion: known.voltage for ion, known in of_one.items()} == {"Mg": 2.5, "Li": 3.5}
    assert known_of(store, get_structure(store, "mp-3")) == []

    materials_project.release = "2025.04.18"
    materials_project.electrodes = materials_project.electrodes[:1]
    with MPClient(QUICK) as client:
        assert ingest_electrodes(store, client) == 1
    assert electrodes_release(store) == "2025.04.18"
    assert set(known_voltages(store, "Li")) == set()
