"""What every readout offers: node vectors to voltages and their shares by atom and site."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from voltscreen.model.readout_kernels import products_by_owner
from voltscreen.model.trunk import GraphTensors

QUADRATURE_NODES = 8
"""They leave 0.01 mV of an atom's share on average and 2 mV at worst, far below what the model
knows."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What a readout makes of the nodes of a batch: the voltages, and what their shares need.

    pooled: (b, p) float64. voltages: (x, b) float64, volt.
    features: (a, f) float32, the atoms' own, whose means `pooled` begins with; a readout made of
    others leaves them to the parts and has none, f = 0.
    squares: (b, h) float64, squared distances to `Readout.training_hosts`, if it has them.
    parts: the readings of the readouts that this one is made of.
    """

    pooled: Tensor
    voltages: Tensor
    features: Tensor
    squares: Tensor | None = None
    parts: tuple[Reading, ...] = ()


@dataclass(frozen=True, slots=True)
class Shares:
    """`additive` local voltages: voltage = site + mean over the structure's atoms of atoms.

    atoms: (x, a) volt, atoms of the batch without the insertion sites. site: (x, b) volt.
    """

    atoms: Tensor
    site: Tensor


class Readout(nn.Module, ABC):
    """Pools node vectors and turns them into the voltage of every ion.

    Index letters: n nodes, a atoms, b structures, p pooled features, x ions.
    """

    n_pooled: int

    @property
    def training_hosts(self) -> NDArray[np.float32] | None:
        """(h, p') features of training hosts that the readout keeps for itself, if it does."""
        return None

    @abstractmethod
    def pool(self, nodes: Tensor, graph: GraphTensors) -> Tensor:
        """(b, p) pooled features of (n, 64) node vectors."""

    @abstractmethod
    def read(self, nodes: Tensor, graph: GraphTensors) -> Reading:
        """The voltages of a batch, from (n, 64) float32 node vectors."""

    @abstractmethod
    def voltages(self, pooled: Tensor, graph: GraphTensors) -> Tensor:
        """(x, b) volt, of pooled features (b, p) float64 alone."""

    @abstractmethod
    def shares(
        self, reading: Reading, graph: GraphTensors, baseline: Tensor, wanted: Tensor
    ) -> Shares:
        """Integrated gradients of the voltages (x, b) from a baseline (p,), by atom and site.

        Only those of wanted (x, b) bool need be right.

        Sundararajan, Taly, Yan, ICML 2017. On the straight line from baseline to pooled vector
        V(p) = V(p0) + sum_k (p_k - p0_k) g_k, where g is the mean gradient on the line; since
        the pooled features are means over atoms, the sum comes apart by atom.
        """


def quadrature() -> list[tuple[float, float]]:
    """Nodes between 0 and 1, and weights, of the Gauss-Legendre rule."""
    nodes, weights = np.polynomial.legendre.leggauss(QUADRATURE_NODES)
    return [
        (float(node), float(weight))
        for node, weight in zip((nodes + 1) / 2, weights / 2, strict=True)
    ]


def by_atom(features: Tensor, gradient: Tensor, owner: Tensor, wanted: Tensor) -> Tensor:
    """(x, a): products of the atoms' features (a, f) and the gradients (x, b, f) of their
    structures, owner (a,); only for those wanted (x, b).
    """
    if features.device.type == "cpu" and features.dtype == torch.float32:
        return _by_atom(features, gradient, owner, wanted)
    return torch.stack([(features * own[owner]).sum(dim=1) for own in gradient])


def _by_atom(features: Tensor, gradient: Tensor, owner: Tensor, wanted: Tensor) -> Tensor:
    local = torch.zeros(len(gradient), len(features))
    arrays = (features, gradient, owner, wanted, local)
    products_by_owner(*(tensor.contiguous().numpy() for tensor in arrays))
    return local


def share_evenly(local: Tensor, site: Tensor, voltages: Tensor, graph: GraphTensors) -> Shares:
    """Shares whose sum is the voltage: what the quadrature leaves goes to all.

    Args:
        local: (x, a) volt; site and voltages: (x, b) volt.
    """
    atoms = ~graph.is_site
    local, site = local.to(voltages.dtype), site.to(voltages.dtype)
    owner, counts = graph.structure_of_node[atoms], graph.counts[atoms].to(local.dtype)
    mean = local.new_zeros(voltages.shape).index_add_(1, owner, local * counts) / graph.n_atoms
    return Shares(local + (voltages - site - mean)[:, owner], site)
