"""Atoms that the network cannot tell apart, as one node: `merge_alike` on a device.

See `graph/alike.py`; colours, their rounds and what is merged are the same.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from voltscreen.graph.alike import ROUNDS, STEP
from voltscreen.graph.on_device.build import DeviceGraphs
from voltscreen.graph.on_device.hashing import mixed, signed
from voltscreen.graph.on_device.ragged import offsets_of, owners, spans, sums

_NEXT_ROUND = signed(0x9E3779B97F4A7C15)
_OTHER = signed(0xD6E8FEB86659FD93)


@dataclass(frozen=True, slots=True)
class DeviceMerged:
    """Graphs with alike nodes merged, as `Merged` has them. kind_of_node: (n,) int64, node of
    `graphs` that stands for each node of the original.
    """

    graphs: DeviceGraphs
    kind_of_node: Tensor


def merge_alike_on_device(graphs: DeviceGraphs) -> DeviceMerged:
    """The same graphs with alike nodes of each structure merged into one."""
    steps = mixed((graphs.distances.double() / STEP + 0.5).long())
    structure = graphs.structure_of_node
    color = _colors(graphs, steps)
    nodes, kind_of_node = _distinct(mixed(color + structure * _OTHER))
    sizes = graphs.edge_offsets.diff()[nodes]
    kind, edges = spans(graphs.edge_offsets[nodes], sizes)
    sender = kind_of_node[graphs.neighbors[edges]]
    chosen, place = _distinct(mixed(steps[edges] + kind * _NEXT_ROUND + mixed(sender * _OTHER)))
    weights = sums(graphs.weights[edges], place, len(chosen))
    numbers = graphs.atomic_numbers[nodes]
    # Sites are the last nodes of a structure, in order, and so are their kinds.
    was_site, is_site = graphs.atomic_numbers == 0, numbers == 0
    first = (was_site.cumsum(0) - 1)[nodes[is_site]]
    site = (is_site.cumsum(0) - 1)[kind_of_node[was_site]]
    n_kinds = torch.bincount(structure[nodes], minlength=len(graphs))
    return DeviceMerged(
        replace(
            graphs,
            atomic_numbers=numbers,
            offsets=offsets_of(n_kinds),
            n_sites=torch.bincount(structure[nodes[is_site]], minlength=len(graphs)),
            counts=sums(graphs.counts, kind_of_node, len(nodes)),
            edge_offsets=offsets_of(torch.bincount(kind[chosen], minlength=len(nodes))),
            neighbors=sender[chosen],
            distances=graphs.distances[edges[chosen]],
            weights=weights,
            site_weights=sums(graphs.site_weights, site, len(first)),
            site_clearances=graphs.site_clearances[first],
            site_distances=graphs.site_distances[first],
        ),
        kind_of_node,
    )


def _colors(graphs: DeviceGraphs, steps: Tensor) -> Tensor:
    """(n,) int64, of colour refinement; steps: (e,), hashes of the distances."""
    receivers = owners(graphs.edge_offsets.diff())
    color = mixed(graphs.atomic_numbers)
    for _ in range(ROUNDS):
        seen = mixed(color[graphs.neighbors] + steps)
        color = mixed(color + _NEXT_ROUND).index_add_(0, receivers, seen)
    return color


def _distinct(keys: Tensor) -> tuple[Tensor, Tensor]:
    """Index (u,) of the first of each group of equal keys (k,), ascending, and the number (k,) of
    its group among them.
    """
    ordered, index = keys.sort(stable=True)
    begins = torch.ones_like(ordered, dtype=torch.bool)
    begins[1:] = ordered[1:] != ordered[:-1]
    first, order = index[begins].sort()
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order), device=keys.device)
    number = torch.empty_like(index)
    number[index] = rank[begins.cumsum(0) - 1]
    return first, number
