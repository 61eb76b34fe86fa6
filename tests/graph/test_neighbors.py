from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure

from voltscreen.graph import (
    GRAPH_SPECS,
    NEAREST,
    PAPER,
    SHARED,
    GraphBatch,
    build_graphs,
)
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


def distances_of(graph: GraphBatch, node: int) -> np.ndarray:
    return graph.distances[graph.edge_offsets[node] : graph.edge_offsets[node + 1]]


def neighbors_of(graph: GraphBatch, node: int) -> np.ndarray:
    return graph.neighbors[graph.edge_offsets[node] : graph.edge_offsets[node + 1]]


@given(st.integers(0, 10**6), st.integers(1, 14))
@settings(max_examples=40, deadline=None)
def test_distances_equal_brute_force(seed: int, n_atoms: int) -> None:
    structure = random_crystal(seed, n_atoms)
    for spec in (NEAREST, PAPER):
        graph = build_graphs([structure], spec)
        for i, expected in enumerate(brute_force(structure, spec.cutoff, spec.n_neighbors)):
            found = np.sort(distances_of(graph, i))
            np.testing.assert_allclose(found, expected, atol=2e-6)


@given(st.integers(0, 10**6))
@settings(max_examples=25, deadline=None)
def test_neighbors_are_at_the_distance_they_claim(seed: int) -> None:
    structure = random_crystal(seed, 5)
    graph = build_graphs([structure], NEAREST)
    images = np.stack(np.meshgrid(*[np.arange(-4, 5)] * 3, indexing="ij"), -1).reshape(-1, 3)
    for i in range(5):
        for j, distance in zip(neighbors_of(graph, i), distances_of(graph, i), strict=True):
            delta = structure.frac_coords[j] - structure.frac_coords[i]
            delta = delta - np.round(delta) + images
            possible = np.linalg.norm(delta @ structure.lattice, axis=1)
            assert np.abs(possible - distance).min() < 1e-5


ARRAYS = (
    "atomic_numbers", "offsets", "n_sites", "counts", "edge_offsets", "neighbors",
    "distances", "weights", "site_weights", "site_clearances", "site_distances", "volumes",
)  # fmt: skip


@pytest.mark.parametrize("spec", GRAPH_SPECS.values(), ids=GRAPH_SPECS)
def test_a_batch_equals_its_structures_alone(spec) -> None:
    crystals = [random_crystal(seed, n) for seed, n in enumerate((3, 1, 8, 12))]
    batch = build_graphs(crystals, spec)
    assert len(batch) == 4
    for b, crystal in enumerate(crystals):
        alone, picked = build_graphs([crystal], spec), batch.select(np.array([b]))
        for name in ARRAYS:
            np.testing.assert_array_equal(getattr(picked, name), getattr(alone, name))
    picked = batch.select(np.array([2, 0]))
    expected = build_graphs([crystals[2], crystals[0]], spec)
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(picked, name), getattr(expected, name))


@pytest.mark.parametrize("spec", GRAPH_SPECS.values(), ids=GRAPH_SPECS)
def test_isolated_atoms_are_flagged_and_never_padded(spec) -> None:
    lonely = PackedStructure.from_arrays(np.eye(3) * 20, [[0, 0, 0], [0.1, 0, 0]], [8, 25])
    dense = random_crystal(1, 4)
    graph = build_graphs([lonely, dense], spec)
    assert [len(neighbors_of(graph, i)) for i in (0, 1)] == [1, 1]
    assert graph.n_undercoordinated.tolist() == [2, 0]
    assert [neighbors_of(graph, i).tolist() for i in (0, 1)] == [[1], [0]]
    empty = build_graphs([lonely.take(np.array([0]))], spec)
    assert len(empty.neighbors) == 0
    assert empty.n_undercoordinated.tolist() == [1]


@given(st.integers(0, 10**6), st.integers(1, 14))
@settings(max_examples=40, deadline=None)
def test_shared_places_add_up_and_hold_the_nearest(seed: int, n_atoms: int) -> None:
    structure = random_crystal(seed, n_atoms)
    graph = build_graphs([structure], SHARED)
    every = brute_force(structure, SHARED.cutoff, 10**6)
    for i in range(n_atoms):
        edges = slice(graph.edge_offsets[i], graph.edge_offsets[i + 1])
        weights, distances = graph.weights[edges], graph.distances[edges]
        order = np.argsort(distances)
        if len(every[i]) > 60 and distances.max() < SHARED.cutoff - 0.2:
            assert weights.sum() == pytest.approx(12, abs=1e-4)
        np.testing.assert_allclose(distances[order], every[i][: len(order)], atol=2e-6)
        assert (np.diff(weights[order]) <= 1e-6).all()
        outside = every[i][len(order)] if len(order) < len(every[i]) else np.inf
        edge = distances.max() + SHARED.shell_width * weights[order][-1]
        assert outside >= min(edge, SHARED.cutoff) - 1e-4


def test_a_tied_shell_shares_its_places_evenly() -> None:
    # CsCl: 8 neighbours at 0.87 a, 6 at a: four places for six atoms.
    caesium_chloride = PackedStructure.from_arrays(np.eye(3) * 4.1, [[0] * 3, [0.5] * 3], [55, 17])
    graph = build_graphs([caesium_chloride], SHARED)
    weights = np.sort(graph.weights[: graph.edge_offsets[1]])
    np.testing.assert_allclose(weights, [4 / 6] * 6 + [1] * 8, atol=1e-6)


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
            assert neighbors_of(graph, i).tolist() == [n.index for n in expected]
            np.testing.assert_allclose(distances_of(graph, i), [n.nn_distance for n in expected])


@pytest.mark.parametrize("spec", [NEAREST, PAPER])
def test_gaussians_reach_from_zero_to_the_cutoff(spec) -> None:
    assert len(spec.centers) == 41
    assert spec.centers[0] == 0
    assert spec.centers[-1] == pytest.approx(8.0)
