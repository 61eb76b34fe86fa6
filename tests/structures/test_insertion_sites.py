"""The void search against scipy's Voronoi diagram, and against the symmetry of crystals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure
from scipy.spatial import Voronoi

from tests.model.helpers import random_crystal
from voltscreen.structures import PackedStructure
from voltscreen.structures import insertion_sites as module
from voltscreen.structures.insertion_sites import CATION_MARGIN, WINDOW, insertion_sites
from voltscreen.structures.void_weights import weigh

ANIONS = [7, 8, 9, 16, 17, 34, 35, 52, 53]


def images(structure: PackedStructure, reach: float) -> tuple[np.ndarray, np.ndarray]:
    """Positions and elements of every atom within reach of the cell."""
    spacing = 1 / np.linalg.norm(np.linalg.inv(structure.lattice), axis=0)
    counts = np.ceil(reach / spacing).astype(int) + 1
    shifts = np.stack(
        np.meshgrid(*(np.arange(-n, n + 1) for n in counts), indexing="ij"), -1
    ).reshape(-1, 3)
    frac = (structure.frac_coords % 1)[None] + shifts[:, None]
    near = ((frac > -reach / spacing) & (frac < 1 + reach / spacing)).all(axis=2)
    numbers = np.broadcast_to(structure.atomic_numbers, near.shape)
    return frac[near] @ structure.lattice, numbers[near]


def clearances(points: np.ndarray, structure: PackedStructure, reach: float) -> np.ndarray:
    positions, numbers = images(structure, reach)
    margin = np.where(np.isin(numbers, ANIONS), 0.0, CATION_MARGIN)
    distances = np.linalg.norm(points[:, None] - positions, axis=2)
    return (distances - margin).min(axis=1)


def largest_by_scipy(structure: PackedStructure, reach: float = 10.0) -> float:
    vertices = Voronoi(images(structure, reach)[0]).vertices
    frac = vertices @ np.linalg.inv(structure.lattice)
    inside = vertices[((frac > -1e-6) & (frac < 1 + 1e-6)).all(axis=1)]
    return float(clearances(inside, structure, reach).max())


@given(st.integers(0, 10**6), st.integers(1, 12))
@settings(max_examples=60, deadline=None)
def test_the_largest_void_is_that_of_scipy(seed: int, n_atoms: int) -> None:
    structure = random_crystal(seed, n_atoms, (3, 8, 16, 25, 26))
    sites = insertion_sites([structure])
    # Of vertices closer than this the search keeps one, which need not be the widest.
    coincident = module.COINCIDENT
    assert sites.clearance.max() == pytest.approx(largest_by_scipy(structure), abs=coincident)


def test_voids_of_the_pool_are_those_of_scipy(shared_data) -> None:
    import pyarrow.parquet as pq

    table = pq.read_table(shared_data / "mp_pool.parquet")
    rng = np.random.default_rng(0)
    rows = table.take(np.sort(rng.choice(table.num_rows, 80, replace=False)))
    columns = (rows[name].to_pylist() for name in ("lattice", "frac_coords", "atomic_numbers"))
    structures = [PackedStructure.from_arrays(*row) for row in zip(*columns, strict=True)]
    structures = [s for s in structures if len(s) <= 40 and s.volume < 900]
    sites = insertion_sites(structures)
    assert len(structures) > 40
    for b, structure in enumerate(structures):
        own = slice(sites.offsets[b], sites.offsets[b + 1])
        # scipy merges vertices that nearly coincide: its points may lie 1e-4 angstrom off.
        found, expected = sites.clearance[own].max(), largest_by_scipy(structure, 9.0)
        assert abs(found - expected) < 1e-4, structure.formula


@pytest.mark.parametrize("seed", range(4))
def test_every_site_is_equally_near_to_four_atoms_and_no_nearer_to_any(seed) -> None:
    structure = random_crystal(seed, 9)
    sites = insertion_sites([structure])
    positions, _ = images(structure, 10.0)
    for frac, distance, clearance in zip(
        sites.frac_coords, sites.distance, sites.clearance, strict=True
    ):
        d = np.sort(np.linalg.norm(frac @ structure.lattice - positions, axis=1))
        np.testing.assert_allclose(d[:4], distance, atol=1e-6)
        assert clearance == pytest.approx(
            clearances((frac @ structure.lattice)[None], structure, 10.0)[0], abs=1e-6
        )


def test_the_voids_of_rock_salt_are_the_tetrahedral_ones() -> None:
    salt = Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.2), ["Mg", "O"], [[0] * 3, [0.5] * 3])
    sites = insertion_sites([PackedStructure.from_pymatgen(salt)])
    assert len(sites.weight) == 1  # eight, all alike
    np.testing.assert_allclose(np.abs(sites.frac_coords % 0.5 - 0.25), 0, atol=1e-9)
    assert sites.distance[0] == pytest.approx(4.2 * 3**0.5 / 4)
    assert sites.clearance[0] == pytest.approx(4.2 * 3**0.5 / 4 - CATION_MARGIN)


@pytest.mark.parametrize(
    "salt",
    [
        Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.2), ["Mg", "O"], [[0] * 3, [0.5] * 3]),
        Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.46), ["Ca", "F"], [[0] * 3, [0.25] * 3]),
    ],
    ids=["rock salt", "fluorite"],
)
def test_rattled_planes_of_atoms_make_no_voids_of_their_own(salt) -> None:
    """Four atoms of a plane become a tetrahedron, whose centre may be anywhere on their axis."""
    structure = PackedStructure.from_pymatgen(salt)
    still = insertion_sites([structure])
    for seed in range(10):
        step = np.random.default_rng(seed).normal(size=(len(structure), 3))
        step *= 1e-4 / np.linalg.norm(step, axis=1, keepdims=True)
        frac = structure.frac_coords + step @ np.linalg.inv(structure.lattice)
        moved = insertion_sites(
            [PackedStructure.from_arrays(structure.lattice, frac, structure.atomic_numbers)]
        )
        mean = moved.weight @ moved.clearance
        assert mean == pytest.approx(still.weight @ still.clearance, abs=2e-4)


def test_a_void_that_splits_leaves_alone_what_its_neighbours_weigh() -> None:
    lattice, spacing = 20.0 * np.eye(3), np.full(3, 20.0)
    frac, marks = np.zeros((1, 3)), np.ones(1)
    near = [[0.50, 0.5, 0.5, 2.0, 2.0, 1.0], [0.51, 0.5, 0.5, 1.99, 1.99, 1.0]]
    far = [[0.10, 0.1, 0.1, 1.98, 1.98, 1.0]]
    whole = weigh(lattice, frac, marks, spacing, np.array([*near, *far]), 2.0)
    twin = [[0.5001, 0.5, 0.5, 2.0, 2.0, 1.0]]
    split = weigh(lattice, frac, marks, spacing, np.array([*near, *twin, *far]), 2.0)
    for clearance in (2.0, 1.99, 1.98):
        one, other = (w[w[:, 3] == clearance, 5].sum() for w in (whole, split))
        assert one == pytest.approx(other, abs=1e-3)


def test_between_equal_voids_the_ion_goes_where_the_walls_are_anions() -> None:
    # Two kinds of layer voids of the same width: between oxygen layers, and between metal ones.
    structure = Structure(
        Lattice.tetragonal(2.9, 9.0),
        ["O", "O", "Ti", "Ti"],
        [[0, 0, 0.0], [0.5, 0.5, 0.25], [0, 0, 0.5], [0.5, 0.5, 0.75]],
    )
    sites = insertion_sites([PackedStructure.from_pymatgen(structure)])
    best = sites.frac_coords[sites.best()[0]]
    assert 0 < best[2] < 0.25


@given(st.integers(0, 10**6))
@settings(max_examples=25, deadline=None)
def test_weights_add_up_and_fade_at_the_window(seed: int) -> None:
    crystals = [random_crystal(seed + k, 3 + k) for k in range(3)]
    sites = insertion_sites(crystals)
    for b in range(3):
        own = slice(sites.offsets[b], sites.offsets[b + 1])
        assert sites.weight[own].sum() == pytest.approx(1)
        assert sites.clearance[own].min() > sites.clearance[own].max() - WINDOW
        assert (sites.weight[own] > 0).all()
        alone = insertion_sites([crystals[b]])
        np.testing.assert_allclose(alone.clearance, sites.clearance[own], atol=1e-12)


def test_a_lonely_atom_has_its_voids_at_the_corner_of_its_cell() -> None:
    lonely = PackedStructure.from_arrays(np.eye(3) * 12, [[0, 0, 0]], [8])
    sites = insertion_sites([lonely])
    assert sites.distance[0] == pytest.approx(6 * 3**0.5)
    np.testing.assert_allclose(sites.frac_coords[0], 0.5, atol=1e-9)


def test_the_jitter_is_too_small_to_matter(monkeypatch) -> None:
    structures = [random_crystal(seed, 8) for seed in range(5)]
    sites = insertion_sites(structures)
    positions = [images(s, 10.0)[0] for s in structures]
    for b, structure in enumerate(structures):
        best = sites.frac_coords[sites.best()[b]] @ structure.lattice
        walls = np.sort(np.linalg.norm(best - positions[b], axis=1))[:4]
        assert np.ptp(walls) < 10 * module.JITTER * 1e-3
