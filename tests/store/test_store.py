from __future__ import annotations

import hashlib
import multiprocessing

import numpy as np
import pytest

from tests.model.helpers import random_crystal
from voltscreen.errors import CampaignError, QueryError
from voltscreen.store import ResultQuery, connect, get_structure, query_results, unpack
from voltscreen.store.documents import CampaignDocument, RankingDocument
from voltscreen.store.indexes import missing_indexes
from voltscreen.store.models import model_file, put_model
from voltscreen.store.structures import ingest
from voltscreen.structures import Candidate, Measurement, Refused, SourceRef


def candidate(seed: int, name: str | None = None, **fields: object) -> Candidate:
    return Candidate(random_crystal(seed), SourceRef("files", name or f"s{seed}"), **fields)


def ingest_all(store, items):
    reports = list(ingest(store, items))
    return sum(r.new for r in reports), [key for r in reports for key in r.ids]


def without_times(row):
    return {k: v for k, v in row.items() if k not in ("written_at", "sources")}


def test_a_structure_is_stored_once_with_every_place_it_was_found_in(store) -> None:
    first = candidate(1, "a", properties={"energy_above_hull": 0.1})
    again = candidate(1, "b", label="spinel", properties={"band_gap": 1.0})
    assert ingest_all(store, [first, candidate(2)])[0] == 2
    assert ingest_all(store, [again])[0] == 0
    assert store.structures.count_documents({}) == 2
    document = get_structure(store, "b")
    assert document.id == first.structure.content_hash
    assert {source.id for source in document.sources} == {"a", "b"}
    assert document.properties == {"energy_above_hull": 0.1, "band_gap": 1.0}
    assert document.label == "spinel"
    assert unpack(document) == first.structure


def test_a_second_ingest_of_the_same_changes_nothing(store) -> None:
    items = [candidate(seed, measured=(Measurement("Mg", 2.0, "ref"),)) for seed in range(30)]
    ingest_all(store, items)
    before = list(store.structures.find().sort("_id"))
    new, ids = ingest_all(store, items)
    assert new == 0
    assert ids == [item.structure.content_hash for item in items]
    assert list(store.structures.find().sort("_id")) == before


def test_a_refused_item_is_kept_with_its_reason(store) -> None:
    refused = Refused(SourceRef("files", "bad.cif"), "disordered structure")
    new, (key,) = ingest_all(store, [refused])
    assert new == 1
    assert get_structure(store, "bad.cif").refused == "disordered structure"
    assert ingest_all(store, [refused]) == (0, [key])


def test_structures_are_found_by_id_prefix_and_alias(store) -> None:
    ingest_all(store, [candidate(1, "mp-1"), candidate(2, "mp-2")])
    document = get_structure(store, "mp-2")
    assert get_structure(store, document.id[:8]).id == document.id
    with pytest.raises(QueryError, match="no structure 'mp-3'"):
        get_structure(store, "mp-3")


def test_every_documented_index_exists(store) -> None:
    assert missing_indexes(store.database) == []
    store.database["voltages"].drop_indexes()
    assert missing_indexes(store.database) != []


def test_a_model_is_stored_once_and_comes_back_whole(store, tmp_path) -> None:
    data = np.random.default_rng(0).bytes(3_000_000)
    assert put_model(store, "abc", "m", ["Mg"], {}, data) is True
    assert put_model(store, "abc", "m", ["Mg"], {}, data) is False
    assert model_file(store, "abc", tmp_path).read_bytes() == data
    assert store.database["weights.files"].count_documents({}) == 1


def ranked(store, rows) -> None:
    ingest_all(store, [candidate(seed) for seed in range(len(rows))])
    store.campaigns.insert_one(
        CampaignDocument(id="c", spec={"ions": ["Mg"]}, spec_hash="x", model_id="m").to_mongo()
    )
    for rank, fields in enumerate(rows, start=1):
        document = RankingDocument(
            id=f"c:Mg:{rank}", campaign="c", ion="Mg", rank=rank, model_id="m",
            structure_id=random_crystal(rank - 1).content_hash, chemsys="", pareto=rank == 2,
            **{"formula": "MnO2", "elements": ["Mn", "O"], "voltage": 3.0, **fields},
        )  # fmt: skip
        store.rankings.insert_one(document.to_mongo())


