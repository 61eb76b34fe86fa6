"""Voids by symmetry, and how ions fill them."""

from __future__ import annotations

import numpy as np
import pytest

from tests.potentials.helpers import layered_host
from voltscreen.errors import StructureError
from voltscreen.potentials.insertion import largest_void
from voltscreen.potentials.voids import IONS_APART, distinct_voids, fill, gaps
from voltscreen.sources import candidates
from voltscreen.structures import PackedStructure


@pytest.fixture(scope="module")
def spinel() -> PackedStructure:
    """Mn2O4 in its primitive cell, 4 Mn and 8 O."""
    from pathlib import Path

    found = candidates("hosts", ["mno2-lambda"], Path("/"))
    return next(iter(found)).structure


def test_the_first_void_is_the_insertion_site(spinel):
    for host in (spinel, layered_host()):
        best, first = largest_void(host), distinct_voids(host, 5)[0]
        assert first.clearance == pytest.approx(best.clearance, abs=1e-4)
        assert first.distance == pytest.approx(best.distance, abs=1e-4)


def test_the_spinel_has_its_octahedral_and_tetrahedral_places(spinel):
    octahedral, tetrahedral = distinct_voids(spinel, 2)
    assert len(octahedral.frac_coords) == 4  # 16c
    assert len(tetrahedral.frac_coords) == 2  # 8a
    assert gaps(spinel.lattice, tetrahedral.frac_coords[0], np.full((1, 3), 1 / 8)) < 0.01


def test_a_supercell_has_the_same_voids_more_often(spinel):
    tripled = PackedStructure.from_pymatgen(spinel.to_pymatgen() * (3, 1, 1))
    for one, three in zip(distinct_voids(spinel, 2), distinct_voids(tripled, 2), strict=True):
        assert len(three.frac_coords) == 3 * len(one.frac_coords)
        assert three.clearance == pytest.approx(one.clearance, abs=1e-3)


def test_ions_fill_equal_voids_before_others(spinel):
    _, tetrahedral = distinct_voids(spinel, 2)
    filled = fill(spinel, tetrahedral, 2, 3)
    assert filled is not None
    assert filled.formula == "LiMn2O4"
    for place in filled.frac_coords[-2:]:
        assert gaps(spinel.lattice, place, tetrahedral.frac_coords).min() < 0.01


def test_no_more_ions_are_put_in_than_there_is_room_for(spinel):
    octahedral = distinct_voids(spinel, 1)[0]
    assert fill(spinel, octahedral, 30, 12) is None
    filled = fill(spinel, octahedral, 4, 12)
    assert filled is not None
    ions = filled.frac_coords[-4:]
    apart = [gaps(spinel.lattice, ions[k], np.delete(ions, k, 0)).min() for k in range(4)]
    assert min(apart) >= IONS_APART


def test_a_dense_host_has_no_void():
    copper = PackedStructure.from_arrays(
        [[0, 1.2, 1.2], [1.2, 0, 1.2], [1.2, 1.2, 0]], [[0, 0, 0]], [29]
    )
    with pytest.raises(StructureError, match="no void: the widest is 1.20 angstrom"):
        distinct_voids(copper, 3)
