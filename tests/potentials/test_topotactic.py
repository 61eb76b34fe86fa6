"""Topotactic voltages: eq. of the module by three separate energies, and what cannot have one."""

from __future__ import annotations

import numpy as np
import pytest

from tests.potentials.helpers import layered_host, lonely_atom, with_ions
from voltscreen.errors import StructureError
from voltscreen.ions import ION_SYMBOLS, working_ion
from voltscreen.potentials.metals import metal_energy
from voltscreen.potentials.topotactic import held_ions, topotactic_voltages
from voltscreen.structures import PackedStructure


def test_the_voltage_is_that_of_three_separate_energies(potential) -> None:
    structure = with_ions()
    labels = topotactic_voltages(potential, structure, ("Li", "Mg"))
    assert [label.ion for label in labels.ions] == ["Li", "Mg"]
    for label in labels.ions:
        ion = working_ion(label.ion)
        host = structure.take(np.flatnonzero(structure.atomic_numbers != ion.atomic_number))
        filled, emptied = potential.energies([structure, host])
        expected = -(filled - emptied - metal_energy(potential, label.ion)) / ion.charge
        assert label.voltage == pytest.approx(expected, abs=1e-4)
        assert label.host_energy == pytest.approx(emptied, abs=1e-4)
        assert labels.energy == pytest.approx(filled, abs=1e-4)


def test_a_supercell_has_the_voltage_of_its_cell(potential) -> None:
    cell = with_ions()
    shift = [[x / 2, 0, 0] for x in (0, 1)]
    halves = [(cell.frac_coords * [0.5, 1, 1] + s) for s in shift]
    double = PackedStructure.from_arrays(
        cell.lattice * [[2], [1], [1]], np.vstack(halves), np.tile(cell.atomic_numbers, 2)
    )
    (small,) = topotactic_voltages(potential, cell, ("Li",)).ions
    (large,) = topotactic_voltages(potential, double, ("Li",)).ions
    assert (small.count, large.count) == (1, 2)
    assert large.voltage == pytest.approx(small.voltage, abs=2e-3)


def test_lithium_in_titanium_disulfide_gains_energy(potential) -> None:
    host = layered_host()
    filled = PackedStructure.from_arrays(
        host.lattice, [*host.frac_coords, [0, 0, 0.5]], [*host.atomic_numbers, 3]
    )
    (label,) = topotactic_voltages(potential, filled, ("Li",)).ions
    assert 1.5 < label.voltage < 3.0


def test_ions_that_a_structure_can_lose() -> None:
    assert held_ions(with_ions(), ION_SYMBOLS) == ("Li", "Mg")
    assert held_ions(with_ions(), ("Mg", "Zn")) == ("Mg",)
    assert held_ions(layered_host(), ION_SYMBOLS) == ()
    metal = with_ions().take(np.array([0, 3]))
    assert held_ions(metal, ION_SYMBOLS) == ()


def test_what_fails_is_named(potential) -> None:
    with pytest.raises(StructureError, match="isolated atom"):
        topotactic_voltages(potential, lonely_atom(), ())
    bridge = PackedStructure.from_arrays(
        [[14, 0, 0], [0, 14, 0], [0, 0, 14]],
        [[0, 0, 0], [0.5, 0, 0], [0.25, 0, 0], [0.5, 0.15, 0]],
        [22, 8, 3, 12],
    )
    labels = topotactic_voltages(potential, bridge, ("Li", "Mg"))
    assert [label.ion for label in labels.ions] == ["Mg"]
    assert labels.failed["Li"].startswith("isolated atom")
