"""How much every void of a host counts, so that weights move smoothly when atoms do."""

from __future__ import annotations

import math

import numba
import numpy as np
from numpy.typing import NDArray

from voltscreen.structures.near_atoms import atoms_around

WINDOW = 0.05
"""Angstrom of clearance below the best void within which a void counts."""
CROWDING_RANGE = 0.5
"""Angstrom; voids closer than this share one weight."""
SPLITTING_RANGE = 0.05
"""Angstrom; voids closer than this count as one, for a rattled symmetric void is many."""
COINCIDENT = 1e-3
"""Angstrom; vertices closer than this are one."""
SIGHT = 5.0  # angstrom, atoms this near decide whether two voids look alike
ALIKE = 1e-6  # relative difference of what they see


@numba.njit(cache=True, nogil=True, error_model="numpy")
def weigh(
    lattice: NDArray[np.float64],
    wrapped: NDArray[np.float64],
    marks: NDArray[np.float64],
    spacing: NDArray[np.float64],
    found: NDArray[np.float64],
    top: float,
) -> NDArray[np.float64]:
    """Sites with their weights: w_k = p_k f_k^2 / sum_l p_l f_l c_kl, divided by their sum, where
    p_k = g_k / sum_l g_l s_kl.

    f falls from 1 at the best clearance to 0 at the window's end, g is the firmness; c and s fall
    from 1 for the void itself to 0 at the crowding and the splitting range. So a void that splits
    into m weighs what one does, and leaves alone what its neighbours weigh; and a void that
    appears or vanishes does so with weight 0.
    """
    n = len(found)
    out = np.empty((n, 6))
    seen = np.full(n, -1.0)
    fade = np.maximum(0.0, 1.0 - (top - found[:, 3]) / WINDOW)
    one, firmness = np.ones(n), found[:, 5]
    part = firmness / _crowd(lattice, spacing, found, firmness, one, SPLITTING_RANGE)
    crowd = _crowd(lattice, spacing, found, part * fade, fade, CROWDING_RANGE)
    weight = part * fade * fade / np.maximum(crowd, 1e-300)
    kept = 0
    for v in np.argsort(-found[:, 3]):  # the best stands for those like it
        if weight[v] == 0.0:
            continue
        place = _place_of(lattice, wrapped, marks, spacing, out, seen, kept, found[v])
        if place == kept:
            out[place, :5] = found[v, :5]
            out[place, 5] = 0.0
            kept += 1
        out[place, 5] += weight[v]
    out = out[:kept]
    out[:, 5] /= out[:, 5].sum()
    return out


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _crowd(
    lattice: NDArray[np.float64],
    spacing: NDArray[np.float64],
    found: NDArray[np.float64],
    amount: NDArray[np.float64],
    least: NDArray[np.float64],
    reach: float,
) -> NDArray[np.float64]:
    """(n,): of each void the amounts (n,) in reach, the nearer the more; at least `least` (n,)."""
    total = amount.copy()
    for v in range(len(found)):
        for w in range(v):
            gap = gap_between(lattice, spacing, found[v], found[w], reach) / reach
            if gap < 1.0:
                near = (1.0 - gap * gap) ** 2
                total[v] += near * amount[w]
                total[w] += near * amount[v]
    return np.maximum(total, least)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _place_of(
    lattice: NDArray[np.float64],
    wrapped: NDArray[np.float64],
    marks: NDArray[np.float64],
    spacing: NDArray[np.float64],
    out: NDArray[np.float64],
    seen: NDArray[np.float64],
    kept: int,
    void: NDArray[np.float64],
) -> int:
    """Which of the kept sites looks like a void; `kept` where none does. What a site sees stands
    in `seen` once it was needed, and is negative before.
    """
    view = -1.0
    for w in range(kept):
        if abs(out[w, 3] - void[3]) < COINCIDENT / 10:
            if view < 0.0:
                view = _view(lattice, wrapped, marks, spacing, void[:3])
            if seen[w] < 0.0:
                seen[w] = _view(lattice, wrapped, marks, spacing, out[w, :3])
            if abs(seen[w] - view) < ALIKE * view:
                return w
    seen[kept] = view
    return kept


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _view(
    lattice: NDArray[np.float64],
    wrapped: NDArray[np.float64],
    marks: NDArray[np.float64],
    spacing: NDArray[np.float64],
    point: NDArray[np.float64],
) -> float:
    """A number that differs where the elements or distances around a point do."""
    distances, atoms = atoms_around(lattice, wrapped, spacing, point, -1, SIGHT)
    total = 0.0
    for distance, j in zip(distances, atoms):  # noqa: B905 - numba knows no strict
        near = 1.0 - (distance / SIGHT) ** 2
        total += marks[j] * near * near
    return total


@numba.njit(cache=True, nogil=True, error_model="numpy")
def gap_between(
    lattice: NDArray[np.float64],
    spacing: NDArray[np.float64],
    one: NDArray[np.float64],
    other: NDArray[np.float64],
    limit: float,
) -> float:
    """Shortest distance, angstrom, between two points and their images; any larger number where
    it is more than a limit that is less than half of every plane spacing.
    """
    f0, f1, f2 = one[0] - other[0], one[1] - other[1], one[2] - other[2]
    f0, f1, f2 = f0 - np.rint(f0), f1 - np.rint(f1), f2 - np.rint(f2)
    if abs(f0) * spacing[0] > limit or abs(f1) * spacing[1] > limit or abs(f2) * spacing[2] > limit:
        return np.inf
    x = f0 * lattice[0, 0] + f1 * lattice[1, 0] + f2 * lattice[2, 0]
    y = f0 * lattice[0, 1] + f1 * lattice[1, 1] + f2 * lattice[2, 1]
    z = f0 * lattice[0, 2] + f1 * lattice[1, 2] + f2 * lattice[2, 2]
    return math.sqrt(x * x + y * y + z * z)
