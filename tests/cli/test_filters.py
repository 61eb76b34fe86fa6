from __future__ import annotations

import pytest

from voltscreen.cli.filters import parse_filters
from voltscreen.errors import SpecError
from voltscreen.sources.mp import parse_query


def test_filters_become_what_a_spec_holds() -> None:
    typed = [
        "elements=O,No", "exclude_elements=Pb", "num_sites=1,100", "energy_above_hull=,0.05",
        "is_stable=true", "spacegroup_number=1,2", "num_elements=3", "crystal_system=Cubic",
        "band_gap=[0, 2]",
    ]  # fmt: skip
    found = parse_filters(typed)
    assert found == {
        "elements": ["O", "No"],
        "exclude_elements": ["Pb"],
        "num_sites": [1, 100],
        "energy_above_hull": [None, 0.05],
        "is_stable": True,
        "spacegroup_number": [1, 2],
        "num_elements": 3,
        "crystal_system": ["Cubic"],
        "band_gap": [0, 2],
    }
    parse_query(found)


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        (["elements"], "write NAME=VALUE"),
        (["elements=O", "elements=Mn"], "given twice"),
        (["band_gap={"], "not a value"),
    ],
)
def test_what_is_no_filter_is_said(typed, sentence) -> None:
    with pytest.raises(SpecError, match=sentence):
        parse_filters(typed)
