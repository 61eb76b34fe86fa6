"""The Delaunay tetrahedra of a periodic crystal, each found once.

From one tetrahedron the walk goes through every face that is still open to the tetrahedron on its
other side, until none is open. The atom on the other side is the first one that is as near as the
three of the face on the way along the line of points at one distance from them. Faces are known
again by a hash that does not change when the face is moved by whole cells.

A crystal must be jittered: no five atoms may lie on one sphere.

Index letters: a b c atoms of a face, d the one beyond it; t tetrahedra.
"""

from __future__ import annotations

import math

import numba
import numpy as np
from numpy.typing import NDArray

from voltscreen.structures.near_atoms import ATOM, decode_image

_FAR = 1e30
_NOBODY = -(1 << 62)  # a name that no atom has: those in images may be negative
_BLOCK = 16
_IMAGE_SHIFT = 16
MOST_TETRAHEDRA = 60  # an atom; there are about seven


@numba.njit(cache=True, nogil=True, error_model="numpy")
def tetrahedra(  # noqa: C901, PLR0912, PLR0915 - one hot loop with much state
    cell: NDArray[np.float64],
    position: NDArray[np.float64],
    offsets: NDArray[np.int64],
    entries: NDArray[np.float64],
    who: NDArray[np.int64],
    reach: float,
) -> tuple[NDArray[np.int64], NDArray[np.float64], float]:
    """All tetrahedra of a crystal.

    Args:
        cell: (3, 3); position: (n, 3), angstrom. offsets, entries, who: of `near_atoms`.
        reach: angstrom, that of these lists.

    Returns:
        names of the four atoms (t, 4), the first one in the cell itself; of each circumsphere
        the centre relative to the first atom, the radius and the tetrahedron's volume (t, 5);
        and the reach that is needed where this one is too short, else 0. Where rounding breaks the
        walk there are no tetrahedra.
    """
    n = len(position)
    most = MOST_TETRAHEDRA * n + 64
    corners, spheres = np.empty((16 * n + 64, 4), np.int64), np.empty((16 * n + 64, 5))
    size = 256
    while size < 64 * n:
        size *= 2
    table, keys = np.full(size, -1), np.empty(size, np.uint64)
    faces, radii = np.empty((32 * n + 128, 4), np.int64), np.empty(32 * n + 128)  # a b c, open?
    way = np.empty(_BLOCK)
    count, n_faces, at = 0, 0, 0
    first = _first_tetrahedron(offsets, entries, who)
    if first[3] == _NOBODY:
        return corners[:0], spheres[:0], 1.5 * reach
    vectors = np.empty((3, 3))
    new = first
    turned = True  # whether the face behind `new` is open too, which only the first has
    while True:
        for k in range(3):
            _vector(cell, position, new[0] & ATOM, new[k + 1], vectors[k])
        x, y, z, volume = circumsphere(vectors)
        radius = math.sqrt(x * x + y * y + z * z)
        if 2.0 * radius > reach:
            return corners[:0], spheres[:0], min(2.0 * radius, 1.5 * reach)
        if count >= most or not volume > 0.0:
            return corners[:0], spheres[:0], 0.0
        if count == len(corners):
            corners = np.concatenate((corners, np.empty_like(corners)))
            spheres = np.concatenate((spheres, np.empty_like(spheres)))
        for k in range(4):
            corners[count, k] = new[k]
        spheres[count, 0], spheres[count, 1], spheres[count, 2] = x, y, z
        spheres[count, 3], spheres[count, 4] = radius, volume
        count += 1
        a, b, c, d = new[0], new[1], new[2], new[3]
        for side in range(4 if turned else 3):
            if side == 0:
                one, two, three = a, b, d
            elif side == 1:
                one, two, three = b, c, d
            elif side == 2:
                one, two, three = c, a, d
            else:
                one, two, three = a, c, b
            if _close(table, keys, faces, _face_key(one, three, two)):
                continue
            if n_faces == len(faces):
                faces = np.concatenate((faces, np.empty_like(faces)))
                radii = np.concatenate((radii, np.empty_like(radii)))
            if 2 * n_faces > size:
                return corners[:0], spheres[:0], 0.0
            home = (one >> _IMAGE_SHIFT) << _IMAGE_SHIFT
            faces[n_faces, 0], faces[n_faces, 1] = one - home, two - home
            faces[n_faces, 2], faces[n_faces, 3] = three - home, 1
            radii[n_faces] = radius
            _open(table, keys, _face_key(one, two, three), n_faces)
            n_faces += 1
        turned = False
        while at < n_faces and not faces[at, 3]:
            at += 1
        if at == n_faces:
            return corners[:count], spheres[:count], 0.0
        faces[at, 3] = 0
        _beyond(cell, position, offsets, entries, who, faces[at], radii[at], way, vectors, new)
        if new[3] == _NOBODY:
            return corners[:0], spheres[:0], 1.5 * reach


