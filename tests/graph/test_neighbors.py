from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure

from voltscreen.graph import NEAREST, PAPER, build_graphs
from voltscreen.structures import PackedStructure


def random_crystal(seed: int, n_atoms: int) -> PackedStructure:
    rng = np.random.default_rng(seed)
    scale = (15.0 * n_atoms) ** (1 / 3)
    lattice = Lattice.from_parameters(
        *(scale * rng.uniform(0.6, 1.7, 3)), *rng.uniform(70, 110, 3)
    ).matrix
    return PackedStructure.from_arrays(
        lattice, rng.uniform(-0.5, 1.5, (n_atoms, 3)), rng.integers(1, 90, n_atoms)
    )


def brute_force(structure: PackedStructure, cutoff: float, count: int) -> list[np.ndarray]:
    """Sorted neighbour distances by trying every image that can reach."""
    heights = 1 / np.linalg.norm(np.linalg.inv(structure.lattice), axis=0)
    reach = np.ceil(cutoff / heights).astype(int) + 2
    images = np.stack(
        np.meshgrid(*(np.arange(-k, k + 1) for k in reach), indexing="ij"), -1
    ).reshape(-1, 3)
    distances = []
    for center in structure.frac_coords:
        delta = structure.frac_coords[None] - center + images[:, None]
        d = np.linalg.norm(delta @ structure.lattice, axis=-1).ravel()
        distances.append(np.sort(d[(d > 1e-8) & (d <= cutoff)])[:count])
    return distances


@given(st.integers(0, 10**6), st.integers(1, 14))
@settings(max_examples=40, deadline=None)
def test_distances_equal_brute_force(seed: int, n_atoms: int) -> None:
    structure = random_crystal(seed, n_atoms)
    for spec in (NEAREST, PAPER):
        graph = build_graphs([structure], spec)
        for i, expected in enumerate(brute_force(structure, spec.cutoff, spec.n_neighbors)):
            found = graph.distances[i][graph.filled[i]]
            np.testing.assert_allclose(found, expected, atol=2e-6)


@given(st.integers(0, 10**6))
@settings(max_examples=25, deadline=None)
def test_neighbors_are_at_the_distance_they_claim(seed: int) -> None:
    structure = random_crystal(seed, 5)
    graph = build_graphs([structure], NEAREST)
    images = np.stack(np.meshgrid(*[np.arange(-4, 5)] * 3, indexing="ij"), -1).reshape(-1, 3)
    for i in range(5):
        for j, distance in zip(graph.neighbors[i], graph.distances[i], strict=True):
            delta = structure.frac_coords[j] - structure.frac_coords[i]
            delta = delta - np.round(delta) + images
            possible = np.linalg.norm(delta @ structure.lattice, axis=1)
            assert np.abs(possible - distance).min() < 1e-5


def test_a_batch_equals_its_structures_alone() -> None:
    crystals = [random_crystal(seed, n) for seed, n in enumerate((3, 1, 8, 12))]
    for spec in (NEAREST, PAPER):
        batch = build_graphs(crystals, spec)
        assert len(batch) == 4
        for b, crystal in enumerate(crystals):
            alone = build_graphs([crystal], spec)
            span = slice(batch.offsets[b], batch.offsets[b + 1])
            np.testing.assert_array_equal(batch.distances[span], alone.distances)
            np.testing.assert_array_equal(batch.neighbors[span] - batch.offsets[b], alone.neighbors)
        picked = batch.select(np.array([2, 0]))
        np.testing.assert_array_equal(
            picked.neighbors, build_graphs([crystals[2], crystals[0]], spec).neighbors
        )


def test_isolated_atoms_are_flagged_and_never_padded() -> None:
    lonely = PackedStructure.from_arrays(np.eye(3) * 20, [[0, 0, 0], [0.1, 0, 0]], [8, 25])
    dense = random_crystal(1, 4)
    for spec in (NEAREST, PAPER):
        graph = build_graphs([lonely, dense], spec)
        assert graph.filled[:2].sum(axis=1).tolist() == [1, 1]
        assert graph.n_undercoordinated.tolist() == [2, 0]
        assert graph.neighbors[:2].max() < 2
        empty = build_graphs([lonely.take(np.array([0]))], spec)
        assert not empty.filled.any()


def test_paper_mode_follows_the_original_code() -> None:
    """get_all_neighbors at 8 angstrom, stable sort by distance, first twelve."""
    structures = [
        Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.2), ["Mg", "O"], [[0] * 3, [0.5] * 3]),
        Structure.from_spacegroup(
            "P6/mmm", Lattice.hexagonal(2.46, 6.7), ["C"], [[1 / 3, 2 / 3, 0]]
        ),
    ]
    for structure in structures:
        graph = build_graphs([PackedStructure.from_pymatgen(structure)], PAPER)
        lists = structure.get_all_neighbors(8.0)
        for i, neighbors in enumerate(lists):
            expected = sorted(neighbors, key=lambda n: n.nn_distance)[:12]
            assert graph.neighbors[i].tolist() == [n.index for n in expected]
            np.testing.assert_allclose(graph.distances[i], [n.nn_distance for n in expected])


@pytest.mark.parametrize("spec", [NEAREST, PAPER])
def test_gaussians_reach_from_zero_to_the_cutoff(spec) -> None:
    assert len(spec.centers) == 41
    assert spec.centers[0] == 0
    assert spec.centers[-1] == pytest.approx(8.0)
