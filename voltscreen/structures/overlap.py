"""Refusal of structures with overlapping atoms."""

from __future__ import annotations

import math

import numba
import numpy as np
from numpy.typing import NDArray

from voltscreen.errors import StructureError
from voltscreen.structures.packed import PackedStructure, element_symbol

MIN_DISTANCE = 0.5
"""Angstrom; the shortest bond there is, H-H, has 0.74."""


@numba.njit(cache=True, nogil=True)
def _closest_pair(
    lattice: NDArray[np.float64],
    frac: NDArray[np.float64],
    spacing: NDArray[np.float64],
    radius: float,
) -> tuple[float, int, int]:
    """Shortest distance up to `radius` between two atoms or an atom and its own image."""
    best, best_i, best_j = radius * radius, -1, -1
    q0, q1, q2 = radius / spacing[0], radius / spacing[1], radius / spacing[2]
    for i in range(len(frac)):
        for j in range(i, len(frac)):
            d0 = frac[j, 0] - frac[i, 0]
            d1 = frac[j, 1] - frac[i, 1]
            d2 = frac[j, 2] - frac[i, 2]
            for n0 in range(math.ceil(-q0 - d0), math.floor(q0 - d0) + 1):
                for n1 in range(math.ceil(-q1 - d1), math.floor(q1 - d1) + 1):
                    for n2 in range(math.ceil(-q2 - d2), math.floor(q2 - d2) + 1):
                        if i == j and n0 == 0 and n1 == 0 and n2 == 0:
                            continue
                        f0, f1, f2 = d0 + n0, d1 + n1, d2 + n2
                        x = f0 * lattice[0, 0] + f1 * lattice[1, 0] + f2 * lattice[2, 0]
                        y = f0 * lattice[0, 1] + f1 * lattice[1, 1] + f2 * lattice[2, 1]
                        z = f0 * lattice[0, 2] + f1 * lattice[1, 2] + f2 * lattice[2, 2]
                        squared = x * x + y * y + z * z
                        if squared < best:
                            best, best_i, best_j = squared, i, j
    return math.sqrt(best), best_i, best_j


def refuse_overlap(structure: PackedStructure) -> None:
    """Raise when two atoms are closer than `MIN_DISTANCE`.

    Raises:
        StructureError: names the two sites and their distance in angstrom.
    """
    spacing = 1.0 / np.linalg.norm(np.linalg.inv(structure.lattice), axis=0)
    distance, i, j = _closest_pair(structure.lattice, structure.frac_coords, spacing, MIN_DISTANCE)
    if i >= 0:
        first, second = (element_symbol(int(structure.atomic_numbers[k])) for k in (i, j))
        raise StructureError(
            f"overlapping atoms: sites {i} ({first}) and {j} ({second}) are "
            f"{distance:.3f} angstrom apart"
        )


def closest_distance(structure: PackedStructure, radius: float = 5.0) -> float:
    """Angstrom between the two nearest atoms, images included; `radius` where none is nearer."""
    spacing = 1.0 / np.linalg.norm(np.linalg.inv(structure.lattice), axis=0)
    return float(_closest_pair(structure.lattice, structure.frac_coords, spacing, radius)[0])
