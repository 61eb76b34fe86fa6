"""The table of metals against the potential that it was made with."""

from __future__ import annotations

from dataclasses import replace

import pytest

from voltscreen.ions import ION_SYMBOLS
from voltscreen.potentials.metals import METALS, Metal, relaxed_metal

# Experimental, room temperature (CRC Handbook of Chemistry and Physics), angstrom.
MEASURED = {
    "Li": (3.51, 3.51), "Na": (4.29, 4.29), "K": (5.33, 5.33), "Rb": (5.59, 5.59),
    "Cs": (6.14, 6.14), "Mg": (3.21, 5.21), "Ca": (5.59, 5.59), "Zn": (2.66, 4.95),
    "Al": (4.05, 4.05), "Y": (3.65, 5.73),
}  # fmt: skip


@pytest.mark.parametrize("ion", ION_SYMBOLS)
def test_the_search_from_the_measured_cell_gives_the_table(potential, ion) -> None:
    expected = METALS["chgnet"][ion]
    a, c = MEASURED[ion]
    found = relaxed_metal(potential, ion, Metal(expected.structure, a, c, 0.0))
    assert found.energy == pytest.approx(expected.energy, abs=1e-3)
    assert found.a == pytest.approx(expected.a, rel=0.005)
    assert found.c == pytest.approx(expected.c, rel=0.005)


@pytest.mark.parametrize("ion", ["Li", "Al", "Mg"])
def test_a_stretched_metal_has_more_energy(potential, ion) -> None:
    metal = METALS["chgnet"][ion]
    stretched = replace(metal, a=1.05 * metal.a, c=1.05 * metal.c).cell(ion)
    cell = metal.cell(ion)
    energies = [e / len(cell) for e in potential.energies([cell, stretched])]
    assert energies[0] == pytest.approx(metal.energy, abs=1e-3)
    assert energies[1] > energies[0]
