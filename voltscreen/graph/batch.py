"""`GraphBatch`: the graphs of many crystals in one set of arrays."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from voltscreen.graph.neighbors import nearest_neighbors, original_neighbors
from voltscreen.graph.spec import GraphSpec
from voltscreen.structures import PackedStructure


@dataclass(frozen=True, slots=True)
class GraphBatch:
    """Crystal graphs, one structure after another. b structures, n atoms, m neighbour slots.

    spec: the rules they were built by.
    atomic_numbers: (n,) int64.
    neighbors: (n, m) int64, index of the neighbour in the batch; the atom itself where the
        slot is empty, so that it is always a valid index into the same structure.
    distances: (n, m) float32, angstrom; 0 where the slot is empty.
    filled: (n, m) bool, False where an atom has fewer than m neighbours within the cutoff.
        Empty slots send no message.
    offsets: (b + 1,) int64, first atom of each structure.
    """

    spec: GraphSpec
    atomic_numbers: NDArray[np.int64]
    neighbors: NDArray[np.int64]
    distances: NDArray[np.float32]
    filled: NDArray[np.bool_]
    offsets: NDArray[np.int64]

    @property
    def n_atoms(self) -> NDArray[np.int64]:
        """(b,) int64: atoms of each structure."""
        return np.diff(self.offsets)

    @property
    def n_undercoordinated(self) -> NDArray[np.int64]:
        """(b,) int64: atoms of each structure with fewer neighbours than slots."""
        short = ~self.filled.all(axis=1)
        return np.add.reduceat(short.astype(np.int64), self.offsets[:-1])

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def select(self, which: NDArray[np.int64]) -> GraphBatch:
        """The graphs of these structures (indices into the batch), in that order."""
        sizes = self.n_atoms[which]
        offsets = np.concatenate(([0], np.cumsum(sizes)))
        shift = np.repeat(self.offsets[which] - offsets[:-1], sizes)
        atoms = np.arange(offsets[-1]) + shift
        return GraphBatch(
            spec=self.spec,
            atomic_numbers=self.atomic_numbers[atoms],
            neighbors=self.neighbors[atoms] - shift[:, None],
            distances=self.distances[atoms],
            filled=self.filled[atoms],
            offsets=offsets,
        )


def build_graphs(structures: Sequence[PackedStructure], spec: GraphSpec) -> GraphBatch:
    """The graphs of structures, in their order.

    Args:
        structures: at least one, checked ones (finite, with volume and without overlaps).
        spec: the rules.
    """
    sizes = [len(structure) for structure in structures]
    offsets = np.concatenate(([0], np.cumsum(sizes, dtype=np.int64)))
    shape = (int(offsets[-1]), spec.n_neighbors)
    counts = np.zeros(shape[0], np.int32)
    distances = np.zeros(shape, np.float32)
    if spec.original_order:
        neighbors = np.zeros(shape, np.int64)
        for first, last, structure in zip(offsets, offsets[1:], structures, strict=False):
            found = original_neighbors(structure, spec.cutoff, spec.n_neighbors)
            neighbors[first:last] = found[0] + first
            distances[first:last], counts[first:last] = found[1], found[2]
    else:
        compact = np.zeros(shape, np.int32)
        nearest_neighbors(
            np.stack([structure.lattice for structure in structures]),
            np.concatenate([structure.frac_coords for structure in structures]),
            offsets,
            spec.cutoff,
            compact,
            distances,
            counts,
        )
        neighbors = compact.astype(np.int64)
    filled = np.arange(spec.n_neighbors) < counts[:, None]
    return GraphBatch(
        spec=spec,
        atomic_numbers=np.concatenate(
            [structure.atomic_numbers for structure in structures]
        ).astype(np.int64),
        neighbors=np.where(filled, neighbors, np.arange(shape[0])[:, None]),
        distances=np.where(filled, distances, np.float32(0.0)),
        filled=filled,
        offsets=offsets,
    )


def chunks_of_atoms(n_atoms: NDArray[np.int64], limit: int) -> Iterator[NDArray[np.int64]]:
    """Runs of consecutive structures with at most `limit` atoms (or one structure) each.

    Args:
        n_atoms: (b,) atoms of each structure.
        limit: atoms.
    """
    start, total = 0, 0
    for index, size in enumerate(n_atoms):
        if total and total + size > limit:
            yield np.arange(start, index)
            start, total = index, 0
        total += int(size)
    if len(n_atoms):
        yield np.arange(start, len(n_atoms))
