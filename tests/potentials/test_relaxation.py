"""Relaxation by CHGNet: derivatives, minima, and structures that cannot be relaxed."""

from __future__ import annotations

import numpy as np
import pytest

from tests.potentials.helpers import layered_host, lonely_atom
from voltscreen.potentials.relaxation import RelaxOptions, relax
from voltscreen.structures import PackedStructure


def stretched(structure: PackedStructure, strain: np.ndarray) -> PackedStructure:
    return PackedStructure.from_arrays(
        structure.lattice @ (np.eye(3) + strain), structure.frac_coords, structure.atomic_numbers
    )


def rattled(structure: PackedStructure, size: float = 0.1) -> PackedStructure:
    moved = np.random.default_rng(0).normal(scale=size, size=(len(structure), 3))
    return PackedStructure.from_arrays(
        structure.lattice,
        structure.frac_coords + moved @ np.linalg.inv(structure.lattice),
        structure.atomic_numbers,
    )


def test_forces_and_strain_gradients_are_the_derivatives_of_the_energy(potential):
    structure = rattled(layered_host())
    found = potential.forces([potential.graph(structure)])[0]
    assert found.energy == pytest.approx(potential.energies([structure])[0], abs=1e-5)

    step = np.zeros((3, 3))
    step[1, 0] = 2e-3 / 3.4  # along a cell vector
    moved = [
        PackedStructure.from_arrays(
            structure.lattice, structure.frac_coords + sign * step, structure.atomic_numbers
        )
        for sign in (1, -1)
    ]
    up, down = potential.energies(moved)
    along = step[1] @ structure.lattice
    assert found.forces[1] @ along == pytest.approx(-(up - down) / 2, abs=1e-5)

    strain = np.array([[2e-3, 1e-3, 0], [1e-3, 0, 0], [0, 0, -1e-3]])
    up, down = potential.energies([stretched(structure, strain), stretched(structure, -strain)])
    assert (found.strain_gradient * strain).sum() == pytest.approx((up - down) / 2, abs=2e-5)


def test_a_relaxation_finds_one_minimum_from_two_starts_side_by_side(potential):
    host = layered_host()
    starts = [rattled(host), stretched(host, 0.03 * np.eye(3))]
    one, other = relax(potential, starts, RelaxOptions(force=0.02, stress=0.002))
    assert one.converged
    assert other.converged
    assert one.energy == pytest.approx(other.energy, abs=5e-3)
    assert one.energy < min(potential.energies(starts)) - 0.05
    assert one.energy == pytest.approx(potential.energies([one.structure])[0], abs=1e-4)
    assert one.max_force < 0.02


def test_a_fixed_cell_stays(potential):
    start = rattled(layered_host())
    found = relax(potential, [start], RelaxOptions(cell=False))[0]
    assert np.array_equal(found.structure.lattice, start.lattice)
    assert found.energy < found.energies[0]


def test_steps_are_counted_and_bounded(potential):
    found = relax(potential, [rattled(layered_host())], RelaxOptions(steps=3, force=1e-4))[0]
    assert len(found.energies) == 3
    assert not found.converged
    assert found.failure is None
    assert found.energy == min(found.energies)


def test_what_cannot_be_computed_fails_alone(potential):
    host = layered_host()
    overlapping = PackedStructure.from_arrays(
        host.lattice, np.vstack((host.frac_coords, host.frac_coords[:1])), [22, 16, 16, 3]
    )
    alone, good, close = relax(potential, [lonely_atom(), host, overlapping], RelaxOptions(steps=2))
    assert "isolated atom" in str(alone.failure)
    assert "overlapping atoms" in str(close.failure)
    assert np.isnan(alone.energy)
    assert good.failure is None
    assert len(good.energies) == 2


def test_a_structure_that_comes_apart_is_said_to_explode(potential):
    squeezed = stretched(layered_host(), -0.2 * np.eye(3))
    found = relax(potential, [squeezed], RelaxOptions(steps=60))[0]
    assert str(found.failure).startswith("explodes: the volume became")
