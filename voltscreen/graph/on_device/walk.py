"""The Delaunay tetrahedra of many jittered crystals at once.

The walk of `structures/delaunay.py`, a level at a time: all faces that are open, of all crystals,
are gone through together, and so are those that the new tetrahedra open. The tetrahedra come in
the same order as there. A face is seen by at most two tetrahedra that are at most a level apart,
so that nothing older need be remembered.

Index letters: b crystals, a atoms, t tetrahedra, k near atoms of an atom, F faces of a level.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from voltscreen.graph.on_device.crystals import Crystals
from voltscreen.graph.on_device.hashing import mixed, signed
from voltscreen.graph.on_device.near import Near
from voltscreen.graph.on_device.ragged import (
    are_repeated,
    at_once,
    first_of_equals,
    offsets_of,
    runs,
)
from voltscreen.structures.delaunay import MOST_TETRAHEDRA
from voltscreen.structures.near_atoms import ATOM, ATOM_BITS, BASE, HALF

_ATOM_FACTOR = signed(0x9E3779B97F4A7C15)
_PLACE_FACTOR = signed(0xD6E8FEB86659FD93)
_OWNER_FACTOR = signed(0xA0761D6478BD642F)
NOBODY = -(1 << 62)
"""A name that no atom has: those in images may be negative."""
FAR = 1e30
_UPRIGHT = (0.36, -0.48, 0.8)  # any direction that no crystal prefers


@dataclass(frozen=True, slots=True)
class Positions:
    """Jittered crystals: cells (b, 3, 3) and atoms (a, 3), float64, angstrom; offsets (b + 1,)."""

    cells: Tensor
    atoms: Tensor
    offsets: Tensor

    def vectors(self, owner: Tensor, origin: Tensor, names: Tensor) -> Tensor:
        """(..., 3): from the origins, atoms in the cell, to the named atoms; owner: crystals."""
        first = self.offsets[owner]
        step = images_of(names) @ self.cells[owner]
        there, here = self.atoms[first[:, None] + (names & ATOM)], self.atoms[first + origin]
        return there - here[:, None] + step


@dataclass(frozen=True, slots=True)
class NearTable:
    """The atoms near every atom, nearest first, in rows that are filled up behind.

    names: (a, k) int64, `NOBODY` behind. exact: (a, k, 3) float64, vectors between the atoms as
    they are; jittered: (a, k, 4), the jittered vectors and half their squares, `FAR` behind.
    """

    names: Tensor
    exact: Tensor
    jittered: Tensor

    @classmethod
    def of(cls, crystals: Crystals, positions: Positions, near: Near) -> NearTable:
        """The table of `near`, by distance, whose points are all atoms."""
        n = len(positions.atoms)
        counts = near.counts(n)
        width = max(int(counts.max()), 1)
        slot = torch.arange(len(near.point), device=counts.device)
        place = near.point * width + slot - offsets_of(counts)[:-1][near.point]
        owner = crystals.owner[near.point]
        code = (near.image[:, 0] * BASE + near.image[:, 1]) * BASE + near.image[:, 2]
        names = near.point.new_full((n * width,), NOBODY)
        names[place] = (code.long() << ATOM_BITS) + near.atom - crystals.offsets[owner]
        exact = near.vector.new_zeros(n * width, 3)
        exact[place] = near.vector
        jittered = near.vector.new_zeros(n * width, 4)
        jittered[:, 3] = FAR
        moved = positions.atoms[near.atom] - positions.atoms[near.point]
        moved += (near.image[:, None] @ positions.cells[owner])[:, 0]
        jittered[place] = torch.cat((moved, 0.5 * moved.square().sum(1, keepdim=True)), 1)
        return cls(
            names.view(n, width), exact.view(n, width, 3), jittered.view(n, width, 4)
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Tetrahedra:
    """Tetrahedra by crystal. owner: (t,) int64. corners: (t, 4) int64, names of the atoms, the
    first one in the cell itself. radii: (t,) of the circumspheres, angstrom; volumes: (t,).

    needed: (b,) angstrom, the reach that a crystal needs where its table is too short, else 0.
    Crystals that need more, or whose walk was broken by rounding, have no tetrahedra.
    """

    owner: Tensor
    corners: Tensor
    radii: Tensor
    volumes: Tensor
    needed: Tensor


def walk(positions: Positions, table: NearTable, reach: Tensor) -> Tetrahedra:
    """All tetrahedra of b crystals.

    Args:
        reach: (b,) angstrom, radius of what the table holds.
    """
    state = _State(positions, reach)
    owner = torch.arange(len(reach), device=reach.device)
    corners = _first(table, positions.offsets[:-1])
    passed = owner[:0]  # keys of the faces that the level came through
    sides = _SIDES
    while len(owner):
        owner, corners = state.take(owner, corners)
        owner, faces, passed = _opened(owner, corners, passed, sides)
        corners = torch.cat((faces, _beyond(positions, table, owner, faces)[:, None]), 1)
        # Two faces of one tetrahedron may both be open: it is found twice.
        chosen = first_of_equals(keys_of(corners, owner))
        owner, corners = owner[chosen], corners[chosen]
        sides = _SIDES[:3]
    return state.tetrahedra()


_SIDES = [[0, 1, 3], [1, 2, 3], [2, 0, 3], [0, 2, 1]]
"""Corners of the faces of a tetrahedron, seen from outside; the last one leads back."""


class _State:
    """What the levels of a walk leave behind."""

    def __init__(self, positions: Positions, reach: Tensor) -> None:
        self._positions = positions
        self._reach = reach
        self._needed = torch.zeros_like(reach)
        self._most = MOST_TETRAHEDRA * positions.offsets.diff() + 64
        self._count = torch.zeros_like(self._most)
        self._levels: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []

    def take(self, owner: Tensor, corners: Tensor) -> tuple[Tensor, Tensor]:
        """Take new tetrahedra in; those of crystals whose walk can go on."""
        reach = self._reach[owner]
        nowhere = (corners == NOBODY).any(1)
        named = corners[:, 1:].where(~nowhere[:, None], 0)
        centers, volumes = circumspheres(self._positions.vectors(owner, corners[:, 0], named))
        radii = centers.square().sum(1).sqrt()
        short = nowhere | (2.0 * radii > reach)
        ask = torch.where(nowhere, torch.inf, 2.0 * radii).minimum(1.5 * reach)
        self._needed.scatter_reduce_(0, owner, torch.where(short, ask, 0.0), "amax")
        # One that rounding turned inside out counts as too many.
        broken = ~(volumes > 0.0) & ~short
        self._count.index_add_(0, owner, torch.where(broken, self._most[owner] + 1, 1))
        fit = torch.nonzero(self._whole[owner])[:, 0]
        owner, corners = owner[fit], corners[fit]
        self._levels.append((owner, corners, radii[fit], volumes[fit]))
        return owner, corners

    @property
    def _whole(self) -> Tensor:
        return (self._needed == 0.0) & (self._count <= self._most)

    def tetrahedra(self) -> Tetrahedra:
        """All that were taken in, by crystal, of crystals whose walk came to its end."""
        parts = [torch.cat(part) for part in zip(*self._levels, strict=True)]
        kept = torch.nonzero(self._whole[parts[0]])[:, 0]
        order = kept[parts[0][kept].argsort(stable=True)]
        owner, corners, radii, volumes = (part[order] for part in parts)
        return Tetrahedra(owner, corners, radii, volumes, self._needed)


def _opened(
    owner: Tensor, corners: Tensor, passed: Tensor, sides: list[list[int]]
) -> tuple[Tensor, Tensor, Tensor]:
    """The faces (F, 3) of new tetrahedra that nothing lies behind yet, their crystals and keys.

    A face has tetrahedra on both sides where it is one of two of them, or one of the faces (keys)
    that the level came through.
    """
    faces = corners[:, sides].flatten(0, 1)
    whose = owner.repeat_interleave(len(sides))
    keys = keys_of(faces, whose)
    open_ = torch.nonzero(~are_repeated(torch.cat((passed, keys)))[len(passed) :])[:, 0]
    faces = faces[open_]
    return whose[open_], faces - (faces[:, :1] >> ATOM_BITS << ATOM_BITS), keys[open_]


def _beyond(positions: Positions, table: NearTable, owner: Tensor, faces: Tensor) -> Tensor:
    """(F,) names of the atoms beyond faces (F, 3), or `NOBODY`.

    Of the points at one distance from the three, f + way n, the next tetrahedron's centre is the
    first one, on the way across the face, that another atom is as near to.
    """
    b, c = positions.vectors(owner, faces[:, 0], faces[:, 1:]).unbind(1)
    n = torch.linalg.cross(b, c)
    length = n.square().sum(1, keepdim=True)
    f = b.square().sum(1, keepdim=True) * torch.linalg.cross(c, n)
    f = (f + c.square().sum(1, keepdim=True) * torch.linalg.cross(n, b)) * (0.5 / length)
    rows = positions.offsets[owner] + faces[:, 0]
    found = torch.empty_like(owner)
    size = torch.full_like(owner, table.names.shape[1])
    for i, j in runs(size, at_once(owner.device)):
        names = table.names[rows[i:j]]
        own = (names == faces[i:j, 1:2]) | (names == faces[i:j, 2:3])
        found[i:j] = _first_on_lines(table, rows[i:j], own, n[i:j], f[i:j])[0]
    return found


def _first_on_lines(
    table: NearTable, rows: Tensor, left_out: Tensor, along: Tensor, begin: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Of the atoms in rows of the table (F,), but those left out (F, k), the first that is as near
    as the row's own atom to a point that goes from `begin` (F, 3) `along` (F, 3).

    Returns:
        Its name, `NOBODY` where there is none, its place in the row and how far the point went.
    """
    forms = along.new_zeros(len(rows), 4, 2)
    forms[:, :3, 0], forms[:, :3, 1], forms[:, 3, 1] = along, -begin, 1.0
    ahead, room = (table.jittered[rows] @ forms).unbind(2)
    way = torch.where(left_out | (ahead <= 0.0), FAR, room / ahead)
    best, place = way.min(1)
    return torch.where(best < FAR, table.names[rows, place], NOBODY), place, best


