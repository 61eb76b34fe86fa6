"""Graphs built with torch operations against those that numba builds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure

from tests.graph.on_device.helpers import DEVICES, assert_equal_graphs, build
from tests.model.helpers import random_crystal
from voltscreen.graph import INSERTION, NEAREST, PAPER, SHARED
from voltscreen.graph.on_device import ragged
from voltscreen.graph.on_device.build import build_on_device
from voltscreen.graph.on_device.crystals import Crystals
from voltscreen.sources import candidates
from voltscreen.structures import Candidate, PackedStructure

SPECS = pytest.mark.parametrize("spec", [NEAREST, SHARED, INSERTION], ids=lambda spec: spec.name)
ELEMENTS = (3, 8, 16, 25, 26)


def skewed(crystal: PackedStructure, rng: np.random.Generator) -> PackedStructure:
    """The same crystal in a cell with long, nearly parallel vectors."""
    turn = np.eye(3)
    for _ in range(2):
        i, j = rng.permutation(3)[:2]
        turn[i] += rng.integers(-3, 4) * turn[j]
    return PackedStructure.from_arrays(
        turn @ crystal.lattice, crystal.frac_coords @ np.linalg.inv(turn), crystal.atomic_numbers
    )


def stretched(crystal: PackedStructure, rng: np.random.Generator) -> PackedStructure:
    """Flat or needle-like, without overlaps: every vector only grows."""
    return PackedStructure.from_arrays(
        crystal.lattice * rng.uniform(1.0, 4.0, (3, 1)),
        crystal.frac_coords,
        crystal.atomic_numbers,
    )


def displaced(crystal: PackedStructure, rng: np.random.Generator) -> PackedStructure:
    """Atoms written in other cells."""
    return PackedStructure.from_arrays(
        crystal.lattice,
        crystal.frac_coords + rng.integers(-5, 6, crystal.frac_coords.shape),
        crystal.atomic_numbers,
    )


@st.composite
def crystals(draw) -> PackedStructure:
    """Hard cells: one atom to sixty, skewed, stretched, written in other cells."""
    seed = draw(st.integers(0, 10**6))
    rng = np.random.default_rng(seed)
    n_atoms = draw(st.sampled_from([1, 2, 3, 7, 20, 60]))
    # Inversion swaps two atoms: where they are of two elements, voids that it makes of each other
    # can look alike to within what the rule allows, and rounding chooses which one stands for both.
    crystal = random_crystal(seed, n_atoms, ELEMENTS if n_atoms != 2 else (26,))
    for change in draw(st.lists(st.sampled_from([skewed, stretched, displaced]), max_size=2)):
        crystal = change(crystal, rng)
    return crystal


def symmetric() -> list[PackedStructure]:
    """Crystals full of ties, among them a primitive cell of one atom and a supercell."""
    salt = Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.2), ["Mg", "O"], [[0] * 3, [0.5] * 3])
    iron = Structure(Lattice.cubic(2.87), ["Fe", "Fe"], [[0] * 3, [0.5] * 3])
    graphite = Structure.from_spacegroup(
        "P6_3/mmc", Lattice.hexagonal(2.46, 6.7), ["C", "C"], [[0, 0, 1 / 4], [1 / 3, 2 / 3, 1 / 4]]
    )
    perovskite = Structure.from_spacegroup(
        "Pm-3m", Lattice.cubic(3.9), ["Sr", "Ti", "O"], [[0] * 3, [0.5] * 3, [0.5, 0.5, 0]]
    )
    all_ = [salt, salt.get_primitive_structure(), salt * (2, 1, 1), iron]
    all_ += [iron.get_primitive_structure(), graphite, perovskite]
    return [PackedStructure.from_pymatgen(structure) for structure in all_]


@DEVICES
@SPECS
def test_graphs_of_the_known_hosts_are_those_of_numba(spec, device) -> None:
    hosts = [c.structure for c in candidates("hosts", "all", Path()) if isinstance(c, Candidate)]
    assert len(hosts) > 10
    assert_equal_graphs(hosts, spec, device)


@DEVICES
@SPECS
def test_graphs_of_symmetric_crystals_are_those_of_numba(spec, device) -> None:
    assert_equal_graphs(symmetric(), spec, device)


@DEVICES
@SPECS
@given(st.lists(crystals(), min_size=1, max_size=3))
@settings(max_examples=12, deadline=None)
def test_graphs_of_hard_cells_are_those_of_numba(device, spec, structures) -> None:
    assert_equal_graphs(structures, spec, device)


@DEVICES
def test_graphs_of_the_pool_are_those_of_numba(shared_data, device) -> None:
    import pyarrow.parquet as pq

    table = pq.read_table(shared_data / "mp_pool.parquet")
    chosen = np.random.default_rng(0).choice(table.num_rows, 30, replace=False)
    rows = table.take(np.sort(chosen))
    columns = (rows[name].to_pylist() for name in ("lattice", "frac_coords", "atomic_numbers"))
    structures = [PackedStructure.from_arrays(*row) for row in zip(*columns, strict=True)]
    assert_equal_graphs(structures, INSERTION, device)


@DEVICES
@SPECS
def test_atoms_without_neighbours_have_no_edges(spec, device) -> None:
    lonely = PackedStructure.from_arrays(np.eye(3) * 30, [[0, 0, 0]], [8])
    pair = PackedStructure.from_arrays(np.eye(3) * 20, [[0, 0, 0], [0.1, 0, 0]], [8, 25])
    assert_equal_graphs([lonely, random_crystal(1, 4), pair], spec, device)
    graphs = build([lonely, pair], spec, device)
    assert graphs.isolated_atom.tolist() == [0, -1]
    assert graphs.n_undercoordinated.tolist() == [1, 2]


@DEVICES
@SPECS
def test_a_batch_equals_its_structures_alone(spec, device) -> None:
    structures = [random_crystal(seed, n, ELEMENTS) for seed, n in enumerate((3, 1, 8, 12))]
    batch = build(structures, spec, device)
    for b, structure in enumerate(structures):
        alone, picked = build([structure], spec, device), batch.select(np.array([b]))
        for name in alone.__dataclass_fields__:
            if name != "spec":
                np.testing.assert_array_equal(getattr(picked, name), getattr(alone, name), name)


@DEVICES
def test_small_pieces_give_the_same_as_one_large_one(device, monkeypatch) -> None:
    structures = [*symmetric(), random_crystal(0, 20, ELEMENTS)]
    whole = build(structures, INSERTION, device)
    monkeypatch.setitem(ragged._AT_ONCE, device.type, 300)
    pieces = build(structures, INSERTION, device)
    for name in whole.__dataclass_fields__:
        if name != "spec":
            np.testing.assert_array_equal(getattr(pieces, name), getattr(whole, name), name)


def test_a_spec_in_the_original_order_is_refused() -> None:
    structures = Crystals.from_structures([random_crystal(0)], torch.device("cpu"))
    with pytest.raises(ValueError, match="paper-1"):
        build_on_device(structures, PAPER)
