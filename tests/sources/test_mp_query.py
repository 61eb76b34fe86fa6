from __future__ import annotations

import warnings

import pytest

from voltscreen.errors import SpecError
from voltscreen.sources.mp import parse_query
from voltscreen.sources.mp.query import FILTERS, FLAGS, IDS_AT_ONCE, RANGES


@pytest.mark.timeout(300)
def test_the_filters_are_those_of_mp_api() -> None:
    import inspect

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from mp_api.client.routes.materials.summary import SummaryRester
    ours = {
        name: parameter.annotation
        for name, parameter in inspect.signature(SummaryRester.search).parameters.items()
        if name not in {"self", "num_chunks", "chunk_size", "all_fields", "fields", "kwargs"}
        and not name.startswith("_")
    }
    assert set(FILTERS) == set(ours)
    assert {name for name, kind in ours.items() if "tuple[" in str(kind)} == RANGES
    assert {name for name, kind in ours.items() if str(kind).startswith("bool")} == FLAGS


def test_values_are_brought_into_one_form() -> None:
    query = parse_query(
        {"elements": ["O"], "num_sites": 4, "energy_above_hull": [None, 0.05], "formula": "MnO2",
         "material_ids": ["mp-aaaaaaft", "mp-149"], "is_stable": True}
    )  # fmt: skip
    assert dict(query.filters) == {
        "elements": ("O",),
        "num_sites": (4, 4),
        "energy_above_hull": (None, 0.05),
        "formula": ("MnO2",),
        "material_ids": ("mp-149",),
        "is_stable": True,
    }
    assert query.key == parse_query(dict(reversed(list(query.filters.items())))).key
    assert query.key != parse_query({"elements": ["O"]}).key


def test_what_one_request_cannot_ask_becomes_several() -> None:
    ids = [f"mp-{i}" for i in range(1, IDS_AT_ONCE + 2)]
    query = parse_query({"material_ids": ids, "spacegroup_number": [1, 2], "theoretical": False})
    parts = list(query.parts())
    assert len(parts) == 4
    assert sorted({part["spacegroup_number"] for part in parts}) == [1, 2]
    assert {len(part["material_ids"]) for part in parts} == {IDS_AT_ONCE, 1}
    assert all(part["theoretical"] is False for part in parts)


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ({}, "at least one filter"),
        ({"include_gnome": False}, "at least one filter"),
        (["O"], "filters by name"),
        ({"energy_abov_hull": [0, 1]}, "energy_abov_hull: unknown filter; .*'energy_above_hull'"),
        ({"nsites": [0, 1]}, "did you mean 'num_sites'"),
        ({"energy_above_hull": [1, 0]}, "must not be above"),
        ({"energy_above_hull": [None, None]}, "at least one"),
        ({"energy_above_hull": "low"}, "a number or"),
        ({"num_sites": [1, 2, 3]}, "a number or"),
        ({"is_stable": "yes"}, "true or false"),
        ({"elements": ["Xx"]}, "unknown element 'Xx'"),
        ({"elements": []}, "a list"),
        ({"material_ids": ["149"]}, "'149' is no id"),
        ({"spacegroup_number": ["Fm-3m"]}, "one int or a list"),
        ({"magnetic_ordering": 3}, "a text"),
        ({"api_key": "k" * 32}, "a key never stands in a spec"),
    ],
)
def test_a_wrong_filter_is_named(value, sentence) -> None:
    with pytest.raises(SpecError, match=rf"source\.mp.*{sentence}") as caught:
        parse_query(value)
    assert "k" * 32 not in str(caught.value)
