"""Insertion sites: the largest voids of a periodic host, exact, for thousands of hosts a second.

A *void* is a vertex of the host's Voronoi diagram: a point with at least four nearest atoms at
one distance and none closer. Its *clearance* is the distance to the nearest atom, where an atom
that is no anion counts as `CATION_MARGIN` closer than it is: between two equally wide voids the
working ion, a cation, goes where the walls are anions. (With CHGNet the insertion energy at the
void of largest clearance orders the DFT voltages of 360 labelled electrodes better than that at
the widest void: mean Spearman correlation by ion 0.880 against 0.866.)

All vertices are found: they are the centres of the Delaunay tetrahedra. Symmetric crystals have
vertices with more than four nearest atoms; a displacement of every atom by `JITTER`, too small to
matter, splits them into ones with four.

Near-equal voids all count, by a weight that falls smoothly to zero `WINDOW` below the best:
otherwise rounding would choose between the equivalent voids of a symmetric host. Voids that look
alike to within `ALIKE` share one place in the list.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from voltscreen.structures.delaunay import circumsphere, tetrahedra, vector_to
from voltscreen.structures.near_atoms import ATOM, near_atoms, plane_spacing
from voltscreen.structures.packed import PackedStructure

CATION_MARGIN = 0.3
"""Angstrom by which a non-anion counts as closer than it is."""
WINDOW = 0.05
"""Angstrom of clearance below the best void within which a void counts."""
CROWDING_RANGE = 0.5
"""Angstrom; voids closer than this share one weight, for a rattled symmetric void is many."""

ANIONS = (7, 8, 9, 16, 17, 34, 35, 52, 53)
"""Atomic numbers; all other atoms count as closer than they are."""
MARGIN_BY_NUMBER = np.full(119, CATION_MARGIN)
MARGIN_BY_NUMBER[list(ANIONS)] = 0.0

JITTER = 1e-6  # angstrom
COINCIDENT = 1e-3  # angstrom, vertices closer than this are one
FLAT = 1e-5  # volume of three directions; four atoms flatter than this make no vertex
FIRST_REACH = 5.6  # angstrom, neighbours looked at first; grows until no void needs more
SIGHT = 5.0  # angstrom, atoms this near decide whether two voids look alike
LAST_REACH = 60.0  # angstrom
VOLUME_ERROR = 1e-5  # relative, of the sum of the tetrahedra's volumes
MOST_JITTERS = 6
ALIKE = 1e-5  # relative difference of what they see


@dataclass(frozen=True, eq=False)
class InsertionSites:
    """The insertion sites of b hosts; s sites in all.

    offsets: (b + 1,) int64, first site of each host. Every host has at least one.
    frac_coords: (s, 3) float64, fractional, in [0, 1).
    clearance: (s,) float64, angstrom. distance: (s,) float64, to the nearest atom, angstrom.
    weight: (s,) float64, adding up to 1 in each host.
    """

    offsets: NDArray[np.int64]
    frac_coords: NDArray[np.float64]
    clearance: NDArray[np.float64]
    distance: NDArray[np.float64]
    weight: NDArray[np.float64]

    def best(self) -> NDArray[np.int64]:
        """(b,) int64: the site of largest clearance of each host, the first of equals."""
        return np.array(
            [
                first + int(np.argmax(self.clearance[first:last]))
                for first, last in zip(self.offsets, self.offsets[1:], strict=False)
            ],
            dtype=np.int64,
        )


def insertion_sites(structures: Sequence[PackedStructure]) -> InsertionSites:
    """The insertion sites of hosts, in their order.

    Args:
        structures: at least one, checked ones (finite, with volume and without overlaps).
    """
    offsets = np.concatenate(([0], np.cumsum([len(s) for s in structures], dtype=np.int64)))
    numbers = np.concatenate([structure.atomic_numbers for structure in structures])
    counts, sites = _search(
        np.stack([structure.lattice for structure in structures]),
        np.concatenate([structure.frac_coords for structure in structures]),
        MARGIN_BY_NUMBER[numbers],
        MARK_BY_NUMBER[numbers],
        offsets,
    )
    return InsertionSites(
        offsets=np.concatenate(([0], np.cumsum(counts))),
        frac_coords=sites[:, :3].copy(),
        clearance=sites[:, 3].copy(),
        distance=sites[:, 4].copy(),
        weight=sites[:, 5].copy(),
    )


# A number an element by which sums over atoms tell elements apart: the fractional parts of the
# multiples of the golden ratio never repeat.
MARK_BY_NUMBER = 0.5 + (np.arange(119) * 0.6180339887498949) % 1.0


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _search(
    lattices: NDArray[np.float64],
    frac: NDArray[np.float64],
    margins: NDArray[np.float64],
    marks: NDArray[np.float64],
    offsets: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Sites by host; of all sites (s, 6) frac_coords, clearance, distance and weight."""
    n_hosts = len(lattices)
    counts = np.empty(n_hosts, np.int64)
    out = np.empty((4 * n_hosts + 64, 6))
    total = 0
    for b in range(n_hosts):
        first, last = offsets[b], offsets[b + 1]
        found = _sites_of(lattices[b], frac[first:last], margins[first:last], marks[first:last])
        while total + len(found) > len(out):
            out = np.concatenate((out, np.empty_like(out)))
        out[total : total + len(found)] = found
        counts[b] = len(found)
        total += len(found)
    return counts, out[:total]


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _sites_of(  # noqa: C901 - one hot loop
    lattice: NDArray[np.float64],
    frac: NDArray[np.float64],
    margins: NDArray[np.float64],
    marks: NDArray[np.float64],
) -> NDArray[np.float64]:
    """(s, 6) of one host."""
    inverse, spacing = np.linalg.inv(lattice), plane_spacing(lattice)
    wrapped = frac - np.floor(frac)
    offsets, entries, who, corners, spheres = _tetrahedra(lattice, wrapped, spacing)
    found = np.empty((64, 5))  # frac_coords, clearance, distance
    count = 0
    top = -np.inf
    wall = np.empty((3, 3))
    for t in range(len(corners)):
        a, distance = corners[t, 0], spheres[t, 3]
        margin = margins[a]
        for k in range(1, 4):
            margin = max(margin, margins[corners[t, k] & ATOM])
        if distance - margin < top - WINDOW - JITTER:
            continue
        lengths = 1.0
        for k in range(3):
            vector_to(lattice, wrapped, a, corners[t, k + 1], wall[k])
            lengths *= math.sqrt(wall[k, 0] ** 2 + wall[k, 1] ** 2 + wall[k, 2] ** 2)
        if 6.0 * spheres[t, 4] < FLAT * lengths:
            continue
        x, y, z, _ = circumsphere(wall)
        radius = math.sqrt(x * x + y * y + z * z)
        clearance = _clearance(
            lattice, wrapped, margins, who[offsets[a] : offsets[a + 1]],
            entries[:, offsets[a] : offsets[a + 1]], a, x, y, z, radius,
        )  # fmt: skip
        if clearance < top - WINDOW:
            continue
        if clearance > top:
            top = clearance
            count = _drop_below(found, count, top - WINDOW)
        if count == len(found):
            found = np.concatenate((found, np.empty_like(found)))
        place = found[count]
        for k in range(3):
            f = wrapped[a, k] + x * inverse[0, k] + y * inverse[1, k] + z * inverse[2, k]
            place[k] = f - math.floor(f)
        place[3], place[4] = clearance, radius
        if not _is_known(lattice, spacing, found, count):
            count += 1
    return _weigh(lattice, wrapped, marks, spacing, found[:count], top)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _tetrahedra(
    lattice: NDArray[np.float64], wrapped: NDArray[np.float64], spacing: NDArray[np.float64]
) -> tuple[
    NDArray[np.int64], NDArray[np.float64], NDArray[np.int64], NDArray[np.int64],
    NDArray[np.float64],
]:  # fmt: skip
    """Lists of near atoms and the Delaunay tetrahedra of the jittered host.

    The lists grow until they reach; rounding that breaks the walk is met by another jitter. The
    volumes of the tetrahedra must add up to that of the cell.
    """
    volume = abs(np.linalg.det(lattice))
    reach = min(FIRST_REACH, 2.0 * volume ** (1.0 / 3.0) + 4.0)
    seed, strength = 0, JITTER
    while True:
        cell, position = _jittered(lattice, wrapped, strength, seed)
        offsets, entries, who = near_atoms(cell, wrapped, position, spacing, reach)
        corners, spheres, needed = tetrahedra(
            cell, position, offsets, entries, who, reach - CATION_MARGIN
        )
        whole = abs(spheres[:, 4].sum() - volume) < VOLUME_ERROR * volume
        if (needed == 0.0 and whole) or seed > MOST_JITTERS or reach > LAST_REACH:
            return offsets, entries, who, corners, spheres
        if needed > 0.0:
            reach = max(needed + 2 * CATION_MARGIN, 1.15 * reach)
        else:
            seed, strength = seed + 1, 2.0 * strength


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _jittered(
    lattice: NDArray[np.float64], wrapped: NDArray[np.float64], strength: float, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Displaced cell (3, 3) and positions (n, 3), angstrom.

    The displacement is a strain and a step for every atom, from a fixed sequence.
    """
    cell = np.empty((3, 3))
    for a in range(3):
        for k in range(3):
            cell[a, k] = lattice[a, k] + strength * _sway(9 * a + 3 * k + 1 + 1009 * seed)
    position = np.empty((len(wrapped), 3))
    for i in range(len(wrapped)):
        for k in range(3):
            position[i, k] = strength * _sway(31 * i + 7 * k + 11 + 1009 * seed)
            for a in range(3):
                position[i, k] += wrapped[i, a] * cell[a, k]
    return cell, position


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _clearance(
    lattice: NDArray[np.float64],
    wrapped: NDArray[np.float64],
    margins: NDArray[np.float64],
    who: NDArray[np.int64],
    entries: NDArray[np.float64],
    a: int,
    x: float,
    y: float,
    z: float,
    radius: float,
) -> float:
    """Least of distance less margin over the atoms around a point (x, y, z) relative to atom a,
    whose near atoms are listed.
    """
    best = radius - margins[a]
    furthest = radius + CATION_MARGIN
    exact = np.empty(3)
    for t in range(len(who)):
        if 2.0 * entries[4, t] > (radius + furthest) ** 2:
            break
        dx, dy, dz = entries[0, t] - x, entries[1, t] - y, entries[2, t] - z
        if dx * dx + dy * dy + dz * dz < furthest * furthest:
            vector_to(lattice, wrapped, a, who[t], exact)
            dx, dy, dz = exact[0] - x, exact[1] - y, exact[2] - z
            distance = math.sqrt(dx * dx + dy * dy + dz * dz)
            best = min(best, distance - margins[who[t] & ATOM])
    return float(best)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _drop_below(found: NDArray[np.float64], count: int, clearance: float) -> int:
    """Move the voids of at least that clearance to the front; how many they are."""
    kept = 0
    for w in range(count):
        if found[w, 3] >= clearance:
            found[kept] = found[w]
            kept += 1
    return kept


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _is_known(
    lattice: NDArray[np.float64],
    spacing: NDArray[np.float64],
    found: NDArray[np.float64],
    count: int,
) -> bool:
    """Whether void `count` coincides with one before it."""
    for w in range(count):
        if (
            abs(found[w, 3] - found[count, 3]) < COINCIDENT
            and _gap(lattice, spacing, found[w], found[count], COINCIDENT) < COINCIDENT
        ):
            return True
    return False


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _sway(number: int) -> float:
    """A fixed number between -1 and 1 for an integer, without pattern."""
    f = math.sin(12.9898 * number + 4.1414) * 43758.5453
    return 2.0 * (f - math.floor(f)) - 1.0


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _weigh(
    lattice: NDArray[np.float64],
    wrapped: NDArray[np.float64],
    marks: NDArray[np.float64],
    spacing: NDArray[np.float64],
    found: NDArray[np.float64],
    top: float,
) -> NDArray[np.float64]:
    """Sites with their weights: w_k = f_k^2 / sum_l f_l c_kl, divided by their sum.

    f falls from 1 at the best clearance to 0 at the window's end, c from 1 for the void itself
    to 0 at the crowding range: a cluster of m coincident voids weighs what one does, and a void
    that appears or vanishes at the window's end does so with weight 0.
    """
    n = len(found)
    out = np.empty((n, 6))
    seen = np.full(n, -1.0)
    kept = 0
    for v in np.argsort(-found[:, 3]):  # the best stands for those like it
        fade = 1.0 - (top - found[v, 3]) / WINDOW
        if fade <= 0.0:
            continue
        crowd = 0.0
        for w in range(n):
            gap = _gap(lattice, spacing, found[v], found[w], CROWDING_RANGE) / CROWDING_RANGE
            if gap < 1.0:
                other = 1.0 - (top - found[w, 3]) / WINDOW
                crowd += max(0.0, other) * (1.0 - gap * gap) ** 2
        place = _place_of(lattice, wrapped, marks, spacing, out, seen, kept, found[v])
        if place == kept:
            out[place, :5] = found[v]
            out[place, 5] = 0.0
            kept += 1
        out[place, 5] += fade * fade / crowd
    out = out[:kept]
    out[:, 5] /= out[:, 5].sum()
    return out


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
    q0, q1, q2 = SIGHT / spacing[0], SIGHT / spacing[1], SIGHT / spacing[2]
    total = 0.0
    for j in range(len(wrapped)):
        d0, d1, d2 = wrapped[j, 0] - point[0], wrapped[j, 1] - point[1], wrapped[j, 2] - point[2]
        part = 0.0
        for n0 in range(math.ceil(-q0 - d0), math.floor(q0 - d0) + 1):
            f0 = d0 + n0
            for n1 in range(math.ceil(-q1 - d1), math.floor(q1 - d1) + 1):
                f1 = d1 + n1
                for n2 in range(math.ceil(-q2 - d2), math.floor(q2 - d2) + 1):
                    f2 = d2 + n2
                    x = f0 * lattice[0, 0] + f1 * lattice[1, 0] + f2 * lattice[2, 0]
                    y = f0 * lattice[0, 1] + f1 * lattice[1, 1] + f2 * lattice[2, 1]
                    z = f0 * lattice[0, 2] + f1 * lattice[1, 2] + f2 * lattice[2, 2]
                    near = 1.0 - (x * x + y * y + z * z) / (SIGHT * SIGHT)
                    if near > 0.0:
                        part += near * near
        total += marks[j] * part
    return total


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _gap(
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
