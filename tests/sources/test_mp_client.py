"""The contract with the Materials Project: every request that voltscreen relies on; failures."""

from __future__ import annotations

import math

import pytest
import requests

from tests.mp_stand_in.records import electrode, generated
from tests.mp_stand_in.server import ELECTRODES, HEARTBEAT, KEY, SUMMARY, Failure
from voltscreen.errors import MaterialsProjectError, SettingsError, SpecError
from voltscreen.sources.mp import KnownElectrode, MPClient, heartbeat, parse_query
from voltscreen.sources.mp import client as mp_client
from voltscreen.sources.mp import session as mp_session
from voltscreen.sources.mp.client import CHUNK, PAGE, PARALLEL
from voltscreen.sources.mp.session import Patience, StatusError, _problem, _seconds

QUICK = Patience(tries=4, first=0.02, longest=0.05, retry_after=1.5, timeout=5.0)
OXIDES = parse_query({"elements": ["O"]})
pytestmark = pytest.mark.timeout(300)


def ids_of(client: MPClient) -> list[str]:
    return list(client.listing(OXIDES))


def fetched(client: MPClient, ids: list[str]) -> dict[str, dict]:
    return {
        document["material_id"]: document
        for chunk in client.materials(ids, OXIDES)
        for document in chunk.documents
    }


