"""The atoms within a radius of points in many periodic cells at once.

For every point and atom the box of cell images that the radius can reach is tried, as the search
in numba does it and in the same order and arithmetic, so that ties fall alike.

Index letters: k points, p atoms near them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from voltscreen.graph.on_device.crystals import Crystals
from voltscreen.graph.on_device.ragged import at_once, offsets_of, runs, spans


@dataclass(frozen=True, slots=True)
class Points:
    """Points in cells. frac_coords: (k, 3) float64, fractional. owner: (k,) int64, the structure.
    atom: (k,) int64, the atom that the point is, or -1; it is not near itself.
    """

    frac_coords: Tensor
    owner: Tensor
    atom: Tensor

    def __len__(self) -> int:
        return len(self.owner)

    def select(self, which: Tensor) -> Points:
        """Those of these indices."""
        return Points(self.frac_coords[which], self.owner[which], self.atom[which])


@dataclass(frozen=True, slots=True)
class Near:
    """Atoms near points: point (p,), atom (p,) int64, index in the batch; image (p, 3) float64,
    whole cells; vector (p, 3) float64 from the point, and its square (p,), angstrom.
    """

    point: Tensor
    atom: Tensor
    image: Tensor
    vector: Tensor
    squared: Tensor

    def select(self, which: Tensor) -> Near:
        """Those of these indices or of this mask."""
        return Near(
            self.point[which], self.atom[which], self.image[which], self.vector[which],
            self.squared[which],
        )  # fmt: skip

    def by_distance(self) -> Near:
        """By point, the nearest first; equally near ones in the order they have."""
        order = self.squared.argsort(stable=True)
        return self.select(order[self.point[order].argsort(stable=True)])

    def counts(self, n_points: int) -> Tensor:
        """(n_points,) int64: atoms near each point."""
        return torch.bincount(self.point, minlength=n_points)


def within(crystals: Crystals, frac: Tensor, points: Points, radius: Tensor) -> Near:
    """All atoms and images within a radius of points, by point, atom and image.

    Args:
        crystals: b structures. frac: (a, 3), their coordinates, wrapped or not.
        points: k of them. radius: (k,) angstrom.
    """
    reach = radius[:, None] / crystals.spacings[points.owner]
    sizes = crystals.n_atoms[points.owner]
    limit = at_once(crystals.device)
    found = [
        _within(crystals, frac, points, radius, reach, first, last)
        for first, last in runs(sizes, limit)
    ]
    return _joined([part for parts in found for part in parts], crystals.lattices)


def _within(
    crystals: Crystals,
    frac: Tensor,
    points: Points,
    radius: Tensor,
    reach: Tensor,
    first: int,
    last: int,
) -> list[Near]:
    """Of the points from first to last."""
    owner = points.owner[first:last]
    point, atom = spans(crystals.offsets[owner], crystals.n_atoms[owner])
    point += first
    between = frac[atom] - points.frac_coords[point]
    low = torch.ceil(-reach[point] - between)
    images = (torch.floor(reach[point] - between) - low + 1.0).clamp_min_(0.0).long()
    sizes = images.prod(1)
    return [
        _of_pairs(
            crystals, points, radius, point[i:j], atom[i:j], between[i:j], low[i:j], images[i:j],
            sizes[i:j],
        )
        for i, j in runs(sizes, at_once(crystals.device))
    ]  # fmt: skip


def _of_pairs(
    crystals: Crystals,
    points: Points,
    radius: Tensor,
    point: Tensor,
    atom: Tensor,
    between: Tensor,
    low: Tensor,
    images: Tensor,
    sizes: Tensor,
) -> Near:
    """Of pairs of a point and an atom all images in reach, the last cell vector running fastest."""
    pair, number = spans(torch.zeros_like(sizes), sizes)
    count = images[pair]
    rest = number // count[:, 2]
    steps = torch.stack((rest // count[:, 1], rest % count[:, 1], number % count[:, 2]), 1)
    image = low[pair] + steps
    fraction = between[pair] + image
    point = point[pair]
    a, b, c = crystals.lattices[points.owner[point]].unbind(1)
    vector = fraction[:, :1] * a + fraction[:, 1:2] * b + fraction[:, 2:] * c
    x, y, z = vector.unbind(1)
    squared = x * x + y * y + z * z
    limit = radius[point]
    # The tiny margin keeps an atom exactly on the sphere inside it.
    inside = squared <= limit * limit * (1.0 + 1e-12)
    inside &= (atom[pair] != points.atom[point]) | (image != 0).any(1)
    kept = torch.nonzero(inside)[:, 0]
    return Near(point[kept], atom[pair[kept]], image[kept], vector[kept], squared[kept])


def _joined(parts: list[Near], like: Tensor) -> Near:
    if not parts:
        none = torch.zeros(0, dtype=torch.int64, device=like.device)
        return Near(none, none, like.new_zeros(0, 3), like.new_zeros(0, 3), like.new_zeros(0))
    if len(parts) == 1:
        return parts[0]
    return Near(
        torch.cat([part.point for part in parts]),
        torch.cat([part.atom for part in parts]),
        torch.cat([part.image for part in parts]),
        torch.cat([part.vector for part in parts]),
        torch.cat([part.squared for part in parts]),
    )


def grown(
    crystals: Crystals,
    frac: Tensor,
    points: Points,
    radius: Tensor,
    cutoff: float,
    enough: Callable[[Near, Tensor, Tensor], Tensor],
) -> Near:
    """The atoms near points, by point and distance, in spheres that grow until they are enough.

    Args:
        radius: (k,) angstrom, of the first spheres, at most the cutoff, where growth ends.
        enough: of the atoms near some points by distance, their counts (k',) and the radii (k',),
            whether each point has enough (k',) bool.
    """
    parts = []
    pending = torch.arange(len(points), device=crystals.device)
    while len(pending):
        near = within(crystals, frac, points.select(pending), radius).by_distance()
        done = enough(near, near.counts(len(pending)), radius) | (radius >= cutoff)
        if bool(done.all()):
            parts.append(_renumbered(near, pending))
            break
        parts.append(_renumbered(near.select(done[near.point]), pending))
        pending, radius = pending[~done], (1.25 * radius[~done]).clamp_max(cutoff)
    near = _joined(parts, crystals.lattices)
    return near if len(parts) <= 1 else near.select(near.point.argsort(stable=True))


def _renumbered(near: Near, points: Tensor) -> Near:
    return Near(points[near.point], near.atom, near.image, near.vector, near.squared)


def nth_distance(near: Near, counts: Tensor, n: int) -> Tensor:
    """(k,) angstrom: distance of the n-th atom of each point, infinite where there are not more
    than n; near by distance.
    """
    there = counts > n
    place = (offsets_of(counts)[:-1] + n - 1)[there]
    found = near.squared.new_full((len(counts),), torch.inf)
    found[there] = near.squared[place].sqrt()
    return found