def _first(table: NearTable, rows: Tensor) -> Tensor:
    """(b, 4): the corners of one tetrahedron of every crystal, whose first atoms have these rows.

    From the middle between the atom and its nearest neighbour q along their bisector until r is
    as near, then along the line of points at one distance from the three until s is.
    """
    jittered = table.jittered[rows]
    slots = torch.arange(jittered.shape[1], device=rows.device)
    every = torch.arange(len(rows), device=rows.device)
    q = jittered[:, :, 3].argmin(1)
    nearest = jittered[every, q]
    vector, half = nearest[:, :3], nearest[:, 3:]
    upright = vector.new_tensor(_UPRIGHT)
    along = upright - (vector @ upright)[:, None] / (2.0 * half) * vector
    middle = 0.5 * vector
    out = slots == q[:, None]
    names = [torch.zeros_like(rows), table.names[rows, q]]
    third, r, way = _first_on_lines(table, rows, out, along, middle)
    other = jittered[every, r, :3]
    turned = torch.linalg.cross(vector, other)
    last, _, _ = _first_on_lines(
        table, rows, out | (slots == r[:, None]), turned, middle + way[:, None] * along
    )
    # The line was followed to the side on which the three turn left.
    return torch.stack((*names, third, last), 1)


def images_of(names: Tensor) -> Tensor:
    """(..., 3) float64: whole cells of the images in names (...)."""
    code = (names >> ATOM_BITS) + (HALF * BASE + HALF) * BASE + HALF
    parts = (code >> 20, (code >> 10) & (BASE - 1), code & (BASE - 1))
    return torch.stack(parts, -1).double() - HALF


def circumspheres(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Centres (t, 3) of the spheres through the origin and three points (t, 3, 3), and the
    volumes (t,) of the tetrahedra.
    """
    b, c, d = vectors.unbind(1)
    squares = 0.5 * vectors.square().sum(2, keepdim=True)
    normals = torch.stack(
        (torch.linalg.cross(c, d), torch.linalg.cross(d, b), torch.linalg.cross(b, c)), 1
    )
    determinant = (b * normals[:, 0]).sum(1)
    return (squares * normals).sum(1) / determinant[:, None], determinant / 6.0


def keys_of(sets: Tensor, owner: Tensor) -> Tensor:
    """(F,) int64: hashes of sets of k named atoms (F, k) of crystals (F,), in whatever order and
    whichever cell they are in.

    Each atom is hashed with how far its cell is from the mean of all k, times k.
    """
    home = sets >> ATOM_BITS << ATOM_BITS
    from_mean = sets.sum(1, keepdim=True) - sets.shape[1] * home
    keys = (sets - home) * _ATOM_FACTOR + from_mean * _PLACE_FACTOR
    return mixed(keys + (owner * _OWNER_FACTOR)[:, None]).sum(1)
