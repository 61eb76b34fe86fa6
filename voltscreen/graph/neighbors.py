"""The nearest periodic neighbours of every atom.

Index letters: i, j atoms; m neighbour slots; n0 n1 n2 cell images along a, b, c.
"""

from __future__ import annotations

import math

import numba
import numpy as np
from numpy.typing import NDArray

from voltscreen.structures import PackedStructure

SELF_TOLERANCE = 1e-8
"""Angstrom; what the original code takes for the atom itself."""


@numba.njit(cache=True, nogil=True)
def nearest_neighbors(  # noqa: C901, PLR0912, PLR0915 - one hot loop, calls would cost as much
    lattices: NDArray[np.float64],
    frac: NDArray[np.float64],
    offsets: NDArray[np.int64],
    cutoff: float,
    neighbors: NDArray[np.int32],
    distances: NDArray[np.float32],
    counts: NDArray[np.int32],
) -> None:
    """Fill the neighbour arrays of a batch of crystals, exactly.

    The search radius starts at what a crystal of that density needs for 24 neighbours and grows
    until the slots are full, so that a sphere of 8 angstrom is rarely searched.

    Args:
        lattices: (b, 3, 3), angstrom.
        frac: (n, 3), fractional, structures one after another.
        offsets: (b + 1,), first atom of each structure.
        cutoff: angstrom.
        neighbors: (n, m) out; index in the batch, untouched where there is no neighbour.
        distances: (n, m) out, angstrom, ascending.
        counts: (n,) out; how many slots are filled.
    """
    n_slots = neighbors.shape[1]
    best = np.empty(n_slots)
    which = np.empty(n_slots, np.int32)
    for b in range(len(offsets) - 1):
        first, last = offsets[b], offsets[b + 1]
        cell = lattices[b]
        bc, ca, ab = (
            np.cross(cell[1], cell[2]),
            np.cross(cell[2], cell[0]),
            np.cross(cell[0], cell[1]),
        )
        volume = abs((cell[0] * bc).sum())
        # Distance between neighbouring lattice planes: how many images a radius reaches.
        height0 = volume / math.sqrt((bc * bc).sum())
        height1 = volume / math.sqrt((ca * ca).sum())
        height2 = volume / math.sqrt((ab * ab).sum())
        a_x, a_y, a_z = cell[0, 0], cell[0, 1], cell[0, 2]
        b_x, b_y, b_z = cell[1, 0], cell[1, 1], cell[1, 2]
        c_x, c_y, c_z = cell[2, 0], cell[2, 1], cell[2, 2]
        start = (3.0 * 2 * n_slots / (4.0 * math.pi) * volume / (last - first)) ** (1.0 / 3.0)
        for i in range(first, last):
            radius = min(start, cutoff)
            while True:
                count = 0
                # The tiny margin keeps an atom exactly on the sphere inside it.
                worst = radius * radius * (1.0 + 1e-12)
                reach0, reach1, reach2 = radius / height0, radius / height1, radius / height2
                for j in range(first, last):
                    d0 = frac[j, 0] - frac[i, 0]
                    d1 = frac[j, 1] - frac[i, 1]
                    d2 = frac[j, 2] - frac[i, 2]
                    for n0 in range(math.ceil(-reach0 - d0), math.floor(reach0 - d0) + 1):
                        f0 = d0 + n0
                        x0, y0, z0 = f0 * a_x, f0 * a_y, f0 * a_z
                        for n1 in range(math.ceil(-reach1 - d1), math.floor(reach1 - d1) + 1):
                            f1 = d1 + n1
                            x1, y1, z1 = x0 + f1 * b_x, y0 + f1 * b_y, z0 + f1 * b_z
                            for n2 in range(math.ceil(-reach2 - d2), math.floor(reach2 - d2) + 1):
                                f2 = d2 + n2
                                x, y, z = x1 + f2 * c_x, y1 + f2 * c_y, z1 + f2 * c_z
                                squared = x * x + y * y + z * z
                                if squared > worst or (i == j and n0 == n1 == n2 == 0):
                                    continue
                                if count < n_slots:
                                    slot = count
                                    count += 1
                                elif squared < best[n_slots - 1]:
                                    slot = n_slots - 1
                                else:
                                    continue
                                while slot > 0 and best[slot - 1] > squared:
                                    best[slot], which[slot] = best[slot - 1], which[slot - 1]
                                    slot -= 1
                                best[slot], which[slot] = squared, j
                                if count == n_slots:
                                    worst = best[n_slots - 1]
                if count == n_slots or radius >= cutoff:
                    break
                radius = min(radius * 1.3, cutoff)
            counts[i] = count
            for m in range(count):
                neighbors[i, m] = which[m]
                distances[i, m] = math.sqrt(best[m])


def original_neighbors(
    structure: PackedStructure, cutoff: float, n_neighbors: int
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
    """The neighbour lists of the original CGCNN code, ties decided as there.

    Args:
        structure: n atoms.
        cutoff: angstrom.
        n_neighbors: m.

    Returns:
        neighbors (n, m), distances (n, m) in angstrom, counts (n,); slots beyond the count
        hold nothing of meaning.
    """
    from pymatgen.optimization.neighbors import find_points_in_spheres

    coords = np.ascontiguousarray(structure.frac_coords @ structure.lattice)
    center, neighbor, image, distance = find_points_in_spheres(
        all_coords=coords,
        center_coords=coords,
        r=cutoff,
        pbc=np.ones(3, dtype=np.int64),
        lattice=np.ascontiguousarray(structure.lattice),
        tol=SELF_TOLERANCE,
    )
    is_self = (center == neighbor) & (distance <= SELF_TOLERANCE) & ~image.any(axis=1)
    center, neighbor, distance = center[~is_self], neighbor[~is_self], distance[~is_self]
    order = np.lexsort((distance, center))  # stable, as the original's sort by distance
    center, neighbor, distance = center[order], neighbor[order], distance[order]
    n_atoms = len(structure)
    begin = np.searchsorted(center, np.arange(n_atoms + 1))
    counts = np.minimum(np.diff(begin), n_neighbors)
    slots = np.arange(n_neighbors)
    filled = slots < counts[:, None]
    position = np.where(filled, begin[:-1, None] + slots, 0)
    if len(neighbor) == 0:
        empty = np.zeros((n_atoms, n_neighbors))
        return empty.astype(np.int64), empty, counts
    return neighbor[position], distance[position], counts
