"""Neighbours of atoms and insertion sites by the rules of a `GraphSpec`, with torch operations.

Index letters: k nodes, m places, p atoms near nodes, e edges.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from voltscreen.graph.on_device.crystals import Crystals
from voltscreen.graph.on_device.near import Points, grown, nth_distance
from voltscreen.graph.on_device.ragged import at_once, offsets_of, runs
from voltscreen.graph.spec import GraphSpec


@dataclass(frozen=True, slots=True)
class Edges:
    """Edges by the node that receives. counts: (k,) int64 of each node; atoms: (e,) int64, the
    atom that sends, index in the batch; distances: (e,) float64, angstrom; weights: (e,) float64.
    """

    counts: Tensor
    atoms: Tensor
    distances: Tensor
    weights: Tensor


def find_edges(crystals: Crystals, nodes: Points, spec: GraphSpec) -> Edges:
    """The edges of nodes from their neighbours.

    Args:
        crystals: b structures.
        nodes: atoms and insertion sites; coordinates of atoms wrapped for shared places, as they
            are otherwise.
        spec: of any kind but `original_order`.
    """
    room = crystals.volumes / crystals.n_atoms
    sphere = 3.0 * 2 * spec.n_neighbors / (4.0 * math.pi) * room
    radius = sphere.pow(1.0 / 3.0).clamp_max(spec.cutoff)[nodes.owner]
    if spec.shell_width:
        return _shared(crystals, nodes, radius, spec)
    return _nearest(crystals, nodes, radius, spec)


def _nearest(crystals: Crystals, nodes: Points, radius: Tensor, spec: GraphSpec) -> Edges:
    n = spec.n_neighbors
    near = grown(
        crystals, crystals.frac_coords, nodes, radius, spec.cutoff,
        lambda _near, counts, _radius: counts >= n,
    )  # fmt: skip
    counts = near.counts(len(nodes))
    rank = torch.arange(len(near.point), device=crystals.device)
    rank -= offsets_of(counts)[:-1][near.point]
    near = near.select(rank < n)
    return Edges(counts.clamp_max(n), near.atom, near.squared.sqrt(), torch.ones_like(near.squared))


def _shared(crystals: Crystals, nodes: Points, radius: Tensor, spec: GraphSpec) -> Edges:
    n, width, cutoff = spec.n_neighbors, spec.shell_width, spec.cutoff
    near = grown(
        crystals, crystals.wrapped, nodes, radius, cutoff,
        lambda near, counts, radius: nth_distance(near, counts, n) + width <= radius,
    )  # fmt: skip
    counts = near.counts(len(nodes))
    # The shared shell ends at most its width beyond the last place.
    end = nth_distance(near, counts, n) + width
    distances = near.squared.sqrt()
    kept = distances < end[near.point]
    near, distances = near.select(kept), distances[kept]
    edge = shell_edges(distances, near.counts(len(nodes)), n, width)[near.point]
    weights = ((edge - distances) / width).clamp_max(1.0)
    weights = torch.minimum(weights, (cutoff - distances) / width)
    held = weights > 0.0
    return Edges(
        near.select(held).counts(len(nodes)), near.atom[held], distances[held], weights[held]
    )


def shell_edges(distances: Tensor, counts: Tensor, n: int, width: float) -> Tensor:
    """(k,): R with sum_j clip((R - d_j) / width, 0, 1) = n; infinite with at most n neighbours.

    The sum is piecewise linear in R with corners at d_j and d_j + width. Between two corners the
    first p neighbours hold a place each and the next q - p a share, so that
    R = (width (n - p) + d_(p+1) + ... + d_q) / (q - p): exact, and without iteration.

    Args:
        distances: (p,) angstrom, by node, the nearest first. counts: (k,), of each node.
        n: places. width: angstrom.
    """
    found = distances.new_full((len(counts),), torch.inf)
    nodes = torch.nonzero(counts > n)[:, 0]
    if not len(nodes):
        return found
    starts = offsets_of(counts)[:-1]
    sizes = counts[nodes]
    most = int(sizes.max())
    for first, last in runs(torch.full_like(nodes, 2 * most), at_once(distances.device)):
        own = nodes[first:last]
        slot = torch.arange(most, device=distances.device)
        filled = slot < counts[own][:, None]
        place = (starts[own][:, None] + slot).clamp_(max=len(distances) - 1)
        found[own] = _shell_edges(torch.where(filled, distances[place], torch.inf), n, width)
    return found


def _shell_edges(distances: Tensor, n: int, width: float) -> Tensor:
    """(k,), of rows (k, m), ascending and filled with infinity behind; more than n are there."""
    finite = torch.where(distances.isinf(), 0.0, distances)
    sums = torch.nn.functional.pad(finite.cumsum(1), (1, 0))
    ends = distances + width
    corners = torch.cat((distances, ends), dim=1)
    whole = torch.searchsorted(ends, corners, right=True)
    begun = torch.searchsorted(distances, corners, right=True)
    shared = begun - whole
    part = shared * corners - (sums.gather(1, begun) - sums.gather(1, whole))
    total = torch.where(corners.isinf(), torch.inf, whole + part / width)
    # Where rounding leaves it open on which side of a corner the solution is, both give it.
    below = torch.where(total <= n, corners, -torch.inf).max(1).indices[:, None]
    p, q = whole.gather(1, below), begun.gather(1, below)
    room = width * (n - p) + sums.gather(1, q) - sums.gather(1, p)
    return (room / (q - p))[:, 0]
