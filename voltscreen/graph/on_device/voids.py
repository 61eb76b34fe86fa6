"""The insertion sites of many hosts at once: those of `structures/insertion_sites.py`.

What is written there says what they are; here every step is taken for all hosts together. The
largest voids of a host, the sites' weights and which of them look alike come out the same.

Index letters: b hosts, t tetrahedra, v voids, k near atoms of an atom.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from voltscreen.graph.on_device.crystals import Crystals
from voltscreen.graph.on_device.near import Points, within
from voltscreen.graph.on_device.ragged import (
    at_once,
    largest,
    offsets_of,
    representatives,
    runs,
    spans,
)
from voltscreen.graph.on_device.walk import (
    NOBODY,
    NearTable,
    Positions,
    Tetrahedra,
    circumspheres,
    walk,
)
from voltscreen.structures import insertion_sites as rules
from voltscreen.structures import void_weights as weighing
from voltscreen.structures.near_atoms import ATOM

_NEAR_ENOUGH = 64
"""Atoms around one that are looked at first, about; nearly all voids need fewer."""


@dataclass(frozen=True, slots=True)
class Sites:
    """The insertion sites of b hosts; s sites in all.

    counts: (b,) int64. frac_coords: (s, 3) float64, in [0, 1). clearances, distances: (s,)
    float64, angstrom. weights: (s,) float64, adding up to 1 in each host.
    """

    counts: Tensor
    frac_coords: Tensor
    clearances: Tensor
    distances: Tensor
    weights: Tensor


@dataclass(frozen=True, slots=True)
class _Voids:
    """Voids by host. owner: (v,) int64. frac_coords: (v, 3). clearances, distances, firmness:
    (v,).
    """

    owner: Tensor
    frac_coords: Tensor
    clearances: Tensor
    distances: Tensor
    firmness: Tensor

    @property
    def _fields(self) -> tuple[Tensor, ...]:
        return (
            self.owner, self.frac_coords, self.clearances, self.distances, self.firmness,
        )  # fmt: skip

    def select(self, which: Tensor) -> _Voids:
        return _Voids(*(values[which] for values in self._fields))

    @classmethod
    def join(cls, parts: Sequence[_Voids]) -> _Voids:
        columns = zip(*(part._fields for part in parts), strict=True)
        return cls(*(torch.cat(column) for column in columns))


def find_sites(crystals: Crystals) -> Sites:
    """The insertion sites of hosts, in their order, as `insertion_sites` finds them."""
    voids = _all_voids(crystals)
    n_hosts = len(crystals)
    top = largest(voids.clearances, voids.owner, n_hosts)
    voids = voids.select(voids.clearances >= top[voids.owner] - weighing.WINDOW)
    voids = _without_copies(crystals, voids)
    return _weighed(crystals, voids, top)


def _all_voids(crystals: Crystals) -> _Voids:
    """Voids that can be within the window below the largest one of each host, in the order of the
    walk; more than one where tetrahedra share it.

    The tables of near atoms grow until they reach; rounding that breaks the walk is met by another
    jitter. The volumes of the tetrahedra must add up to that of the cell.
    """
    volumes = crystals.volumes
    room = (_NEAR_ENOUGH * 3.0 / (4.0 * torch.pi) * volumes / crystals.n_atoms).pow(1.0 / 3.0)
    reach = (2.0 * volumes.pow(1.0 / 3.0) + 4.0).minimum(room).clamp_max(rules.FIRST_REACH)
    seed = torch.zeros_like(crystals.n_atoms)
    pending = torch.arange(len(crystals), device=crystals.device)
    parts = []
    while len(pending):
        hosts, own = crystals.select(pending), reach[pending]
        table, tetrahedra = _walked(hosts, own, seed[pending])
        total = volumes.new_zeros(len(hosts))
        total.index_add_(0, tetrahedra.owner, tetrahedra.volumes)
        needed, volume = tetrahedra.needed, volumes[pending]
        whole = (total - volume).abs() < rules.VOLUME_ERROR * volume
        done = whole & (needed == 0.0)
        done |= (seed[pending] > rules.MOST_JITTERS) | (own > rules.LAST_REACH)
        voids = _voids_of(hosts, table, tetrahedra, done)
        parts.append(replace(voids, owner=pending[voids.owner]))
        longer = (needed + 2 * rules.CATION_MARGIN).maximum(1.15 * own)
        reach[pending] = torch.where(needed > 0.0, longer, own)
        seed[pending] += (needed == 0.0).long()
        pending = pending[~done]
    voids = _Voids.join(parts)
    return voids.select(voids.owner.argsort(stable=True))


def _walked(crystals: Crystals, reach: Tensor, seed: Tensor) -> tuple[NearTable, Tetrahedra]:
    """The atoms near the atoms of jittered hosts, and their tetrahedra."""
    positions = _jittered(crystals, seed)
    atoms = torch.arange(len(crystals.frac_coords), device=crystals.device)
    points = Points(crystals.wrapped, crystals.owner, atoms)
    near = within(crystals, crystals.wrapped, points, reach[crystals.owner]).by_distance()
    table = NearTable.of(crystals, positions, near)
    return table, walk(positions, table, reach - rules.CATION_MARGIN)


def _jittered(crystals: Crystals, seed: Tensor) -> Positions:
    """A strain and a step for every atom, from a fixed sequence."""
    device = crystals.device
    strength = rules.JITTER * torch.exp2(seed.double())
    k = torch.arange(3, device=device)
    later = 1009 * seed
    strain = _sway(9 * k[:, None] + 3 * k + 1 + later[:, None, None])
    cells = crystals.lattices + strength[:, None, None] * strain
    owner = crystals.owner
    number = torch.arange(len(owner), device=device) - crystals.offsets[owner]
    step = strength[owner, None] * _sway(31 * number[:, None] + 7 * k + 11 + later[owner][:, None])
    atoms = step + (crystals.wrapped[:, None] @ cells[owner])[:, 0]
    return Positions(cells, atoms, crystals.offsets)


def _sway(number: Tensor) -> Tensor:
    """A fixed number between -1 and 1 for an integer, without pattern."""
    f = torch.sin(12.9898 * number + 4.1414) * 43758.5453
    return 2.0 * (f - f.floor()) - 1.0


def _voids_of(crystals: Crystals, table: NearTable, tetrahedra: Tetrahedra, done: Tensor) -> _Voids:
    """Voids of the hosts that are done, from their tetrahedra as they are without the jitter."""
    true = Positions(
        crystals.lattices, (crystals.wrapped[:, None] @ crystals.lattices[crystals.owner])[:, 0],
        crystals.offsets,
    )  # fmt: skip
    owner, corners = tetrahedra.owner, tetrahedra.corners
    first = crystals.offsets[owner]
    margins = _margins(crystals)
    margin = margins[first[:, None] + (corners & ATOM)].max(1).values
    walls = true.vectors(owner, corners[:, 0], corners[:, 1:])
    lengths = walls.square().sum(2).sqrt().prod(1)
    firmness = _firmness(6.0 * tetrahedra.volumes / lengths)
    solid = done[owner] & (firmness > 0.0)
    # No void's clearance is less than its radius less the largest margin, nor more than its radius
    # less that of a corner: only a few can be the largest.
    least = largest(tetrahedra.radii[solid], owner[solid], len(crystals)) - rules.CATION_MARGIN
    solid &= tetrahedra.radii - margin >= least[owner] - weighing.WINDOW - 10 * rules.JITTER
    chosen = torch.nonzero(solid)[:, 0]
    owner, walls = owner[chosen], walls[chosen]
    atoms = first[chosen] + corners[chosen, 0]
    centers, _ = circumspheres(walls)
    radii = centers.square().sum(1).sqrt()
    frac = crystals.wrapped[atoms] + (centers[:, None] @ crystals.inverses[owner])[:, 0]
    return _Voids(
        owner, frac - frac.floor(), _clearances(table, crystals, margins, atoms, centers, radii),
        radii, firmness[chosen],
    )  # fmt: skip


def _firmness(volumes: Tensor) -> Tensor:
    """From 0 for four atoms in a plane to 1, by the volume of the directions to three of them."""
    step = torch.log(volumes.clamp_min(rules.FLAT) / rules.FLAT)
    step = (step / math.log(rules.FIRM / rules.FLAT)).clamp_max(1.0)
    return step.square() * (3.0 - 2.0 * step)


def _margins(crystals: Crystals) -> Tensor:
    """(a,) angstrom by which each atom counts as closer than it is."""
    by_number = torch.from_numpy(rules.MARGIN_BY_NUMBER).to(crystals.device)
    return by_number[crystals.atomic_numbers]


def _clearances(
    table: NearTable,
    crystals: Crystals,
    margins: Tensor,
    atoms: Tensor,
    centers: Tensor,
    radii: Tensor,
) -> Tensor:
    """(v,): least of distance less margin over the atoms around centres (v, 3) relative to atoms
    (v,), which are `radii` away.
    """
    first = crystals.offsets[crystals.owner[atoms]]
    found = radii - margins[atoms]
    size = torch.full_like(atoms, table.names.shape[1])
    for i, j in runs(size, at_once(atoms.device)):
        names = table.names[atoms[i:j]]
        distance = (table.exact[atoms[i:j]] - centers[i:j, None]).square().sum(2).sqrt()
        there = names != NOBODY
        margin = margins[first[i:j, None] + torch.where(there, names & ATOM, 0)]
        clearance = torch.where(there, distance - margin, torch.inf).min(1).values
        found[i:j] = found[i:j].minimum(clearance)
    return found


def _pairs(owner: Tensor, n_hosts: int) -> tuple[Tensor, Tensor]:
    """All pairs (later, earlier) of elements of one host, of elements by host."""
    sizes = torch.bincount(owner, minlength=n_hosts)
    first = offsets_of(sizes)[:-1][owner]
    number = torch.arange(len(owner), device=owner.device) - first
    return spans(first, number)


def _gaps(crystals: Crystals, voids: _Voids, one: Tensor, other: Tensor) -> Tensor:
    """(p,) angstrom between pairs of voids and their images; right where it is less than half of
    every plane spacing.
    """
    frac = voids.frac_coords[one] - voids.frac_coords[other]
    frac -= frac.round()
    return (frac[:, None] @ crystals.lattices[voids.owner[one]])[:, 0].square().sum(1).sqrt()


def _without_copies(crystals: Crystals, voids: _Voids) -> _Voids:
    """Of voids in the same place the first, as firm as the firmest."""
    later, earlier = _pairs(voids.owner, len(crystals))
    close = (voids.clearances[later] - voids.clearances[earlier]).abs() < weighing.COINCIDENT
    later, earlier = later[close], earlier[close]
    same = _gaps(crystals, voids, later, earlier) < weighing.COINCIDENT
    n = len(voids.owner)
    first = representatives(later[same], earlier[same], n)
    firmness = voids.firmness.scatter_reduce(0, first, voids.firmness, "amax")
    own = torch.arange(n, device=later.device)
    return replace(voids, firmness=firmness).select(first == own)


def _weighed(crystals: Crystals, voids: _Voids, top: Tensor) -> Sites:
    """Sites with their weights, see `void_weights.weigh`."""
    n_hosts = len(crystals)
    fade = 1.0 - (top[voids.owner] - voids.clearances) / weighing.WINDOW
    voids, fade = voids.select(fade > 0.0), fade[fade > 0.0]
    # The best stands for those like it.
    order = (-voids.clearances).argsort(stable=True)
    order = order[voids.owner[order].argsort(stable=True)]
    voids, fade = voids.select(order), fade[order]
    later, earlier = _pairs(voids.owner, n_hosts)
    gap = _gaps(crystals, voids, later, earlier)

    def crowd(amount: Tensor, least: Tensor, reach: float) -> Tensor:
        near = (1.0 - (gap / reach).square()).clamp_min(0.0).square()
        total = amount.index_add(0, later, amount[earlier] * near)
        return total.index_add(0, earlier, amount[later] * near).maximum(least)

    firmness = voids.firmness
    part = firmness / crowd(firmness, torch.ones_like(fade), weighing.SPLITTING_RANGE)
    weights = part * fade * fade / crowd(part * fade, fade, weighing.CROWDING_RANGE)
    alike = voids.clearances[earlier] - voids.clearances[later] < weighing.COINCIDENT / 10
    later, earlier = later[alike], earlier[alike]
    views = _views(crystals, voids, torch.cat((later, earlier)))
    same = (views[later] - views[earlier]).abs() < weighing.ALIKE * views[later]
    place = representatives(later[same], earlier[same], len(fade))
    weights = torch.zeros_like(fade).index_add_(0, place, weights)
    kept = torch.nonzero(place == torch.arange(len(place), device=place.device))[:, 0]
    voids, weights = voids.select(kept), weights[kept]
    total = weights.new_zeros(n_hosts).index_add_(0, voids.owner, weights)
    return Sites(
        torch.bincount(voids.owner, minlength=n_hosts), voids.frac_coords, voids.clearances,
        voids.distances, weights / total[voids.owner],
    )  # fmt: skip


def _views(crystals: Crystals, voids: _Voids, wanted: Tensor) -> Tensor:
    """(v,): a number that differs where the elements or distances around a void do; only for
    those wanted (indices, any number of times).
    """
    n = len(voids.owner)
    asked = torch.zeros(n, dtype=torch.bool, device=wanted.device)
    asked[wanted] = True
    which = torch.nonzero(asked)[:, 0]
    points = Points(voids.frac_coords[which], voids.owner[which], torch.full_like(which, -1))
    sight = voids.clearances.new_full((len(which),), weighing.SIGHT)
    near = within(crystals, crystals.wrapped, points, sight)
    marks = torch.from_numpy(rules.MARK_BY_NUMBER).to(wanted.device)
    part = (1.0 - near.squared / weighing.SIGHT**2).clamp_min(0.0).square()
    part *= marks[crystals.atomic_numbers[near.atom]]
    return part.new_zeros(n).index_add_(0, which[near.point], part)
