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
alike share one place in the list. See `void_weights`.
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
from voltscreen.structures.void_weights import COINCIDENT, WINDOW, gap_between, weigh

CATION_MARGIN = 0.3
"""Angstrom by which a non-anion counts as closer than it is."""

ANIONS = (7, 8, 9, 16, 17, 34, 35, 52, 53)
"""Atomic numbers; all other atoms count as closer than they are."""
MARGIN_BY_NUMBER = np.full(119, CATION_MARGIN)
MARGIN_BY_NUMBER[list(ANIONS)] = 0.0

JITTER = 1e-6  # angstrom
FLAT, FIRM = 3e-4, 3e-3  # volume of three directions, see `_firmness`
FIRST_REACH = 5.6  # angstrom, neighbours looked at first; grows until no void needs more
LAST_REACH = 60.0  # angstrom
VOLUME_ERROR = 1e-5  # relative, of the sum of the tetrahedra's volumes
MOST_JITTERS = 6


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
def _sites_of(
    lattice: NDArray[np.float64],
    frac: NDArray[np.float64],
    margins: NDArray[np.float64],
    marks: NDArray[np.float64],
) -> NDArray[np.float64]:
    """(s, 6) of one host."""
    inverse, spacing = np.linalg.inv(lattice), plane_spacing(lattice)
    wrapped = frac - np.floor(frac)
    offsets, entries, who, corners, spheres = _tetrahedra(lattice, wrapped, spacing)
    found = np.empty((64, 6))  # frac_coords, clearance, distance, firmness
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
        firmness = _firmness(6.0 * spheres[t, 4] / lengths)
        if firmness == 0.0:
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
        place[3], place[4], place[5] = clearance, radius, firmness
        known = _known_void(lattice, spacing, found, count)
        found[known, 5] = max(found[known, 5], firmness)
        count = max(count, known + 1)
    return weigh(lattice, wrapped, marks, spacing, found[:count], top)


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
def _firmness(volume: float) -> float:
    """From 0 for four atoms in a plane to 1, by the volume of the directions to three of them.

    The centre of a flat tetrahedron is an accident of rounding: it may be anywhere on the axis of
    the four. The voids at the ends of that axis have tetrahedra of their own.
    """
    step = math.log(max(volume, FLAT) / FLAT) / math.log(FIRM / FLAT)
    return min(step, 1.0) ** 2 * (3.0 - 2.0 * min(step, 1.0))


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _known_void(
    lattice: NDArray[np.float64],
    spacing: NDArray[np.float64],
    found: NDArray[np.float64],
    count: int,
) -> int:
    """The first void that void `count` coincides with; `count` itself if there is none."""
    for w in range(count):
        if (
            abs(found[w, 3] - found[count, 3]) < COINCIDENT
            and gap_between(lattice, spacing, found[w], found[count], COINCIDENT) < COINCIDENT
        ):
            return w
    return count


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _sway(number: int) -> float:
    """A fixed number between -1 and 1 for an integer, without pattern."""
    f = math.sin(12.9898 * number + 4.1414) * 43758.5453
    return 2.0 * (f - math.floor(f)) - 1.0
