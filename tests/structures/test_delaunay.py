"""Near atoms and tetrahedra of periodic crystals against what must hold for them."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.graph.test_neighbors import random_crystal
from voltscreen.structures.delaunay import tetrahedra, vector_to
from voltscreen.structures.near_atoms import ATOM, near_atoms, plane_spacing


def lists(crystal, reach: float):
    wrapped = crystal.frac_coords % 1
    position = wrapped @ crystal.lattice
    spacing = plane_spacing(crystal.lattice)
    return wrapped, position, near_atoms(crystal.lattice, wrapped, position, spacing, reach)


@given(st.integers(0, 10**6), st.integers(1, 12), st.floats(1.0, 9.0))
@settings(max_examples=40, deadline=None)
def test_near_atoms_are_those_that_brute_force_finds(seed, n_atoms, reach) -> None:
    crystal = random_crystal(seed, n_atoms)
    wrapped, position, (offsets, entries, who) = lists(crystal, reach)
    most = np.ceil(reach / plane_spacing(crystal.lattice)).astype(int) + 1
    grid = np.meshgrid(*(np.arange(-k, k + 1) for k in most), indexing="ij")
    images = np.stack(grid, -1).reshape(-1, 3) @ crystal.lattice
    for i in range(n_atoms):
        vectors = (position - position[i])[None] + images[:, None]
        distances = np.sort(np.linalg.norm(vectors, axis=2).ravel())
        own = slice(offsets[i], offsets[i + 1])
        found = np.sqrt(2 * entries[3, own])
        np.testing.assert_allclose(np.sort(found), distances[1 : 1 + len(found)], atol=1e-9)
        assert not ((distances > 1e-3) & (distances < reach - 1e-9))[1 + len(found) :].any()
        # Nothing that follows is nearer than an entry says.
        least = np.minimum.accumulate(entries[3, own][::-1])[::-1]
        assert (least >= entries[4, own] - 1e-12).all()
        vector = np.empty(3)
        for m in range(offsets[i], offsets[i + 1]):
            vector_to(crystal.lattice, wrapped, i, who[m], vector)
            np.testing.assert_allclose(vector, entries[:3, m], atol=1e-9)


@given(st.integers(0, 10**6), st.integers(1, 12))
@settings(max_examples=40, deadline=None)
def test_tetrahedra_fill_the_cell_and_their_spheres_are_empty(seed, n_atoms) -> None:
    crystal = random_crystal(seed, n_atoms)
    reach = 14.0
    _, position, (offsets, entries, who) = lists(crystal, reach)
    corners, spheres, needed = tetrahedra(crystal.lattice, position, offsets, entries, who, reach)
    if needed:
        assert needed > reach
        return
    np.testing.assert_allclose(spheres[:, 4].sum(), crystal.volume, rtol=1e-9)
    for (a, *others), (x, y, z, radius, _) in zip(corners, spheres, strict=True):
        own = slice(offsets[a], offsets[a + 1])
        distances = np.linalg.norm(entries[:3, own].T - (x, y, z), axis=1)
        assert distances.min() > radius - 1e-7
        walls = np.isin(who[own], others)
        np.testing.assert_allclose(distances[walls], radius, atol=1e-7)
        assert walls.sum() == 3
        assert all(name & ATOM < n_atoms for name in others)