@numba.njit(inline="always")
def _mix(x: np.uint64) -> np.uint64:
    """A hash of 64 bits (the finaliser of splitmix64, Steele et al., OOPSLA 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@numba.njit(inline="always")
def _corner_key(one: int, two: int, three: int) -> np.uint64:
    """Hash of three atoms in that order, whatever cell they are in."""
    home = (one >> _IMAGE_SHIFT) << _IMAGE_SHIFT
    return _mix(
        np.uint64(one - home) * np.uint64(0x9E3779B97F4A7C15)
        + np.uint64(two - home) * np.uint64(0xD6E8FEB86659FD93)
        + np.uint64(three - home) * np.uint64(0xA0761D6478BD642F)
    )


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _face_key(one: int, two: int, three: int) -> np.uint64:
    """Hash of a face seen from outside, whichever of its atoms comes first."""
    return (
        _corner_key(one, two, three) + _corner_key(two, three, one) + _corner_key(three, one, two)
    )


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _close(
    table: NDArray[np.int64], keys: NDArray[np.uint64], faces: NDArray[np.int64], key: np.uint64
) -> bool:
    """Close the face of that key if it is known; whether it is."""
    mask = np.uint64(len(table) - 1)
    slot = np.int64(key & mask)
    while table[slot] >= 0:
        if keys[slot] == key:
            faces[table[slot], 3] = 0
            return True
        slot = np.int64(np.uint64(slot + 1) & mask)
    return False


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _open(table: NDArray[np.int64], keys: NDArray[np.uint64], key: np.uint64, face: int) -> None:
    """Note a face under its key."""
    mask = np.uint64(len(table) - 1)
    slot = np.int64(key & mask)
    while table[slot] >= 0:
        slot = np.int64(np.uint64(slot + 1) & mask)
    table[slot], keys[slot] = face, key


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _vector(
    cell: NDArray[np.float64],
    position: NDArray[np.float64],
    origin: int,
    name: int,
    out: NDArray[np.float64],
) -> None:
    """From an atom in the cell to one in an image, angstrom."""
    n0, n1, n2 = decode_image(name >> _IMAGE_SHIFT)
    other = name & ATOM
    for k in range(3):
        out[k] = position[other, k] - position[origin, k]
        out[k] += n0 * cell[0, k] + n1 * cell[1, k] + n2 * cell[2, k]


@numba.njit(cache=True, nogil=True, error_model="numpy")
def vector_to(
    lattice: NDArray[np.float64],
    frac: NDArray[np.float64],
    origin: int,
    name: int,
    out: NDArray[np.float64],
) -> None:
    """Fill `out` with the vector from an atom in the cell to a named one, of fractional
    coordinates (n, 3), angstrom.
    """
    n0, n1, n2 = decode_image(name >> _IMAGE_SHIFT)
    other = name & ATOM
    f0 = frac[other, 0] - frac[origin, 0] + n0
    f1 = frac[other, 1] - frac[origin, 1] + n1
    f2 = frac[other, 2] - frac[origin, 2] + n2
    for k in range(3):
        out[k] = f0 * lattice[0, k] + f1 * lattice[1, k] + f2 * lattice[2, k]


@numba.njit(cache=True, nogil=True, error_model="numpy")
def circumsphere(v: NDArray[np.float64]) -> tuple[float, float, float, float]:
    """Centre of the sphere through the origin and three points, and the tetrahedron's volume."""
    b2 = 0.5 * (v[0, 0] ** 2 + v[0, 1] ** 2 + v[0, 2] ** 2)
    c2 = 0.5 * (v[1, 0] ** 2 + v[1, 1] ** 2 + v[1, 2] ** 2)
    d2 = 0.5 * (v[2, 0] ** 2 + v[2, 1] ** 2 + v[2, 2] ** 2)
    ux, uy, uz = _cross(v[1, 0], v[1, 1], v[1, 2], v[2, 0], v[2, 1], v[2, 2])
    vx, vy, vz = _cross(v[2, 0], v[2, 1], v[2, 2], v[0, 0], v[0, 1], v[0, 2])
    wx, wy, wz = _cross(v[0, 0], v[0, 1], v[0, 2], v[1, 0], v[1, 1], v[1, 2])
    det = v[0, 0] * ux + v[0, 1] * uy + v[0, 2] * uz
    inverse = 1.0 / det
    return (
        (b2 * ux + c2 * vx + d2 * wx) * inverse,
        (b2 * uy + c2 * vy + d2 * wy) * inverse,
        (b2 * uz + c2 * vz + d2 * wz) * inverse,
        det / 6.0,
    )


