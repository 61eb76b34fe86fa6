"""Several trunks and readouts as one: side by side, and their mean."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from voltscreen.model.readout import Reading, Readout, Shares
from voltscreen.model.trunk import N_FEATURES, GraphTensors, Trunk


class Trunks(nn.Module):
    """Trunks side by side: (n, 64 k) vectors, those of the k-th trunk in the k-th place."""

    def __init__(self, trunks: Sequence[Trunk]) -> None:
        super().__init__()
        self.trunks = nn.ModuleList(trunks)

    @property
    def edge_norm(self) -> bool:
        """Of every trunk alike."""
        return self.each[0].edge_norm

    @property
    def n_features(self) -> int:
        """Numbers in the vector of a node."""
        return sum(trunk.n_features for trunk in self.each)

    @property
    def each(self) -> list[Trunk]:
        """The trunks."""
        return [trunk for trunk in self.trunks if isinstance(trunk, Trunk)]

    def elements(self, atomic_numbers: Tensor) -> Tensor:
        """(k, 64 k): the embeddings of elements."""
        return torch.cat([trunk.elements(atomic_numbers) for trunk in self.each], dim=1)

    def forward(self, graph: GraphTensors) -> Tensor:
        """(n, 64 k): the vectors of every node."""
        return torch.cat([trunk(graph) for trunk in self.each], dim=1)


class MeanReadout(Readout):
    """The mean of readouts, each of a trunk of its own in the same place.

    Pooled vectors stand side by side as node vectors do. A mean of integrated gradients is that of
    the mean, so that local voltages are means, too.
    """

    def __init__(self, parts: Sequence[Readout]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)
        self.n_pooled = sum(part.n_pooled for part in parts)

    @property
    def training_hosts(self) -> NDArray[np.float32] | None:
        """Of the last part."""
        found: NDArray[np.float32] | None = self._parts[-1].training_hosts
        return found

    def pool(self, nodes: Tensor, graph: GraphTensors) -> Tensor:
        """(b, p) pooled features of (n, 64 k) node vectors."""
        return torch.cat([part.pool(own, graph) for part, own in self._each(nodes)], dim=1)

    def read(self, nodes: Tensor, graph: GraphTensors) -> Reading:
        """The mean of the parts' readings; distances are those of the last part."""
        parts = tuple(part.read(own, graph) for part, own in self._each(nodes))
        return Reading(
            pooled=torch.cat([part.pooled for part in parts], dim=1),
            voltages=torch.stack([part.voltages for part in parts]).mean(0),
            features=nodes[:, :0],
            squares=parts[-1].squares,
            parts=parts,
        )

    def voltages(self, pooled: Tensor, graph: GraphTensors) -> Tensor:
        """(x, b) volt."""
        every = zip(self._parts, self._split(pooled), strict=True)
        return torch.stack([part.voltages(own, graph) for part, own in every]).mean(0)

    def shares(
        self, reading: Reading, graph: GraphTensors, baseline: Tensor, wanted: Tensor
    ) -> Shares:
        """Means of the parts' shares."""
        found = [
            part.shares(own, graph, p0, wanted)
            for part, own, p0 in zip(self._parts, reading.parts, self._split(baseline), strict=True)
        ]
        return Shares(
            torch.stack([own.atoms for own in found]).mean(0),
            torch.stack([own.site for own in found]).mean(0),
        )

    @property
    def _parts(self) -> list[Readout]:
        return [part for part in self.parts if isinstance(part, Readout)]

    def _each(self, nodes: Tensor) -> list[tuple[Readout, Tensor]]:
        return list(
            zip(
                self._parts,
                nodes.split_with_sizes([N_FEATURES] * len(self.parts), dim=1),
                strict=True,
            )
        )

    def _split(self, pooled: Tensor) -> tuple[Tensor, ...]:
        return pooled.split_with_sizes([part.n_pooled for part in self._parts], dim=-1)
