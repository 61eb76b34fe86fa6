"""Insertion sites: the largest voids of a periodic host, exact, for thousands of hosts a second.

A *void* is a vertex of the host's Voronoi diagram: a point with at least four nearest atoms at
one distance and none closer. Its *clearance* is the distance to the nearest atom, where an atom
that is no anion counts as `CATION_MARGIN` closer than it is: between two equally wide voids the
working ion, a cation, goes where the walls are anions. (With CHGNet the insertion energy at the
void of largest clearance orders the DFT voltages of 360 labelled electrodes better than that at
the widest void: mean Spearman correlation by ion 0.880 against 0.866.)

All vertices are found, cell by cell: from one vertex of an atom's Voronoi cell along every edge
to the next. Symmetric crystals have vertices with more than four nearest atoms; a displacement of
every atom by `_JITTER`, too small to matter, splits them into ones with four.

Near-equal voids all count, by a weight that falls smoothly to zero `WINDOW` below the best:
otherwise rounding would choose between the equivalent voids of a symmetric host. Voids that look
alike to within `_ALIKE` share one place in the list.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from voltscreen.structures.packed import PackedStructure

CATION_MARGIN = 0.3
"""Angstrom by which a non-anion counts as closer than it is."""
WINDOW = 0.05
"""Angstrom of clearance below the best void within which a void counts."""
CROWDING_RANGE = 0.5
"""Angstrom; voids closer than this share one weight, for a rattled symmetric void is many."""

ANIONS = (7, 8, 9, 16, 17, 34, 35, 52, 53)
"""Atomic numbers; all other atoms count as closer than they are."""
_MARGIN_BY_NUMBER = np.full(119, CATION_MARGIN)
_MARGIN_BY_NUMBER[list(ANIONS)] = 0.0

_JITTER = 1e-6  # angstrom
_COINCIDENT = 1e-3  # angstrom, vertices closer than this are one
_FLAT = 1e-5  # volume of three directions; four atoms flatter than this make no vertex
_FIRST_REACH = 6.0  # angstrom, neighbours looked at first; grows until no void needs more
_SIGHT = 5.0  # angstrom, atoms this near decide whether two voids look alike
_LAST_REACH = 60.0  # angstrom
_FAR = 1e30
_MOST_VERTICES = 1000  # of a cell; a real one has fewer than a hundred
_ALIKE = 1e-5  # relative difference of what they see


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
        _MARGIN_BY_NUMBER[numbers],
        _MARK_BY_NUMBER[numbers],
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
_MARK_BY_NUMBER = 0.5 + (np.arange(119) * 0.6180339887498949) % 1.0


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
    inverse = np.linalg.inv(lattice)
    spacing = np.empty(3)
    for k in range(3):
        spacing[k] = 1.0 / math.sqrt((inverse[:, k] ** 2).sum())
    cell, wrapped, position = _jittered(lattice, frac)
    size = abs(np.linalg.det(lattice)) ** (1.0 / 3.0)
    reach = min(_FIRST_REACH, 2.0 * size + 4.0)
    found = np.empty((64, 5))  # frac_coords, clearance, distance
    count = 0
    top = -np.inf
    for p in range(len(frac)):
        near, near_margin, n_near, vertices, corners, n_vertices, reach = _voronoi_cell(
            cell, lattice, wrapped, position, margins, spacing, p, reach
        )
        for v in range(n_vertices):
            if vertices[v, 3] - margins[p] < top - WINDOW:
                continue
            x, y, z, _ = _center(near[4:], corners[v, 0], corners[v, 1], corners[v, 2])
            radius = math.sqrt(x * x + y * y + z * z)
            clearance = min(
                radius - margins[p], _clearance(near, near_margin, n_near, x, y, z, radius)
            )
            if clearance < top - WINDOW:
                continue
            if clearance > top:
                top = clearance
                count = _drop_below(found, count, top - WINDOW)
            if count == len(found):
                found = np.concatenate((found, np.empty_like(found)))
            place = found[count]
            for k in range(3):
                f = (
                    (x + position[p, 3]) * inverse[0, k]
                    + (y + position[p, 4]) * inverse[1, k]
                    + (z + position[p, 5]) * inverse[2, k]
                )
                place[k] = f - math.floor(f)
            place[3], place[4] = clearance, radius
            if not _is_known(lattice, found, count):
                count += 1
    return _weigh(lattice, wrapped, marks, spacing, found[:count], top)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _jittered(
    lattice: NDArray[np.float64], frac: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Displaced cell (3, 3), coordinates in [0, 1) (n, 3), positions displaced and not (n, 6).

    The displacement is a strain and a step for every atom, from a fixed sequence.
    """
    cell = np.empty((3, 3))
    for a in range(3):
        for k in range(3):
            cell[a, k] = lattice[a, k] + _JITTER * _sway(9 * a + 3 * k + 1)
    wrapped = frac - np.floor(frac)
    position = np.empty((len(frac), 6))
    for i in range(len(frac)):
        for k in range(3):
            position[i, k] = _JITTER * _sway(31 * i + 7 * k + 11)
            position[i, 3 + k] = 0.0
            for a in range(3):
                position[i, k] += wrapped[i, a] * cell[a, k]
                position[i, 3 + k] += wrapped[i, a] * lattice[a, k]
    return cell, wrapped, position


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _voronoi_cell(
    cell: NDArray[np.float64],
    lattice: NDArray[np.float64],
    wrapped: NDArray[np.float64],
    position: NDArray[np.float64],
    margins: NDArray[np.float64],
    spacing: NDArray[np.float64],
    p: int,
    reach: float,
) -> tuple[
    NDArray[np.float64],
    NDArray[np.float64],
    int,
    NDArray[np.float64],
    NDArray[np.int64],
    int,
    float,
]:
    """`_neighbors` and `_cell_vertices` of atom p, and the reach that they needed."""
    while True:
        near, margin, n_near = _neighbors(
            cell, lattice, wrapped, position, margins, spacing, p, reach
        )
        vertices, corners, n_vertices, complete = _cell_vertices(near, n_near, reach)
        if complete or reach > _LAST_REACH:
            return near, margin, n_near, vertices, corners, n_vertices, reach
        reach *= 1.4


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _clearance(
    near: NDArray[np.float64],
    margin: NDArray[np.float64],
    count: int,
    x: float,
    y: float,
    z: float,
    radius: float,
) -> float:
    """Least of distance less margin over the atoms within reach of a vertex's radius."""
    best = np.inf
    for t in range(count):
        dx, dy, dz = near[4, t] - x, near[5, t] - y, near[6, t] - z
        squared = dx * dx + dy * dy + dz * dz
        if squared < (radius + CATION_MARGIN) ** 2:
            best = min(best, math.sqrt(squared) - margin[t])
    return best


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
def _is_known(lattice: NDArray[np.float64], found: NDArray[np.float64], count: int) -> bool:
    """Whether void `count` coincides with one before it."""
    for w in range(count):
        alike = abs(found[w, 3] - found[count, 3]) < _COINCIDENT
        if alike and _gap(lattice, found[w, :3], found[count, :3]) < _COINCIDENT:
            return True
    return False


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _sway(number: int) -> float:
    """A fixed number between -1 and 1 for an integer, without pattern."""
    f = math.sin(12.9898 * number + 4.1414) * 43758.5453
    return 2.0 * (f - math.floor(f)) - 1.0


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _neighbors(
    cell: NDArray[np.float64],
    lattice: NDArray[np.float64],
    wrapped: NDArray[np.float64],
    position: NDArray[np.float64],
    margins: NDArray[np.float64],
    spacing: NDArray[np.float64],
    p: int,
    reach: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64], int]:
    """The atoms around p, relative to it.

    Returns:
        (8, m) x, y, z and half the squared distance, with jitter and without; (m,) margins; m.
    """
    capacity = 256
    near = np.empty((8, capacity))
    margin = np.empty(capacity)
    count = 0
    q0, q1, q2 = reach / spacing[0], reach / spacing[1], reach / spacing[2]
    limit = reach * reach
    for j in range(len(wrapped)):
        d0 = wrapped[j, 0] - wrapped[p, 0]
        d1 = wrapped[j, 1] - wrapped[p, 1]
        d2 = wrapped[j, 2] - wrapped[p, 2]
        bx = position[j, 0] - position[p, 0]
        by = position[j, 1] - position[p, 1]
        bz = position[j, 2] - position[p, 2]
        for n0 in range(math.ceil(-q0 - d0), math.floor(q0 - d0) + 1):
            x0, y0, z0 = bx + n0 * cell[0, 0], by + n0 * cell[0, 1], bz + n0 * cell[0, 2]
            for n1 in range(math.ceil(-q1 - d1), math.floor(q1 - d1) + 1):
                x1, y1, z1 = x0 + n1 * cell[1, 0], y0 + n1 * cell[1, 1], z0 + n1 * cell[1, 2]
                for n2 in range(math.ceil(-q2 - d2), math.floor(q2 - d2) + 1):
                    x = x1 + n2 * cell[2, 0]
                    y = y1 + n2 * cell[2, 1]
                    z = z1 + n2 * cell[2, 2]
                    squared = x * x + y * y + z * z
                    if squared > limit or (j == p and n0 == 0 and n1 == 0 and n2 == 0):
                        continue
                    if count == capacity:
                        near = np.concatenate((near, np.empty_like(near)), axis=1)
                        margin = np.concatenate((margin, np.empty_like(margin)))
                        capacity *= 2
                    near[0, count], near[1, count], near[2, count] = x, y, z
                    near[3, count] = 0.5 * squared
                    half = 0.0
                    for k in range(3):
                        exact = position[j, 3 + k] - position[p, 3 + k]
                        exact += n0 * lattice[0, k] + n1 * lattice[1, k] + n2 * lattice[2, k]
                        near[4 + k, count] = exact
                        half += 0.5 * exact * exact
                    near[7, count] = half
                    margin[count] = margins[j]
                    count += 1
    return near, margin, count


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _cell_vertices(
    near: NDArray[np.float64], count: int, reach: float
) -> tuple[NDArray[np.float64], NDArray[np.int64], int, bool]:
    """Vertices of the Voronoi cell of the atom at the origin.

    Returns:
        Of every vertex x, y, z, radius and the other three atoms, their number, and False where
        an atom beyond reach could cut the cell.

    An edge of the cell belongs to two neighbours and ends at two vertices: from a vertex the walk
    goes along every edge whose other end is not known yet.
    """
    vertices = np.empty((128, 4))
    corners = np.empty((128, 3), np.int64)
    edges = np.empty((256, 3), np.int64)  # two walls, and the third one at the known end
    n_vertices, n_seen, n_edges = 0, 0, 0
    way = np.empty(count)
    walls = _first_walls(near, count, way)
    while walls[2] >= 0:
        x, y, z, flat = _center(near, walls[0], walls[1], walls[2])
        radius = math.sqrt(x * x + y * y + z * z)
        n_seen += 1
        if radius > 0.5 * (reach - CATION_MARGIN) or n_seen > _MOST_VERTICES:
            break
        if not flat:
            if n_vertices == len(vertices):
                vertices = np.concatenate((vertices, np.empty_like(vertices)))
                corners = np.concatenate((corners, np.empty_like(corners)))
            vertices[n_vertices, 0], vertices[n_vertices, 1] = x, y
            vertices[n_vertices, 2], vertices[n_vertices, 3] = z, radius
            corners[n_vertices] = walls
            n_vertices += 1
        if n_edges + 3 > len(edges):
            edges = np.concatenate((edges, np.empty_like(edges)))
        n_edges = _close_or_open(edges, n_edges, walls)
        if n_edges == 0:
            return vertices, corners, n_vertices, True
        walls = _other_end(near, count, way, edges[n_edges - 1])
    return vertices, corners, 0, False


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _first_walls(
    near: NDArray[np.float64], count: int, way: NDArray[np.float64]
) -> NDArray[np.int64]:
    """The three walls of one vertex of the cell; the last is -1 where reach is too short.

    From the middle between the atom and its nearest neighbour q along the face until r is as
    near, then along the edge until s is.
    """
    walls = np.full(3, -1)
    if count < 4:
        return walls
    q = 0
    for t in range(1, count):
        if near[3, t] < near[3, q]:
            q = t
    walls[0] = q
    x, y, z = 0.5 * near[0, q], 0.5 * near[1, q], 0.5 * near[2, q]
    ex, ey, ez = 0.36, -0.48, 0.8  # any direction that no crystal prefers
    along = (ex * near[0, q] + ey * near[1, q] + ez * near[2, q]) / (2.0 * near[3, q])
    ex, ey, ez = ex - along * near[0, q], ey - along * near[1, q], ez - along * near[2, q]
    walls[1], step = _next_wall(near, count, x, y, z, ex, ey, ez, walls, way)
    if walls[1] >= 0:
        x, y, z = x + step * ex, y + step * ey, z + step * ez
        ex, ey, ez = _along_edge(near, q, walls[1])
        walls[2], _ = _next_wall(near, count, x, y, z, ex, ey, ez, walls, way)
    return walls


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _other_end(
    near: NDArray[np.float64],
    count: int,
    way: NDArray[np.float64],
    edge: NDArray[np.int64],
) -> NDArray[np.int64]:
    """The walls of the vertex at the unknown end of an edge; the last is -1 without one."""
    walls = edge.copy()
    x, y, z, _ = _center(near, walls[0], walls[1], walls[2])
    ex, ey, ez = _along_edge(near, walls[0], walls[1])
    if ex * near[0, walls[2]] + ey * near[1, walls[2]] + ez * near[2, walls[2]] > 0.0:
        ex, ey, ez = -ex, -ey, -ez
    walls[2], _ = _next_wall(near, count, x, y, z, ex, ey, ez, walls, way)
    return walls


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _along_edge(near: NDArray[np.float64], q: int, r: int) -> tuple[float, float, float]:
    """Direction of the edge between two walls: across both of theirs."""
    return (
        near[1, q] * near[2, r] - near[2, q] * near[1, r],
        near[2, q] * near[0, r] - near[0, q] * near[2, r],
        near[0, q] * near[1, r] - near[1, q] * near[0, r],
    )


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _close_or_open(edges: NDArray[np.int64], n_edges: int, walls: NDArray[np.int64]) -> int:
    """Take the three edges of a vertex off the list where they stand on it, else put them on."""
    for turn in range(3):
        q, r = walls[turn], walls[(turn + 1) % 3]
        match = -1
        for e in range(n_edges):
            one, two = edges[e, 0], edges[e, 1]
            if (one == q and two == r) or (one == r and two == q):
                match = e
                break
        if match >= 0:
            n_edges -= 1
            edges[match] = edges[n_edges]
        else:
            edges[n_edges, 0], edges[n_edges, 1] = q, r
            edges[n_edges, 2] = walls[(turn + 2) % 3]
            n_edges += 1
    return n_edges


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=True)
def _next_wall(
    near: NDArray[np.float64],
    count: int,
    x: float,
    y: float,
    z: float,
    ex: float,
    ey: float,
    ez: float,
    walls: NDArray[np.int64],
    way: NDArray[np.float64],
) -> tuple[int, float]:
    """The atom that is first as near as the origin on the way from a point, and the way there.

    -1 where there is none. The walls of the edge themselves do not count.
    """
    for t in range(count):
        ahead = ex * near[0, t] + ey * near[1, t] + ez * near[2, t]
        room = near[3, t] - (x * near[0, t] + y * near[1, t] + z * near[2, t])
        way[t] = room / ahead if ahead > 0.0 else _FAR
    for t in walls:
        if t >= 0:
            way[t] = _FAR
    best = _FAR
    for t in range(count):
        best = min(best, way[t])
    if best < _FAR:
        for t in range(count):
            if way[t] == best:
                return t, best
    return -1, best


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _center(near: NDArray[np.float64], q: int, r: int, s: int) -> tuple[float, float, float, bool]:
    """The point at one distance from the origin and three atoms; whether they are flat."""
    bx, by, bz, b2 = near[0, q], near[1, q], near[2, q], near[3, q]
    cx, cy, cz, c2 = near[0, r], near[1, r], near[2, r], near[3, r]
    dx, dy, dz, d2 = near[0, s], near[1, s], near[2, s], near[3, s]
    ux, uy, uz = cy * dz - cz * dy, cz * dx - cx * dz, cx * dy - cy * dx
    det = bx * ux + by * uy + bz * uz
    vx, vy, vz = dy * bz - dz * by, dz * bx - dx * bz, dx * by - dy * bx
    wx, wy, wz = by * cz - bz * cy, bz * cx - bx * cz, bx * cy - by * cx
    return (
        (b2 * ux + c2 * vx + d2 * wx) / det,
        (b2 * uy + c2 * vy + d2 * wy) / det,
        (b2 * uz + c2 * vz + d2 * wz) / det,
        abs(det) < _FLAT * math.sqrt(8.0 * b2 * c2 * d2),
    )


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
    seen = np.empty(n)
    kept = 0
    for v in np.argsort(-found[:, 3]):  # the best stands for those like it
        fade = 1.0 - (top - found[v, 3]) / WINDOW
        if fade <= 0.0:
            continue
        crowd = 0.0
        for w in range(n):
            gap = _gap(lattice, found[v, :3], found[w, :3]) / CROWDING_RANGE
            if gap < 1.0:
                other = 1.0 - (top - found[w, 3]) / WINDOW
                crowd += max(0.0, other) * (1.0 - gap * gap) ** 2
        view = _view(lattice, wrapped, marks, spacing, found[v, :3])
        place = kept
        for w in range(kept):
            if (
                abs(seen[w] - view) < _ALIKE * view
                and abs(out[w, 3] - found[v, 3]) < _COINCIDENT / 10
            ):
                place = w
                break
        if place == kept:
            out[place, :5] = found[v]
            out[place, 5] = 0.0
            seen[place] = view
            kept += 1
        out[place, 5] += fade * fade / crowd
    out = out[:kept]
    out[:, 5] /= out[:, 5].sum()
    return out


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _view(
    lattice: NDArray[np.float64],
    wrapped: NDArray[np.float64],
    marks: NDArray[np.float64],
    spacing: NDArray[np.float64],
    point: NDArray[np.float64],
) -> float:
    """A number that differs where the elements or distances around a point do."""
    q0, q1, q2 = _SIGHT / spacing[0], _SIGHT / spacing[1], _SIGHT / spacing[2]
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
                    near = 1.0 - (x * x + y * y + z * z) / (_SIGHT * _SIGHT)
                    if near > 0.0:
                        part += near * near
        total += marks[j] * part
    return total


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _gap(
    lattice: NDArray[np.float64], one: NDArray[np.float64], other: NDArray[np.float64]
) -> float:
    """Shortest distance between two points and their images, angstrom; exact below a few."""
    f0, f1, f2 = one[0] - other[0], one[1] - other[1], one[2] - other[2]
    f0, f1, f2 = f0 - round(f0), f1 - round(f1), f2 - round(f2)
    best = np.inf
    for n0 in range(-1, 2):
        for n1 in range(-1, 2):
            for n2 in range(-1, 2):
                g0, g1, g2 = f0 + n0, f1 + n1, f2 + n2
                x = g0 * lattice[0, 0] + g1 * lattice[1, 0] + g2 * lattice[2, 0]
                y = g0 * lattice[0, 1] + g1 * lattice[1, 1] + g2 * lattice[2, 1]
                z = g0 * lattice[0, 2] + g1 * lattice[1, 2] + g2 * lattice[2, 2]
                best = min(best, x * x + y * y + z * z)
    return math.sqrt(best)
