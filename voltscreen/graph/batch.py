"""`GraphBatch`: the graphs of many crystals in one set of arrays."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from voltscreen.graph.neighbors import (
    nearest_neighbors,
    original_neighbors,
    shared_neighbors,
)
from voltscreen.graph.spec import GraphSpec
from voltscreen.structures import PackedStructure
from voltscreen.structures.insertion_sites import InsertionSites, insertion_sites


@dataclass(frozen=True, slots=True)
class GraphBatch:
    """Crystal graphs, one structure after another. b structures, n nodes, e edges, s sites.

    The nodes of a structure are its atoms, in their order, then its insertion sites. Edges lead
    from a neighbour to the node that receives; those of one node stand together.

    spec: the rules they were built by.
    atomic_numbers: (n,) int64; 0 for an insertion site.
    offsets: (b + 1,) int64, first node of each structure.
    n_sites: (b,) int64, insertion sites of each structure; 0 without them in the spec.
    counts: (n,) int64, nodes that each one stands for; 1 unless alike ones were merged.
    edge_offsets: (n + 1,) int64, first edge of each node; a node may have none.
    neighbors: (e,) int64, node that sends. distances: (e,) float32, angstrom.
    weights: (e,) float32, 0 to 1: the share of a place that the neighbour holds.
    site_weights, site_clearances, site_distances: (s,) float32; weights add up to 1 in each
        structure, clearance and distance to the nearest atom in angstrom.
    volumes: (b,) float64, of the cell, cubic angstrom.
    """

    spec: GraphSpec
    atomic_numbers: NDArray[np.int64]
    offsets: NDArray[np.int64]
    n_sites: NDArray[np.int64]
    counts: NDArray[np.int64]
    edge_offsets: NDArray[np.int64]
    neighbors: NDArray[np.int64]
    distances: NDArray[np.float32]
    weights: NDArray[np.float32]
    site_weights: NDArray[np.float32]
    site_clearances: NDArray[np.float32]
    site_distances: NDArray[np.float32]
    volumes: NDArray[np.float64]

    @property
    def n_nodes(self) -> NDArray[np.int64]:
        """(b,) int64: nodes of each structure."""
        return np.diff(self.offsets)

    @property
    def n_atoms(self) -> NDArray[np.int64]:
        """(b,) int64: atoms of each structure."""
        atoms = np.where(self.atomic_numbers > 0, self.counts, 0)
        return np.add.reduceat(atoms, self.offsets[:-1])

    @property
    def n_undercoordinated(self) -> NDArray[np.int64]:
        """(b,) int64: atoms of each structure with fewer neighbours than places."""
        n_nodes = len(self.atomic_numbers)
        receiver = np.repeat(np.arange(n_nodes), np.diff(self.edge_offsets))
        held = np.bincount(receiver, self.weights, n_nodes)
        short = (held < self.spec.n_neighbors - 1e-3) & (self.atomic_numbers > 0)
        return np.add.reduceat(np.where(short, self.counts, 0), self.offsets[:-1])

    @property
    def isolated_atom(self) -> NDArray[np.int64]:
        """(b,) int64: first atom of each structure that no other atom is near, or -1."""
        near = np.concatenate(([0], np.cumsum(self.atomic_numbers[self.neighbors] > 0)))
        alone = (np.diff(near[self.edge_offsets]) == 0) & (self.atomic_numbers > 0)
        found = np.full(len(self), -1, np.int64)
        nodes = np.flatnonzero(alone)[::-1]  # the first of a structure is written last
        owner = np.searchsorted(self.offsets, nodes, side="right") - 1
        found[owner] = nodes - self.offsets[owner]
        return found

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def select(self, which: NDArray[np.int64]) -> GraphBatch:
        """The graphs of these structures (indices into the batch), in that order."""
        nodes, offsets = _ranges(self.offsets, which)
        edges, edge_offsets = _ranges(self.edge_offsets, nodes)
        site_offsets = np.concatenate(([0], np.cumsum(self.n_sites)))
        sites, _ = _ranges(site_offsets, which)
        # A neighbour keeps its place in its structure.
        shift = np.repeat(self.offsets[which] - offsets[:-1], np.diff(offsets))
        return GraphBatch(
            spec=self.spec,
            atomic_numbers=self.atomic_numbers[nodes],
            offsets=offsets,
            n_sites=self.n_sites[which],
            counts=self.counts[nodes],
            edge_offsets=edge_offsets,
            neighbors=self.neighbors[edges] - np.repeat(shift, np.diff(edge_offsets)),
            distances=self.distances[edges],
            weights=self.weights[edges],
            site_weights=self.site_weights[sites],
            site_clearances=self.site_clearances[sites],
            site_distances=self.site_distances[sites],
            volumes=self.volumes[which],
        )


def _ranges(
    offsets: NDArray[np.int64], which: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices of the members of these groups, and the offsets of the groups among them."""
    sizes = np.diff(offsets)[which]
    chosen = np.concatenate(([0], np.cumsum(sizes)))
    return np.arange(chosen[-1]) + np.repeat(offsets[which] - chosen[:-1], sizes), chosen


