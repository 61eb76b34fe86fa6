"""The atoms of a periodic crystal around a point, and around every atom.

Index letters: i, j atoms; p atoms and images; m entries of the lists; n0 n1 n2 cell images.
"""

from __future__ import annotations

import math

import numba
import numpy as np
from numpy.typing import NDArray

N_SHELLS = 32
"""Entries of an atom stand by the shell of squared distance that they are in, nearest first."""

BASE, HALF = 1024, 512
ATOM_BITS = 16
ATOM = (1 << ATOM_BITS) - 1
"""What of a name is the atom's index."""
_ITSELF = 1e-6  # square angstrom; atoms this near were refused


@numba.njit(inline="always")
def image_code(n0: int, n1: int, n2: int) -> int:
    """A number for a cell image; the code of a difference is the difference of the codes."""
    return (n0 * BASE + n1) * BASE + n2


@numba.njit(inline="always")
def decode_image(code: int) -> tuple[int, int, int]:
    """The inverse of `image_code`."""
    shifted = code + (HALF * BASE + HALF) * BASE + HALF
    return (shifted >> 20) - HALF, ((shifted >> 10) & 1023) - HALF, (shifted & 1023) - HALF


@numba.njit(inline="always")
def name_of(atom: int, code: int) -> int:
    """One number for an atom in an image; its atom is name & ATOM, the code name >> 16."""
    return (code << ATOM_BITS) + atom


@numba.njit(cache=True, nogil=True, error_model="numpy")
def plane_spacing(lattice: NDArray[np.float64]) -> NDArray[np.float64]:
    """(3,): distance between neighbouring lattice planes, which says how many images reach far."""
    inverse = np.linalg.inv(lattice)
    spacing = np.empty(3)
    for k in range(3):
        spacing[k] = 1.0 / math.sqrt((inverse[:, k] ** 2).sum())
    return spacing


