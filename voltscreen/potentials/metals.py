"""The metals that working ions are taken from: their energies by the potential itself.

Each metal stands in its structure at room temperature, with the lattice parameters that make the
potential's own energy least. The table spares every process the search; `relaxed_metal` repeats
it, and tests/potentials/test_metals.py compares.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from voltscreen.ions import working_ion
from voltscreen.structures import PackedStructure

if TYPE_CHECKING:
    from voltscreen.potentials.chgnet import ChgnetPotential


@dataclass(frozen=True, slots=True)
class Metal:
    """A metal in its standard structure.

    structure: `bcc`, `fcc` or `hcp`.
    a, c: lattice parameters, angstrom; c is the height of the hexagonal cell, a in cubic ones.
    energy: eV an atom.
    """

    structure: str
    a: float
    c: float
    energy: float

    def cell(self, ion: str) -> PackedStructure:
        """The primitive cell, of one atom, or two in hcp."""
        number = working_ion(ion).atomic_number
        half = self.a / 2
        if self.structure == "hcp":
            lattice = [[self.a, 0, 0], [-half, np.sqrt(3) * half, 0], [0, 0, self.c]]
            sites = [[1 / 3, 2 / 3, 1 / 4], [2 / 3, 1 / 3, 3 / 4]]
            return PackedStructure.from_arrays(lattice, sites, [number, number])
        if self.structure == "bcc":
            lattice = [[-half, half, half], [half, -half, half], [half, half, -half]]
        else:
            lattice = [[0, half, half], [half, 0, half], [half, half, 0]]
        return PackedStructure.from_arrays(lattice, [[0, 0, 0]], [number])


METALS: dict[str, dict[str, Metal]] = {
    "chgnet": {
        "Li": Metal("bcc", 3.407, 3.407, -1.8803),
        "Na": Metal("bcc", 4.210, 4.210, -1.2890),
        "K": Metal("bcc", 5.236, 5.236, -1.0869),
        "Rb": Metal("bcc", 5.486, 5.486, -0.9394),
        "Cs": Metal("bcc", 6.336, 6.336, -0.8525),
        "Mg": Metal("hcp", 3.206, 5.133, -1.5963),
        "Ca": Metal("fcc", 5.528, 5.528, -1.9703),
        "Zn": Metal("hcp", 2.665, 4.996, -1.2631),
        "Al": Metal("fcc", 4.043, 4.043, -3.6644),
        "Y": Metal("hcp", 3.599, 5.866, -6.4446),
    }
}
"""By potential and ion."""


def metal_energy(potential: ChgnetPotential, ion: str) -> float:
    """Energy of one atom of the ion's metal, eV.

    Raises:
        VoltscreenError: not a working ion.
    """
    return METALS[potential.name][working_ion(ion).symbol].energy


def relaxed_metal(potential: ChgnetPotential, ion: str, start: Metal) -> Metal:
    """The metal with its lattice parameters changed to those of least energy.

    A scan of the cell's size up to 8 % either way, for a potential may have more than one
    minimum there, then Nelder and Mead's search from the best.

    Args:
        start: structure and lattice parameters to start from; its energy is not used.
    """
    from scipy.optimize import minimize

    def scaled(scale: NDArray[np.float64]) -> Metal:
        return Metal(start.structure, start.a * scale[0], start.c * scale[-1], np.nan)

    def energy(scale: NDArray[np.float64]) -> float:
        cell = scaled(scale).cell(ion)
        return potential.energies([cell])[0] / len(cell)

    free = 2 if start.structure == "hcp" else 1
    coarse = min((np.full(free, size) for size in np.linspace(0.92, 1.08, 9)), key=energy)
    corners = np.vstack((coarse, coarse + 0.01 * np.eye(free)))
    found = minimize(
        energy, coarse, method="Nelder-Mead",
        options={"initial_simplex": corners, "xatol": 1e-5, "fatol": 1e-6},
    )  # fmt: skip
    best = scaled(found.x)
    return Metal(start.structure, float(best.a), float(best.c), float(found.fun))
