"""Hull distances and oxygen release on a hull made by hand."""

from __future__ import annotations

import pytest

from voltscreen.screening.stability import Phase, hull_distance, missing_elements

PURE = [Phase({"Li": 2}, -4.0), Phase({"O": 2}, -10.0)]
OXIDE = Phase({"Li": 4, "O": 2}, -30.0)  # 2 Li2O, 6 eV a formula unit below the elements


def test_a_phase_on_the_hull_is_at_zero_and_one_above_it_says_what_it_becomes() -> None:
    assert hull_distance(OXIDE, [*PURE, OXIDE]).above_hull == 0
    loose = Phase({"Li": 2, "O": 1}, -14.7)
    found = hull_distance(loose, [*PURE, OXIDE])
    assert found.above_hull == pytest.approx(0.1)
    assert found.decomposition == ("Li2O",)
    assert found.phases == 3


def test_oxygen_comes_off_where_the_hull_ends_in_it() -> None:
    peroxide = Phase({"Li": 2, "O": 2}, -19.0)  # above the line from Li2O to O2
    found = hull_distance(peroxide, [*PURE, OXIDE])
    assert found.decomposition == ("Li2O", "O2")
    assert found.oxygen == pytest.approx(0)
    assert found.releases_oxygen
    rich = hull_distance(Phase({"Li": 6, "O": 1}, -20.0), [*PURE, OXIDE])
    assert rich.oxygen == pytest.approx(-6.0)
    assert not rich.releases_oxygen


def test_a_stable_oxide_gives_off_oxygen_only_where_losing_it_is_cheap() -> None:
    # Potentials at a stable composition lie between those of its two sides; O2 is on the other.
    stable = hull_distance(OXIDE, [*PURE, OXIDE])
    assert stable.oxygen == pytest.approx(-6.0)
    assert not stable.releases_oxygen
    peroxide = Phase({"Li": 2, "O": 2}, -20.1)  # on the hull, 0.1 eV below Li2O and O2
    loose = hull_distance(peroxide, [*PURE, OXIDE, peroxide])
    assert loose.above_hull == 0
    assert loose.oxygen == pytest.approx(-0.1)
    assert loose.releases_oxygen


def test_without_the_elements_there_is_no_hull() -> None:
    assert missing_elements(["Li", "O"], [OXIDE, PURE[0]]) == ["O"]
    with pytest.raises(ValueError, match="no pure O"):
        hull_distance(OXIDE, [OXIDE, PURE[0]])


def test_a_phase_without_oxygen_says_nothing_of_it() -> None:
    found = hull_distance(Phase({"Li": 1}, -1.9), PURE[:1])
    assert found.oxygen is None
    assert found.releases_oxygen is None
    assert found.above_hull == pytest.approx(0.1)