@numba.njit(inline="always")
def _cross(
    ax: float, ay: float, az: float, bx: float, by: float, bz: float
) -> tuple[float, float, float]:
    return ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _beyond(
    cell: NDArray[np.float64],
    position: NDArray[np.float64],
    offsets: NDArray[np.int64],
    entries: NDArray[np.float64],
    who: NDArray[np.int64],
    face: NDArray[np.int64],
    radius: float,
    way: NDArray[np.float64],
    side: NDArray[np.float64],
    new: NDArray[np.int64],
) -> None:
    """Fill `new` with the tetrahedron beyond a face: its atoms a, b, c and the one beyond, or
    `_NOBODY`. `way` and `side` are for scratch.

    radius: of the sphere on this side. The centre of the next one lies on the line through the
    face's own centre across it; between the two no atom can be reached that is more than twice
    the larger radius away.
    """
    new[0], new[1], new[2], new[3] = face[0], face[1], face[2], _NOBODY
    _vector(cell, position, face[0], face[1], side[0])
    _vector(cell, position, face[0], face[2], side[1])
    bx, by, bz = side[0, 0], side[0, 1], side[0, 2]
    cx, cy, cz = side[1, 0], side[1, 1], side[1, 2]
    nx, ny, nz = _cross(bx, by, bz, cx, cy, cz)
    length = nx * nx + ny * ny + nz * nz
    b2, c2 = bx * bx + by * by + bz * bz, cx * cx + cy * cy + cz * cz
    px, py, pz = _cross(cx, cy, cz, nx, ny, nz)
    qx, qy, qz = _cross(nx, ny, nz, bx, by, bz)
    half = 0.5 / length
    fx, fy, fz = (b2 * px + c2 * qx) * half, (b2 * py + c2 * qy) * half, (b2 * pz + c2 * qz) * half
    around = fx * fx + fy * fy + fz * fz
    largest = radius * radius
    best = _FAR
    first, last = offsets[face[0]], offsets[face[0] + 1]
    for start in range(first, last, _BLOCK):
        # Half the squared distance against half of (2 radius)^2.
        if entries[4, start] > 2.0 * largest and best < _FAR:
            break
        stop = min(start + _BLOCK, last)
        _ways(
            entries[0, start:stop], entries[1, start:stop], entries[2, start:stop],
            entries[3, start:stop], who[start:stop], face[1], face[2],
            nx, ny, nz, fx, fy, fz, way,
        )  # fmt: skip
        for t in range(stop - start):
            if way[t] < best:
                best, new[3] = way[t], who[start + t]
                largest = max(radius * radius, around + best * best * length)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _ways(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    z: NDArray[np.float64],
    half: NDArray[np.float64],
    who: NDArray[np.int64],
    b: int,
    c: int,
    nx: float,
    ny: float,
    nz: float,
    fx: float,
    fy: float,
    fz: float,
    way: NDArray[np.float64],
) -> None:
    """Where on the line f + way n each atom is as near as the origin; far for those behind."""
    for t in range(len(x)):
        ahead = nx * x[t] + ny * y[t] + nz * z[t]
        room = half[t] - (fx * x[t] + fy * y[t] + fz * z[t])
        own = (who[t] == b) | (who[t] == c) | (ahead <= 0.0)
        way[t] = _FAR if own else room / ahead


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _first_tetrahedron(
    offsets: NDArray[np.int64],
    entries: NDArray[np.float64],
    who: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Atom 0 and three others of one tetrahedron, so that its volume is positive.

    From the middle between the atom and its nearest neighbour q along their bisector until r is
    as near, then along the line of points at one distance from the three until s is.
    """
    found = np.full(4, _NOBODY)
    found[0] = 0
    n = offsets[1]
    if n < 4:
        return found
    q = 0
    for t in range(n):
        if entries[3, t] < entries[3, q]:
            q = t
    found[1] = who[q]
    vx, vy, vz = entries[0, q], entries[1, q], entries[2, q]
    fx, fy, fz = 0.5 * vx, 0.5 * vy, 0.5 * vz
    ex, ey, ez = 0.36, -0.48, 0.8  # any direction that no crystal prefers
    along = (ex * vx + ey * vy + ez * vz) / (2.0 * entries[3, q])
    ex, ey, ez = ex - along * vx, ey - along * vy, ez - along * vz
    r, step = _first_on_line(entries, n, q, q, ex, ey, ez, fx, fy, fz)
    if r < 0:
        return found
    found[2] = who[r]
    fx, fy, fz = fx + step * ex, fy + step * ey, fz + step * ez
    ex, ey, ez = _cross(vx, vy, vz, entries[0, r], entries[1, r], entries[2, r])
    s, _ = _first_on_line(entries, n, q, r, ex, ey, ez, fx, fy, fz)
    # The line was followed to the side on which the three turn left.
    if s >= 0:
        found[3] = who[s]
    return found


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _first_on_line(
    entries: NDArray[np.float64],
    n: int,
    q: int,
    r: int,
    ex: float,
    ey: float,
    ez: float,
    fx: float,
    fy: float,
    fz: float,
) -> tuple[int, float]:
    """Among the first n entries the one that is first as near as the origin on f + way e."""
    best, which = _FAR, -1
    for t in range(n):
        ahead = ex * entries[0, t] + ey * entries[1, t] + ez * entries[2, t]
        room = entries[3, t] - (fx * entries[0, t] + fy * entries[1, t] + fz * entries[2, t])
        if t not in (q, r) and ahead > 0.0 and room / ahead < best:
            best, which = room / ahead, t
    return which, best
