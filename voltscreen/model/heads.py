"""Ion heads: pooled features to the voltage of every ion."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from voltscreen.model.readout import (
    Reading,
    Readout,
    Shares,
    by_atom,
    quadrature,
    share_evenly,
)
from voltscreen.model.trunk import GraphTensors, mean_pool

N_HIDDEN = 128


class IonHeads(Readout):
    """One two-layer head an ion, 64 -> 128 -> 1, evaluated for all ions at once.

    V = mean + scale * (W2 softplus(W1 softplus(p) + b1) + b2), the original's readout with its
    normaliser, where p is the pooled vector.

    w1: (ions, f, h); b1: (ions, h); w2: (ions, h); b2: (ions,); mean and scale: (ions,), volt.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, n_ions: int, n_features: int = 64, n_hidden: int = N_HIDDEN) -> None:
        super().__init__()
        self.n_pooled = n_features
        bound1, bound2 = n_features**-0.5, n_hidden**-0.5
        self.w1 = nn.Parameter(torch.empty(n_ions, n_features, n_hidden).uniform_(-bound1, bound1))
        self.b1 = nn.Parameter(torch.empty(n_ions, n_hidden).uniform_(-bound1, bound1))
        self.w2 = nn.Parameter(torch.empty(n_ions, n_hidden).uniform_(-bound2, bound2))
        self.b2 = nn.Parameter(torch.empty(n_ions).uniform_(-bound2, bound2))
        self.register_buffer("mean", torch.zeros(n_ions))
        self.register_buffer("scale", torch.ones(n_ions))

    def forward(self, pooled: Tensor) -> Tensor:
        """Voltages.

        Args:
            pooled: (b, f) for all ions, or (ions, b, f) with a vector of its own for each.

        Returns:
            (ions, b), volt.
        """
        hidden = torch.matmul(functional.softplus(pooled), self.w1) + self.b1[:, None, :]
        output = torch.einsum("xbh,xh->xb", functional.softplus(hidden), self.w2)
        return self.mean[:, None] + self.scale[:, None] * (output + self.b2[:, None])

    def gradient(self, pooled: Tensor) -> Tensor:
        """dV/dp in closed form.

        Args:
            pooled: (b, f).

        Returns:
            (ions, b, f), volt per unit of feature.
        """
        hidden = torch.matmul(functional.softplus(pooled), self.w1) + self.b1[:, None, :]
        weighted = torch.sigmoid(hidden) * (self.w2 * self.scale[:, None])[:, None, :]
        return torch.matmul(weighted, self.w1.transpose(1, 2)) * torch.sigmoid(pooled)

    def pool(self, nodes: Tensor, graph: GraphTensors) -> Tensor:
        """(b, 64): the mean over the atoms."""
        return mean_pool(nodes, graph)

    def read(self, nodes: Tensor, graph: GraphTensors) -> Reading:
        """See `Readout.read`."""
        pooled = self.pool(nodes.double(), graph)
        return Reading(pooled, self.voltages(pooled, graph), nodes[~graph.is_site].float())

    def voltages(self, pooled: Tensor, graph: GraphTensors) -> Tensor:
        """(ions, b), volt."""
        del graph
        voltages: Tensor = self(pooled)
        return voltages

    def shares(
        self, reading: Reading, graph: GraphTensors, baseline: Tensor, wanted: Tensor
    ) -> Shares:
        """V_i = V(p0) + (v_i - p0) . g, whose mean is V; nothing belongs to a site."""
        pooled, voltages = reading.pooled, reading.voltages
        gradient = pooled.new_zeros(len(self.mean), *pooled.shape)
        for node, weight in quadrature():
            gradient += weight * self.gradient(baseline + node * (pooled - baseline))
        owner = graph.structure_of_node[~graph.is_site]
        local = by_atom(reading.features - baseline.float(), gradient.float(), owner, wanted)
        local = local + self(baseline[None])
        return share_evenly(local, torch.zeros_like(voltages), voltages, graph)