@numba.njit(cache=True, nogil=True, error_model="numpy")
def atoms_around(
    cell: NDArray[np.float64],
    atoms: NDArray[np.float64],
    spacing: NDArray[np.float64],
    center: NDArray[np.float64],
    own: int,
    radius: float,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Distances (k,), angstrom, and indices (k,) of the atoms and images within a radius of a
    point, by index.

    Args:
        cell: (3, 3) rows a, b, c, angstrom. atoms: (n, 3) and center: (3,), fractional.
        spacing: (3,), of `plane_spacing`. own: the atom that the point is, which does not count;
        -1 for a point that is none. radius: angstrom.
    """
    found = np.empty(128)
    which = np.empty(128, np.int64)
    count = 0
    limit = radius * radius
    q0, q1, q2 = radius / spacing[0], radius / spacing[1], radius / spacing[2]
    for j in range(len(atoms)):
        d0, d1, d2 = atoms[j, 0] - center[0], atoms[j, 1] - center[1], atoms[j, 2] - center[2]
        for n0 in range(math.ceil(-q0 - d0), math.floor(q0 - d0) + 1):
            f0 = d0 + n0
            for n1 in range(math.ceil(-q1 - d1), math.floor(q1 - d1) + 1):
                f1 = d1 + n1
                for n2 in range(math.ceil(-q2 - d2), math.floor(q2 - d2) + 1):
                    f2 = d2 + n2
                    x = f0 * cell[0, 0] + f1 * cell[1, 0] + f2 * cell[2, 0]
                    y = f0 * cell[0, 1] + f1 * cell[1, 1] + f2 * cell[2, 1]
                    z = f0 * cell[0, 2] + f1 * cell[1, 2] + f2 * cell[2, 2]
                    squared = x * x + y * y + z * z
                    if squared > limit or (j == own and n0 == 0 and n1 == 0 and n2 == 0):
                        continue
                    if count == len(found):
                        found = np.concatenate((found, np.empty_like(found)))
                        which = np.concatenate((which, np.empty_like(which)))
                    found[count], which[count] = math.sqrt(squared), j
                    count += 1
    return found[:count], which[:count]


@numba.njit(cache=True, nogil=True, error_model="numpy")
def near_atoms(
    cell: NDArray[np.float64],
    wrapped: NDArray[np.float64],
    position: NDArray[np.float64],
    spacing: NDArray[np.float64],
    reach: float,
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
    """For every atom the atoms and images within reach, itself left out.

    Args:
        cell: (3, 3) rows a, b, c, angstrom. wrapped: (n, 3) fractional, in [0, 1).
        position: (n, 3), Cartesian, angstrom; may be displaced by far less than reach.
        spacing: (3,), of `plane_spacing`. reach: angstrom.

    Returns:
        offsets (n + 1,) of the entries of each atom; of the entries (5, m): x, y, z relative to the
        atom, half the squared distance, and what it is at least in the entries that follow for the
        same atom; and which atom they are, as `name_of` says (m,). There is room for more entries
        than the offsets tell of: a part of the array would not lie in one piece.
    """
    n, limit = len(wrapped), reach * reach
    points, names, starts, bins, low = _binned(cell, wrapped, position, spacing, reach)
    n1, n2 = bins[1], bins[2]
    offsets = np.zeros(n + 1, np.int64)
    capacity = 64 * n + 256
    entries, who = np.empty((5, capacity)), np.empty(capacity, np.int64)
    squared, hits = np.empty(points.shape[1]), np.empty(points.shape[1] + 1, np.int64)
    shells = np.empty(N_SHELLS + 1, np.int64)
    per_shell, half_shell = N_SHELLS / limit, 0.5 * limit / N_SHELLS
    total = 0
    for i in range(n):
        x, y, z = position[i, 0], position[i, 1], position[i, 2]
        own0, own1, own2 = (
            int((x - low[0]) / reach), int((y - low[1]) / reach), int((z - low[2]) / reach)
        )  # fmt: skip
        found = 0
        for bin0 in range(max(own0 - 1, 0), min(own0 + 2, bins[0])):
            for bin1 in range(max(own1 - 1, 0), min(own1 + 2, n1)):
                row = (bin0 * n1 + bin1) * n2
                first, last = starts[row + max(own2 - 1, 0)], starts[row + min(own2 + 2, n2)]
                found = _within(
                    points[0, first:last], points[1, first:last], points[2, first:last], x, y, z,
                    limit, first, squared[first:last], hits, found,
                )  # fmt: skip
        if total + found > capacity:
            capacity = 2 * (total + found)
            more, longer = np.empty((5, capacity)), np.empty(capacity, np.int64)
            more[:, :total], longer[:total] = entries[:, :total], who[:total]
            entries, who = more, longer
        shells[:] = 0
        for h in range(found):
            shells[min(int(squared[hits[h]] * per_shell), N_SHELLS - 1) + 1] += 1
        shells[0] = total
        for shell in range(N_SHELLS):
            shells[shell + 1] += shells[shell]
        for h in range(found):
            p = hits[h]
            shell = min(int(squared[p] * per_shell), N_SHELLS - 1)
            m = shells[shell]
            shells[shell] += 1
            entries[0, m] = points[0, p] - x
            entries[1, m] = points[1, p] - y
            entries[2, m] = points[2, p] - z
            entries[3, m], entries[4, m] = 0.5 * squared[p], shell * half_shell
            who[m] = names[p]
        total += found
        offsets[i + 1] = total
    return offsets, entries, who


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _within(
    px: NDArray[np.float64],
    py: NDArray[np.float64],
    pz: NDArray[np.float64],
    x: float,
    y: float,
    z: float,
    limit: float,
    first: int,
    squared: NDArray[np.float64],
    hits: NDArray[np.int64],
    found: int,
) -> int:
    """Note squared distances of points from (x, y, z) and, behind the `found` hits that there are,
    which points are within the limit; how many hits there are then. No branches, so that the
    compiler makes vector instructions of it.
    """
    for p in range(len(px)):
        dx, dy, dz = px[p] - x, py[p] - y, pz[p] - z
        squared[p] = dx * dx + dy * dy + dz * dz
    for p in range(len(px)):
        hits[found] = first + p
        found += (squared[p] <= limit) & (squared[p] > _ITSELF)
    return found


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _binned(
    cell: NDArray[np.float64],
    wrapped: NDArray[np.float64],
    position: NDArray[np.float64],
    spacing: NDArray[np.float64],
    reach: float,
) -> tuple[
    NDArray[np.float64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64],
    NDArray[np.float64],
]:  # fmt: skip
    """All atoms in the cell and within reach of it, by cubic bins of that size.

    Returns:
        Positions (3, p), names (p,), first point of each bin (k + 1,), number of bins along x, y
        and z (3,), lowest corner (3,).
    """
    points, names = _images(cell, wrapped, position, spacing, reach)
    count = points.shape[1]
    bins, low = np.empty(3, np.int64), np.empty(3)
    for k in range(3):
        low[k] = points[k].min()
        bins[k] = int((points[k].max() - low[k]) / reach) + 1
    which = np.empty(count, np.int64)
    starts = np.zeros(bins[0] * bins[1] * bins[2] + 1, np.int64)
    for p in range(count):
        place = int((points[0, p] - low[0]) / reach)
        place = place * bins[1] + int((points[1, p] - low[1]) / reach)
        which[p] = place * bins[2] + int((points[2, p] - low[2]) / reach)
        starts[which[p] + 1] += 1
    for k in range(1, len(starts)):
        starts[k] += starts[k - 1]
    to = starts[:-1].copy()
    sorted_points, sorted_names = np.empty_like(points), np.empty_like(names)
    for p in range(count):
        at = to[which[p]]
        to[which[p]] += 1
        for k in range(3):
            sorted_points[k, at] = points[k, p]
        sorted_names[at] = names[p]
    return sorted_points, sorted_names, starts, bins, low


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _images(
    cell: NDArray[np.float64],
    wrapped: NDArray[np.float64],
    position: NDArray[np.float64],
    spacing: NDArray[np.float64],
    reach: float,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Positions (3, p) and names (p,) of the atoms in the cell and within reach of it."""
    first, last = np.empty(3, np.int64), np.empty(3, np.int64)
    room = len(wrapped)
    margin = reach / spacing + 1e-6
    for k in range(3):
        first[k], last[k] = -math.ceil(margin[k]), math.ceil(margin[k])
        room *= last[k] - first[k] + 1
    points, names = np.empty((3, room)), np.empty(room, np.int64)
    count = 0
    for n0 in range(first[0], last[0] + 1):
        for n1 in range(first[1], last[1] + 1):
            for n2 in range(first[2], last[2] + 1):
                x = n0 * cell[0, 0] + n1 * cell[1, 0] + n2 * cell[2, 0]
                y = n0 * cell[0, 1] + n1 * cell[1, 1] + n2 * cell[2, 1]
                z = n0 * cell[0, 2] + n1 * cell[1, 2] + n2 * cell[2, 2]
                name = name_of(0, image_code(n0, n1, n2))
                for j in range(len(wrapped)):
                    f0, f1, f2 = wrapped[j, 0] + n0, wrapped[j, 1] + n1, wrapped[j, 2] + n2
                    points[0, count] = position[j, 0] + x
                    points[1, count] = position[j, 1] + y
                    points[2, count] = position[j, 2] + z
                    names[count] = name + j
                    count += (
                        (f0 >= -margin[0]) & (f0 <= 1.0 + margin[0])
                        & (f1 >= -margin[1]) & (f1 <= 1.0 + margin[1])
                        & (f2 >= -margin[2]) & (f2 <= 1.0 + margin[2])
                    )  # fmt: skip
    return points[:, :count].copy(), names[:count].copy()