def test_every_request_is_one_that_we_rely_on(materials_project) -> None:
    materials_project.materials = generated(2 * PAGE + CHUNK // 2)
    materials_project.electrodes = [
        electrode({"battery_id": "mp-1000_Mg", "working_ion": "Mg", "average_voltage": 2.5,
                   "charged_id": "mp-1000", "discharged_id": "mp-1001",
                   "formula_charge": "MnO2", "formula_discharge": "MgMnO2"})
    ]  # fmt: skip
    query = parse_query(
        {"elements": ["O"], "exclude_elements": ["Pb", "Hg"], "num_sites": [1, 100],
         "energy_above_hull": [0, 0.15], "theoretical": False, "band_gap": [None, 5]}
    )  # fmt: skip
    expected = [
        doc["material_id"]
        for doc in materials_project.materials
        if doc["energy_above_hull"] <= 0.15 and not doc["theoretical"] and doc["band_gap"] <= 5
    ]
    with MPClient(QUICK) as client:
        assert client.release() == heartbeat(QUICK) == "2025.02.12"
        opened = materials_project.asked(HEARTBEAT)
        assert len(opened) <= 5
        assert materials_project.log == opened
        assert client.count(query) == len(expected)
        assert list(client.listing(query)) == expected
        assert list(client.listing(OXIDES)) == [d["material_id"] for d in generated(2100)]
        wanted = expected[: 2 * CHUNK + 1]
        documents = fetched(client, wanted)
        (known,) = client.electrodes()
    assert set(documents) == set(wanted)
    assert known["id_charge"] == "mp-1000"
    assert KnownElectrode.model_validate(known).battery_id == "mp-1000_Mg"

    asked = materials_project.asked(SUMMARY)
    filters = {
        "elements": "O", "exclude_elements": "Pb,Hg", "nsites_min": "1", "nsites_max": "100",
        "energy_above_hull_min": "0", "energy_above_hull_max": "0.15", "theoretical": "False",
        "band_gap_max": "5",
    }  # fmt: skip
    listing = {"_fields": "material_id,last_updated", "_sort_fields": "material_id"}
    pages = math.ceil(len(expected) / PAGE)
    assert asked[0].params == {
        **filters, **listing, "_page": "1", "_per_page": "1", "_limit": "1",
    }  # fmt: skip
    assert [each.params for each in asked[1 : 1 + pages]] == [
        {**filters, **listing, "_page": str(n), "_per_page": str(PAGE), "_limit": str(PAGE)}
        for n in range(1, pages + 1)
    ]
    assert len(asked) == 1 + pages + 3 + 3
    fields = (
        "material_id,last_updated,task_ids,structure,energy_above_hull,"
        "formation_energy_per_atom,band_gap,is_stable,theoretical"
    )
    for page in materials_project.pages():
        ids = page.params["material_ids"].split(",")
        assert page.params == {
            "material_ids": ",".join(ids), "_fields": fields, "_limit": str(len(ids)),
        }  # fmt: skip
        assert len(ids) in (CHUNK, 1)
    (ions,) = [e for e in materials_project.asked(ELECTRODES) if e.params["working_ion"] == "Mg"]
    assert ions.params == {
        "working_ion": "Mg", "_page": "1", "_per_page": str(PAGE), "_limit": str(PAGE),
        "_sort_fields": "battery_id", "_fields": ",".join(KnownElectrode.names()),
    }  # fmt: skip
    assert len(materials_project.asked(ELECTRODES)) == 10
    for each in materials_project.log:
        assert each.path in (HEARTBEAT, SUMMARY, ELECTRODES)
        assert each.headers.get("x-api-key", KEY) == KEY
        assert each.at_once <= PARALLEL


def test_requests_are_as_many_as_the_chunks_and_four_at_a_time(materials_project) -> None:
    materials_project.materials = generated(6 * CHUNK + 1)
    materials_project.delay = 0.1
    with MPClient(QUICK) as client:
        assert len(fetched(client, ids_of(client))) == 6 * CHUNK + 1
    assert len(materials_project.pages()) == 7
    assert 1 < max(each.at_once for each in materials_project.log) <= PARALLEL


@pytest.mark.parametrize(
    "failure",
    [
        Failure(2, 429, retry_after="0.3"),
        Failure(2, 504, times=2),
        Failure(2, 500),
        Failure(2, "cut"),
        Failure(2, "garbled"),
        Failure(2, "short"),
        Failure(2, "drop"),
        Failure(1, "garbled"),
        Failure(1, "short"),
        Failure(1, 503, path=HEARTBEAT),
        Failure(1, "drop", path=HEARTBEAT),
    ],
    ids=lambda f: f"{f.kind} at {f.at} of {f.path.split('/')[-1]}",
)
def test_what_passes_is_tried_again_and_nothing_is_lost(
    materials_project, monkeypatch, failure
) -> None:
    monkeypatch.setattr(mp_client, "CHUNK", 10)
    materials_project.materials = generated(20)
    materials_project.failures = [failure]
    with MPClient(QUICK) as client:
        documents = fetched(client, ids_of(client))
    assert set(documents) == {doc["material_id"] for doc in materials_project.materials}
    assert failure.times == 0


@pytest.mark.parametrize(
    ("failure", "error", "sentence"),
    [
        (
            Failure(1, 503, times=99),
            MaterialsProjectError,
            "no answer to a listing in 4 tries.*503",
        ),
        (Failure(1, "drop", times=99), MaterialsProjectError, "no connection"),
        (Failure(1, "cut", times=99), MaterialsProjectError, "breaks off"),
        (Failure(1, "short", times=99), MaterialsProjectError, "does not give all of a listing"),
        (Failure(1, 429, retry_after="999"), MaterialsProjectError, "asks to wait 999 s"),
        (Failure(1, 403), SettingsError, "refuses the key .*materialsproject.org/api"),
        (Failure(1, 401), SettingsError, "refuses the key"),
        (Failure(1, 400), SpecError, "does not understand a listing"),
        (Failure(1, 403, path=HEARTBEAT), MaterialsProjectError, "turns this machine away"),
    ],
    ids=lambda value: f"{value.kind}" if isinstance(value, Failure) else "",
)
def test_what_does_not_pass_is_one_sentence(materials_project, failure, error, sentence) -> None:
    materials_project.materials = generated(5)
    materials_project.failures = [failure]
    with pytest.raises(error, match=sentence) as caught, MPClient(QUICK) as client:
        client.listing(OXIDES)
    assert "\n" not in str(caught.value)
    assert KEY not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_materials_that_do_not_come_are_named(materials_project) -> None:
    materials_project.materials = generated(CHUNK)
    with MPClient(QUICK) as client:
        ids = ids_of(client)
        gone = materials_project.materials.pop(7)["material_id"]
        (chunk,) = client.materials(ids)
    assert chunk.missing == (gone,)
    assert len(chunk.documents) == CHUNK - 1


def test_a_missing_or_malformed_key_is_said_before_anything_is_asked(
    materials_project, monkeypatch
) -> None:
    from pymatgen import core

    monkeypatch.delenv("MP_API_KEY")
    monkeypatch.setitem(core.SETTINGS, "PMG_MAPI_KEY", "")
    with pytest.raises(SettingsError, match=r"materialsproject.org/api and set .* MP_API_KEY"):
        MPClient(QUICK).__enter__()
    monkeypatch.setenv("MP_API_KEY", "short-secret")
    with pytest.raises(SettingsError, match="32 characters") as caught:
        MPClient(QUICK).__enter__()
    assert "short-secret" not in str(caught.value)
    assert materials_project.log == []
    monkeypatch.delenv("MP_API_KEY")
    monkeypatch.setitem(core.SETTINGS, "PMG_MAPI_KEY", KEY)
    with MPClient(QUICK) as client:
        assert client.count(OXIDES) == 0


def test_a_refused_key_is_said_without_it(materials_project, monkeypatch) -> None:
    monkeypatch.setenv("MP_API_KEY", "x" * 32)
    with pytest.raises(SettingsError, match="refuses the key") as caught, MPClient(QUICK) as client:
        client.count(OXIDES)
    assert "x" * 32 not in str(caught.value)


def test_a_magnetic_ordering_is_checked_against_pymatgen(materials_project) -> None:
    with MPClient(QUICK) as client, pytest.raises(SpecError, match="choose from FM"):
        client.count(parse_query({"magnetic_ordering": "sideways"}))


def test_retry_after_is_seconds_or_a_date() -> None:
    assert _seconds("12") == 12
    assert _seconds("Wed, 21 Oct 2015 07:28:00 GMT") == 0
    assert _seconds("soon") is None
    assert _seconds(None) is None


def test_waits_double_up_to_the_longest() -> None:
    patience = Patience(first=1.0, longest=60.0)
    for attempt, whole in ((1, 1), (2, 2), (5, 16), (7, 60), (20, 60)):
        assert whole / 2 <= patience.wait(attempt) <= whole


def test_a_time_out_may_pass_and_a_mistake_of_ours_not() -> None:
    assert _problem(requests.ReadTimeout()) == "time-out"
    assert _problem(StatusError(504, None, heartbeat=False)) == "status 504"
    assert _problem(TypeError("ours")) is None


def test_a_machine_without_a_way_there_is_told_after_a_few_tries(
    materials_project, monkeypatch
) -> None:
    patience = Patience(tries=99, first=0.01, longest=0.01)
    materials_project.failures = [Failure(1, "drop", path=HEARTBEAT, times=99)]
    for connect in (MPClient(patience).__enter__, lambda: heartbeat(patience)):
        asked = len(materials_project.asked(HEARTBEAT))
        with pytest.raises(MaterialsProjectError, match="no answer to a heartbeat in 4 tries"):
            connect()
        assert len(materials_project.asked(HEARTBEAT)) == asked + 4


def test_a_long_wait_is_said(materials_project, monkeypatch) -> None:
    monkeypatch.setattr(mp_session, "SAID_FROM", 0.1)
    materials_project.materials = generated(3)
    materials_project.failures = [Failure(1, 429, retry_after="0.2")]
    said = []
    with MPClient(QUICK, said.append) as client:
        assert len(client.listing(OXIDES)) == 3
    assert said == ["The Materials Project: status 429; trying again in 0 s."]
