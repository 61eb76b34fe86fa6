"""Atoms of a crystal that are too near to each other: the loops."""

from __future__ import annotations

import math

import numba
import numpy as np
from numpy.typing import NDArray


@numba.njit(cache=True, nogil=True)
def closest_pair(
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


@numba.njit(cache=True, nogil=True, error_model="numpy")
def near_pairs(
    lattices: NDArray[np.float64],
    frac: NDArray[np.float64],
    offsets: NDArray[np.int64],
    radius: float,
) -> NDArray[np.bool_]:
    """Whether two atoms lie within a radius of each other along every cell vector's normal."""
    found = np.zeros(len(lattices), np.bool_)
    for b in range(len(lattices)):
        inverse = np.linalg.inv(lattices[b])
        reach = np.empty(3)
        for k in range(3):
            # In fractions of the distance between lattice planes.
            reach[k] = radius * math.sqrt((inverse[:, k] ** 2).sum())
        # A cell this thin holds an atom and its own image.
        if reach.max() >= 0.5:
            found[b] = True
            continue
        for i in range(offsets[b], offsets[b + 1]):
            for j in range(offsets[b], i):
                f0, f1, f2 = (
                    frac[j, 0] - frac[i, 0],
                    frac[j, 1] - frac[i, 1],
                    frac[j, 2] - frac[i, 2],
                )
                if (
                    abs(f0 - np.rint(f0)) <= reach[0]
                    and abs(f1 - np.rint(f1)) <= reach[1]
                    and abs(f2 - np.rint(f2)) <= reach[2]
                ):
                    found[b] = True
    return found
