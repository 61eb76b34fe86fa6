from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure

from tests.model.helpers import random_crystal
from voltscreen.graph import GRAPH_SPECS, INSERTION, NEAREST, SHARED, build_graphs, merge_alike
from voltscreen.structures import PackedStructure


def rock_salt(cells: tuple[int, int, int] = (1, 1, 1)) -> PackedStructure:
    salt = Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.2), ["Mg", "O"], [[0] * 3, [0.5] * 3])
    return PackedStructure.from_pymatgen(salt * cells)


def test_rock_salt_has_one_kind_of_each_element_and_of_void() -> None:
    crystals = [random_crystal(0, 6), rock_salt(), rock_salt((2, 1, 1))]
    merged = merge_alike(build_graphs(crystals, INSERTION)).graphs
    assert merged.n_nodes.tolist()[1:] == [3, 3]
    for b in (1, 2):
        own = slice(merged.offsets[b], merged.offsets[b + 1])
        assert merged.atomic_numbers[own].tolist() == [12, 8, 0]
        assert merged.counts[own].tolist()[:2] == [4 * b, 4 * b]
    # Twelve neighbours of its own element at half the face's diagonal share six places.
    first = int(merged.offsets[1])
    edges = slice(merged.edge_offsets[first], merged.edge_offsets[first + 1])
    order = np.argsort(merged.distances[edges])
    assert merged.neighbors[edges][order].tolist() == [first + 1, first]
    np.testing.assert_allclose(merged.distances[edges][order], [2.1, 2.1 * 2**0.5], rtol=1e-6)
    np.testing.assert_allclose(merged.weights[edges][order], [6, 6], rtol=1e-5)


@pytest.mark.parametrize("spec", GRAPH_SPECS.values(), ids=GRAPH_SPECS)
def test_what_is_counted_stays(spec) -> None:
    crystals = [rock_salt(), random_crystal(0, 1), random_crystal(1, 12), rock_salt((1, 2, 1))]
    batch = build_graphs(crystals, spec)
    merged = merge_alike(batch)
    graphs = merged.graphs
    for name in ("n_atoms", "n_undercoordinated", "volumes"):
        np.testing.assert_array_equal(getattr(graphs, name), getattr(batch, name))
    np.testing.assert_array_equal(graphs.atomic_numbers[merged.kind_of_node], batch.atomic_numbers)
    assert graphs.counts.sum() == len(batch.atomic_numbers)
    assert graphs.site_weights.sum() == pytest.approx(batch.site_weights.sum())
    held = np.bincount(_receivers(batch), batch.weights, len(batch.atomic_numbers))
    kept = np.bincount(_receivers(graphs), graphs.weights, len(graphs.atomic_numbers))
    np.testing.assert_allclose(kept[merged.kind_of_node], held, rtol=1e-5)


@given(st.integers(0, 10**6), st.sampled_from([NEAREST, SHARED]))
@settings(max_examples=20, deadline=None)
def test_a_crystal_without_symmetry_keeps_its_nodes(seed: int, spec) -> None:
    batch = build_graphs([random_crystal(seed, 10)], spec)
    merged = merge_alike(batch)
    assert len(merged.graphs.atomic_numbers) == 10
    np.testing.assert_array_equal(merged.kind_of_node, np.arange(10))


def test_atoms_that_differ_only_in_what_their_neighbours_see_are_kept_apart() -> None:
    # A chain of equal spacing; only the third neighbour tells the oxygen atoms apart.
    numbers = [8] * 12
    numbers[0] = 26
    coords = np.zeros((12, 3))
    coords[:, 0] = np.arange(12) / 12
    chain = PackedStructure.from_arrays(np.diag([12 * 2.1, 9.5, 9.5]), coords, numbers)
    batch = build_graphs([chain], SHARED)
    merged = merge_alike(batch)
    mirror = (-np.arange(12)) % 12
    np.testing.assert_array_equal(merged.kind_of_node, merged.kind_of_node[mirror])
    assert len(set(merged.kind_of_node)) == 7


def _receivers(batch) -> np.ndarray:
    return np.repeat(np.arange(len(batch.atomic_numbers)), np.diff(batch.edge_offsets))