def build_graphs(structures: Sequence[PackedStructure], spec: GraphSpec) -> GraphBatch:
    """The graphs of structures, in their order.

    Args:
        structures: at least one, checked ones (finite, with volume and without overlaps).
        spec: the rules.
    """
    sites = insertion_sites(structures) if spec.insertion_sites else None
    n_atoms = np.array([len(structure) for structure in structures], dtype=np.int64)
    n_sites = np.diff(sites.offsets) if sites else np.zeros(len(structures), np.int64)
    offsets = np.concatenate(([0], np.cumsum(n_atoms + n_sites)))
    counts, neighbors, distances, weights = (
        _original(structures, spec) if spec.original_order else _search(structures, sites, spec)
    )
    numbers = np.zeros(offsets[-1], np.int64)
    atoms = np.arange(n_atoms.sum()) + np.repeat(offsets[:-1] - _starts(n_atoms), n_atoms)
    numbers[atoms] = np.concatenate([structure.atomic_numbers for structure in structures])
    empty = np.zeros(0, np.float32)
    return GraphBatch(
        spec=spec,
        atomic_numbers=numbers,
        offsets=offsets,
        n_sites=n_sites,
        counts=np.ones(len(numbers), np.int64),
        edge_offsets=np.concatenate(([0], np.cumsum(counts))),
        neighbors=neighbors,
        distances=distances,
        weights=weights,
        site_weights=sites.weight.astype(np.float32) if sites else empty,
        site_clearances=sites.clearance.astype(np.float32) if sites else empty,
        site_distances=sites.distance.astype(np.float32) if sites else empty,
        volumes=np.array([structure.volume for structure in structures]),
    )


_Edges = tuple[
    NDArray[np.int64], NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]
]  # edges of each node; neighbours, distances, weights of each edge


def _search(
    structures: Sequence[PackedStructure], sites: InsertionSites | None, spec: GraphSpec
) -> _Edges:
    lattices = np.stack([structure.lattice for structure in structures])
    frac = np.concatenate([structure.frac_coords for structure in structures])
    atom_offsets = np.concatenate(([0], np.cumsum([len(s) for s in structures], dtype=np.int64)))
    if spec.shell_width:
        none = np.zeros(len(structures) + 1, np.int64)
        counts, neighbors, distances, weights = shared_neighbors(
            lattices,
            frac,
            atom_offsets,
            sites.frac_coords if sites else np.zeros((0, 3)),
            sites.offsets if sites else none,
            spec.n_neighbors,
            spec.cutoff,
            spec.shell_width,
        )
        return counts, neighbors, distances, weights
    shape = (int(atom_offsets[-1]), spec.n_neighbors)
    counts = np.zeros(shape[0], np.int64)
    slots = np.zeros(shape, np.int64)
    lengths = np.zeros(shape, np.float32)
    nearest_neighbors(lattices, frac, atom_offsets, spec.cutoff, slots, lengths, counts)
    return _filled(slots, lengths, counts)


def _original(structures: Sequence[PackedStructure], spec: GraphSpec) -> _Edges:
    parts = []
    first = 0
    for structure in structures:
        slots, lengths, counts = original_neighbors(structure, spec.cutoff, spec.n_neighbors)
        parts.append((slots + first, lengths, counts))
        first += len(structure)
    slots, lengths, counts = (np.concatenate(part) for part in zip(*parts, strict=True))
    return _filled(slots, lengths.astype(np.float32), counts)


def _filled(
    slots: NDArray[np.int64], lengths: NDArray[np.float32], counts: NDArray[np.int64]
) -> _Edges:
    """The filled ones of (n, m) slots as edges of weight 1."""
    filled = np.arange(slots.shape[1]) < counts[:, None]
    return counts, slots[filled], lengths[filled], np.ones(int(counts.sum()), np.float32)


def _starts(sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate(([0], np.cumsum(sizes)[:-1]))


def chunks_of_atoms(n_atoms: NDArray[np.int64], limit: int) -> Iterator[NDArray[np.int64]]:
    """Runs of consecutive structures with at most `limit` atoms (or one structure) each.

    The runs are about equally long: a short one at the end would cost more than its share.

    Args:
        n_atoms: (b,) atoms of each structure.
        limit: atoms.
    """
    total = int(n_atoms.sum())
    share = total / max(-(-total // limit), 1)
    start, inside, passed, number = 0, 0, 0, 0
    for index, size in enumerate(n_atoms.tolist()):
        # The share that the middle of the structure falls into when all atoms stand in a row.
        place = int((passed + size / 2) / share) if share else 0
        if inside and (place > number or inside + size > limit):
            yield np.arange(start, index)
            start, inside = index, 0
        number = place
        inside += size
        passed += size
    if len(n_atoms):
        yield np.arange(start, len(n_atoms))