def test_queries_filter_and_sort(store) -> None:
    ranked(
        store,
        [
            {"voltage": 3.5, "elements": ["Mn", "O"]},
            {"voltage": 2.5, "elements": ["Fe", "O", "P"], "formula": "FePO4"},
            {"voltage": 1.5, "elements": ["Mn", "O", "Pb"]},
        ],
    )

    def found(**fields):
        rows = query_results(store, ResultQuery(campaign="c", ion="Mg", **fields))
        return [row.rank for row in rows]

    assert found() == [1, 2, 3]
    assert found(min_voltage=2) == [1, 2]
    assert found(max_voltage=2.5) == [2, 3]
    assert found(elements=("Mn",)) == [1, 3]
    assert found(elements=("Mn",), exclude_elements=("Pb",)) == [1]
    assert found(formula="Fe2P2O8") == [2]
    assert found(pareto=True) == [2]
    assert found(sort="voltage") == [3, 2, 1]
    assert found(sort="voltage", descending=True, top=1) == [1]
    assert found(measured=True) == []


def test_measured_candidates_are_found(store) -> None:
    ranked(store, [{}, {}])
    ingest_all(store, [candidate(1, measured=(Measurement("Mg", 2.1, "somebody"),))])
    rows = query_results(store, ResultQuery(campaign="c", ion="Mg", measured=True))
    assert [(row.rank, row.measured[0].voltage) for row in rows] == [(2, 2.1)]


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"campaign": "nope"}, "no campaign 'nope'"),
        ({"ion": "Ca"}, "was not ranked for 'Ca'"),
        ({"min_voltage": 3, "max_voltage": 2}, "impossible window"),
        ({"elements": ("Xx",)}, "unknown element 'Xx'"),
        ({"formula": "not a formula"}, "not a formula"),
        ({"elements": ("O",), "exclude_elements": ("O",)}, "both wanted and excluded"),
    ],
)
def test_impossible_queries_say_why(store, fields, sentence) -> None:
    ranked(store, [{}])
    with pytest.raises((QueryError, CampaignError), match=sentence):
        query_results(store, ResultQuery(**{"campaign": "c", "ion": "Mg", **fields}))


def _draw(_: int) -> list[int]:
    from voltscreen.campaign.launchpad import open_launchpad

    launchpad = open_launchpad()
    drawn = [launchpad.get_new_launch_id() for _ in range(40)]
    launchpad.close()
    return drawn


def test_no_id_is_drawn_twice_by_several_processes(launchpad) -> None:
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        drawn = [number for numbers in pool.map(_draw, range(4)) for number in numbers]
    assert len(set(drawn)) == 160


def test_a_connection_from_the_environment_uses_the_same_code(store, monkeypatch) -> None:
    from voltscreen.settings import load_settings
    from voltscreen.store import embedded

    state = embedded.running(load_settings().home)
    config = load_settings(mongo_uri=state.uri)
    with connect(config) as other:
        assert other.database.name == store.database.name
        ingest_all(other, [candidate(5)])
    assert store.structures.count_documents({}) == 1


def test_many_ids_are_found_by_one_pass_over_the_collection(store, monkeypatch) -> None:
    from voltscreen.store import connection

    store.structures.insert_many([{"_id": f"{k:03d}", "nsites": k} for k in range(40)])
    wanted = [f"{k:03d}" for k in range(0, 60, 2)]
    asked = list(connection.find_by_ids(store.structures, wanted, ("nsites",)))
    monkeypatch.setattr(connection, "SCAN_FROM", 10)
    read = list(connection.find_by_ids(store.structures, wanted, ("nsites",)))
    assert sorted(row["nsites"] for row in read) == list(range(0, 40, 2))
    assert sorted(read, key=lambda row: row["_id"]) == sorted(asked, key=lambda row: row["_id"])


def test_one_pass_by_the_digits_of_a_hash_reads_every_document_once(store, monkeypatch) -> None:
    from voltscreen.store import connection

    keys = [hashlib.blake2b(str(k).encode(), digest_size=16).hexdigest() for k in range(60)]
    keys += ["00" * 16, "ff" * 16]
    store.voltages.insert_many([{"_id": f"{key}:m", "structure_id": key} for key in keys])
    monkeypatch.setattr(connection, "SCAN_FROM", 10)
    monkeypatch.setattr(connection, "PIECE", 9)
    wanted = [f"{key}:m" for key in keys[10:]]
    read = connection.find_by_ids(store.voltages, wanted, ("structure_id",), hashed="structure_id")
    assert sorted(row["_id"] for row in read) == sorted(wanted)


def test_rows_that_are_there_already_are_named_and_kept(store) -> None:
    from voltscreen.store.connection import insert_rows

    assert insert_rows(store.structures, [{"_id": "a", "n": 1}]) == []
    rows = [{"_id": key, "n": 2} for key in ("b", "a", "c")]
    assert insert_rows(store.structures, rows) == ["a"]
    found = {row["_id"]: row["n"] for row in store.structures.find()}
    assert found == {"a": 1, "b": 2, "c": 2}
