"""A ranking as columns says what its documents say, whole or in parts."""

from __future__ import annotations

import numpy as np
import pytest

from voltscreen.store import ResultQuery, query_page, ranking_columns
from voltscreen.store.documents import CampaignDocument, RankingDocument
from voltscreen.store.ranking_columns import load_columns, put_columns


def documents(n: int) -> list[dict]:
    draw = np.random.default_rng(1)
    made = []
    for rank in range(1, n + 1):
        elements = [["Mn", "O"], ["Fe", "O", "P"], ["O", "V"]][rank % 3]
        fields = {} if rank % 4 == 0 else {"capacity": float(draw.uniform(50, 400))}
        if rank % 5 == 0:
            fields["energy_above_hull"] = rank / 100
        made.append(
            RankingDocument(
                id=f"c:Mg:{rank}", campaign="c", ion="Mg", rank=rank, model_id="m",
                structure_id=f"{rank:032x}", formula=["MnO2", "FePO4", "V2O5"][rank % 3],
                chemsys="-".join(elements), elements=elements, nsites=3 + rank % 7,
                voltage=float(draw.normal(2, 1)), lo90=1.0, hi90=1.0 + rank / 10,
                pareto=rank % 6 == 1, **fields,
            ).to_mongo()
        )  # fmt: skip
    return made


@pytest.fixture
def ranked(store):
    rows = documents(23)
    store.campaigns.insert_one(
        CampaignDocument(id="c", spec={"ions": ["Mg"]}, spec_hash="x", model_id="m").to_mongo()
    )
    store.rankings.insert_many(rows)
    return rows


def ranks(store, **filters) -> list[int]:
    return [
        row.rank for row in query_page(store, ResultQuery(campaign="c", ion="Mg", **filters)).rows
    ]


@pytest.mark.parametrize("part_rows", [None, 5, 23, 1000])
def test_every_filter_finds_what_plain_python_finds(store, ranked, monkeypatch, part_rows) -> None:
    if part_rows is not None:
        monkeypatch.setattr(ranking_columns, "PART_ROWS", part_rows)
        put_columns(store, "c", "Mg", ranked)

    def expected(fits) -> list[int]:
        return [row["rank"] for row in ranked if fits(row)]

    assert ranks(store) == list(range(1, 24))
    assert ranks(store, min_voltage=2, max_voltage=3) == expected(lambda r: 2 <= r["voltage"] <= 3)
    assert ranks(store, min_capacity=200) == expected(lambda r: r.get("capacity", 0) >= 200)
    assert ranks(store, max_energy_above_hull=0.1) == [5, 10]
    assert ranks(store, max_interval_width=0.55) == [1, 2, 3, 4, 5]
    assert ranks(store, min_sites=8) == expected(lambda r: r["nsites"] >= 8)
    assert ranks(store, elements=("O", "P")) == expected(lambda r: r["formula"] == "FePO4")
    assert ranks(store, exclude_elements=("P",)) == expected(lambda r: r["formula"] != "FePO4")
    assert ranks(store, chemsys="O-Mn") == expected(lambda r: r["formula"] == "MnO2")
    assert ranks(store, formula="Mn2O4", pareto=True) == expected(
        lambda r: r["formula"] == "MnO2" and r["pareto"]
    )
    assert ranks(store, known=True) == []


def test_orders_put_what_is_not_known_last_and_equal_ones_by_rank(store, ranked) -> None:
    by_capacity = ranks(store, sort="capacity", descending=True)
    with_capacity = [row for row in ranked if "capacity" in row]
    best_first = sorted(with_capacity, key=lambda row: -row["capacity"])
    assert by_capacity[: len(best_first)] == [row["rank"] for row in best_first]
    assert by_capacity[len(best_first) :] == [4, 8, 12, 16, 20]
    assert ranks(store, sort="capacity")[len(best_first) :] == [4, 8, 12, 16, 20]
    formulas = {row["rank"]: row["formula"] for row in ranked}
    assert ranks(store, sort="formula") == sorted(formulas, key=lambda rank: (formulas[rank], rank))


def test_pages_follow_each_other(store, ranked) -> None:
    pages = [
        query_page(store, ResultQuery(campaign="c", ion="Mg", sort="voltage", skip=skip, top=9))
        for skip in (0, 9, 18, 27)
    ]
    assert [len(page.rows) for page in pages] == [9, 9, 5, 0]
    assert {(page.total, page.ranked) for page in pages} == {(23, 23)}
    voltages = [row.voltage for page in pages for row in page.rows]
    assert voltages == sorted(voltages)


def test_columns_that_are_not_all_there_are_made_from_the_documents(
    store, ranked, monkeypatch
) -> None:
    monkeypatch.setattr(ranking_columns, "PART_ROWS", 10)
    put_columns(store, "c", "Mg", ranked)
    whole = load_columns(store, "c", "Mg")
    store.ranking_columns.delete_one({"_id": "c:Mg:2"})
    made = load_columns(store, "c", "Mg")
    assert whole.n == made.n == 23
    for name, values in whole.numbers.items():
        np.testing.assert_array_equal(values, made.numbers[name])
    np.testing.assert_array_equal(whole.elements, made.elements)
    assert whole.texts["formula"].tolist() == made.texts["formula"].tolist()
