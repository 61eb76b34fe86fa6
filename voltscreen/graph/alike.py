"""Atoms that the network cannot tell apart, as one node.

After three convolutions the vector of a node depends on its element and on the elements and
distances of what it sees over three steps. Most crystals are symmetric: half of the nodes of a
Materials Project structure have a twin, and of the edges of one node many lead at one distance to
twins. So a graph shrinks to its *kinds* of nodes, with what each kind stands for, and to about a
quarter of its edges, and gives the same vectors.

Twins are found by colour refinement: the colour of a node becomes a hash of its own and of the
multiset of (colour, distance) of its edges, once for every convolution. Weights follow from the
distances.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numba
import numpy as np
from numpy.typing import NDArray

from voltscreen.graph.batch import GraphBatch

STEP = 2e-6
"""Angstrom in which distances are compared: what the rounding of coordinates leaves of symmetry.
Distances of float32 are no better."""
ROUNDS = 3
"""Convolutions of the trunk."""

_PER_STEP = 1.0 / STEP


@dataclass(frozen=True, slots=True)
class Merged:
    """A batch with alike nodes merged.

    graphs: as the original, with the kinds of nodes as nodes; `counts` says for how many each
    stands. kind_of_node: (n,) int64, node of `graphs` that stands for each node of the original.
    """

    graphs: GraphBatch
    kind_of_node: NDArray[np.int64]


def merge_alike(batch: GraphBatch) -> Merged:
    """The same graphs with alike nodes of each structure merged into one."""
    keys = _distance_keys(batch.distances)
    kind_of_node, nodes, offsets = _kinds(
        batch.atomic_numbers, batch.offsets, batch.edge_offsets, batch.neighbors, keys
    )
    edge_offsets, neighbors, edges, weights = _kind_edges(
        kind_of_node, nodes, batch.edge_offsets, batch.neighbors, keys, batch.weights
    )
    numbers = batch.atomic_numbers[nodes]
    # Sites are the last nodes of a structure, in order, and so are their kinds.
    is_site = numbers == 0
    first = (np.cumsum(batch.atomic_numbers == 0) - 1)[nodes[is_site]]
    place = (np.cumsum(is_site) - 1)[kind_of_node[batch.atomic_numbers == 0]]
    site_weights = np.bincount(place, batch.site_weights, len(first)).astype(np.float32)
    counts = np.bincount(kind_of_node, batch.counts, len(nodes)).astype(np.int64)
    return Merged(
        replace(
            batch,
            atomic_numbers=numbers,
            offsets=offsets,
            n_sites=np.add.reduceat(is_site.astype(np.int64), offsets[:-1]),
            counts=counts,
            edge_offsets=edge_offsets,
            neighbors=neighbors,
            distances=batch.distances[edges],
            weights=weights,
            site_weights=site_weights,
            site_clearances=batch.site_clearances[first],
            site_distances=batch.site_distances[first],
        ),
        kind_of_node,
    )


@numba.njit(inline="always")
def _mix(x: np.uint64) -> np.uint64:
    """A hash of 64 bits (the finaliser of splitmix64, Steele et al., OOPSLA 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _refine(
    color: NDArray[np.uint64],
    refined: NDArray[np.uint64],
    keys: NDArray[np.uint64],
    edge_offsets: NDArray[np.int64],
    neighbors: NDArray[np.int64],
    first: int,
    last: int,
) -> None:
    """One round of colour refinement of the nodes from first to last, in place."""
    for i in range(first, last):
        total = _mix(color[i] + np.uint64(0x9E3779B97F4A7C15))
        for e in range(edge_offsets[i], edge_offsets[i + 1]):
            total += _mix(color[neighbors[e]] + keys[e])
        refined[i] = total
    for i in range(first, last):
        color[i] = refined[i]


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _distance_keys(distances: NDArray[np.float32]) -> NDArray[np.uint64]:
    """A hash of each distance in units of `STEP`."""
    keys = np.empty(len(distances), np.uint64)
    for e in range(len(distances)):
        keys[e] = _mix(np.uint64(distances[e] * _PER_STEP + 0.5))
    return keys


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _kinds(
    numbers: NDArray[np.int64],
    offsets: NDArray[np.int64],
    edge_offsets: NDArray[np.int64],
    neighbors: NDArray[np.int64],
    keys: NDArray[np.uint64],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Kind of each node (n,), first node of each kind (k,), offsets of the structures (b + 1,)."""
    n = len(numbers)
    color, refined = np.empty(n, np.uint64), np.empty(n, np.uint64)
    kind_of_node, nodes = np.empty(n, np.int64), np.empty(n, np.int64)
    kind_offsets = np.zeros(len(offsets), np.int64)
    table = np.empty(64, np.int64)  # open addressing
    n_kinds = 0
    for b in range(len(offsets) - 1):
        first, last = offsets[b], offsets[b + 1]
        for i in range(first, last):
            color[i] = _mix(np.uint64(numbers[i]))
        for _ in range(ROUNDS):
            _refine(color, refined, keys, edge_offsets, neighbors, first, last)
        while len(table) < 2 * (last - first):
            table = np.empty(2 * len(table), np.int64)
        table[:] = -1
        for i in range(first, last):
            slot = np.int64(color[i] & np.uint64(len(table) - 1))
            while table[slot] >= 0 and color[nodes[table[slot]]] != color[i]:
                slot = (slot + 1) % len(table)
            if table[slot] < 0:
                table[slot], nodes[n_kinds] = n_kinds, i
                n_kinds += 1
            kind_of_node[i] = table[slot]
        kind_offsets[b + 1] = n_kinds
    return kind_of_node, nodes[:n_kinds].copy(), kind_offsets


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _kind_edges(
    kind_of_node: NDArray[np.int64],
    nodes: NDArray[np.int64],
    edge_offsets: NDArray[np.int64],
    neighbors: NDArray[np.int64],
    keys: NDArray[np.uint64],
    weights: NDArray[np.float32],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Edges of each kind, those to one kind at one distance as one: offsets (k + 1,); and of
    each edge the kind that sends, an original edge that it stands for, and the sum of weights.
    """
    size = 0
    for i in nodes:
        size += edge_offsets[i + 1] - edge_offsets[i]
    kind_offsets = np.zeros(len(nodes) + 1, np.int64)
    senders, edges = np.empty(size, np.int64), np.empty(size, np.int64)
    total = np.empty(size, np.float32)
    count = 0
    for kind in range(len(nodes)):
        begin, i = count, nodes[kind]
        for e in range(edge_offsets[i], edge_offsets[i + 1]):
            sender = kind_of_node[neighbors[e]]
            at = begin
            while at < count and (senders[at] != sender or keys[edges[at]] != keys[e]):
                at += 1
            if at == count:
                senders[at], edges[at], total[at] = sender, e, 0.0
                count += 1
            total[at] += weights[e]
        kind_offsets[kind + 1] = count
    return kind_offsets, senders[:count], edges[:count], total[:count]
