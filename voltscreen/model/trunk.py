"""The CGCNN trunk in plain torch: embedding, three gated convolutions, mean pool.

Xie and Grossman, PRL 120, 145301 (2018); eq. 1 of Zhang et al. for the convolution. This is the
readable reference, used for training and for inference.

Index letters: n atoms, m neighbours, f features, b structures.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from voltscreen.graph import GraphBatch, GraphSpec

N_FEATURES = 64
N_CONVOLUTIONS = 3


@dataclass(frozen=True, slots=True)
class GraphTensors:
    """A `GraphBatch` on a torch device.

    atomic_numbers: (n,) int64; neighbors: (n, m) int64; distances: (n, m) float32, angstrom;
    filled: (n, m) bool; structure_of_atom: (n,) int64; n_atoms: (b,) int64.
    """

    atomic_numbers: Tensor
    neighbors: Tensor
    distances: Tensor
    filled: Tensor
    structure_of_atom: Tensor
    n_atoms: Tensor

    @classmethod
    def from_batch(cls, batch: GraphBatch, device: torch.device) -> GraphTensors:
        """Copy a batch to a device."""
        n_atoms = torch.from_numpy(batch.n_atoms).to(device)
        return cls(
            atomic_numbers=torch.from_numpy(batch.atomic_numbers).to(device),
            neighbors=torch.from_numpy(batch.neighbors).to(device),
            distances=torch.from_numpy(batch.distances).to(device),
            filled=torch.from_numpy(batch.filled).to(device),
            structure_of_atom=torch.repeat_interleave(
                torch.arange(len(batch), device=device), n_atoms
            ),
            n_atoms=n_atoms,
        )


class GatedConvolution(nn.Module):
    """v_i <- softplus(v_i + BN(sum_j sigmoid(gate(z_ij)) * softplus(core(z_ij)))), eq. 1.

    z_ij = v_i + v_j + u_ij concatenated; gate and core are the two halves of one linear map with
    batch norm. Attribute names are those of the original code, so its weights load as they are.
    """

    def __init__(self, n_features: int, n_gaussians: int) -> None:
        super().__init__()
        self.fc_full = nn.Linear(2 * n_features + n_gaussians, 2 * n_features)
        self.bn1 = nn.BatchNorm1d(2 * n_features)
        self.bn2 = nn.BatchNorm1d(n_features)

    def forward(self, atoms: Tensor, edges: Tensor, neighbors: Tensor, filled: Tensor) -> Tensor:
        """One convolution.

        Args:
            atoms: (n, f); edges: (n, m, g); neighbors: (n, m) int64; filled: (n, m) bool.

        Returns:
            (n, f).
        """
        # W z_ij in three parts: the atom's and the neighbour's are computed once an atom.
        n_features = atoms.shape[1]
        w_self, w_neighbor, w_edge = torch.split(
            self.fc_full.weight, [n_features, n_features, edges.shape[2]], dim=1
        )
        mixed = functional.linear(edges, w_edge, self.fc_full.bias)
        mixed = mixed + functional.linear(atoms, w_self)[:, None, :]
        mixed = mixed + functional.linear(atoms, w_neighbor)[neighbors]
        if filled.all():
            gate, core = self.bn1(mixed.flatten(0, 1)).unflatten(0, neighbors.shape).chunk(2, 2)
            messages = torch.sigmoid(gate) * functional.softplus(core)
        else:
            # Empty slots must neither send a message nor count in the batch statistics.
            gate, core = self.bn1(mixed[filled]).chunk(2, 1)
            messages = atoms.new_zeros(*neighbors.shape, n_features)
            messages[filled] = torch.sigmoid(gate) * functional.softplus(core)
        return functional.softplus(atoms + self.bn2(messages.sum(dim=1)))


class Trunk(nn.Module):
    """Graphs to one vector an atom.

    Args:
        element_features: (101, 92) float32, node features by atomic number.
        graph_spec: rules of the graphs it takes; gives the Gaussians of the edge feature.
    """

    element_features: Tensor
    centers: Tensor

    def __init__(self, element_features: Tensor, graph_spec: GraphSpec) -> None:
        super().__init__()
        centers = torch.from_numpy(graph_spec.centers)
        self.register_buffer("element_features", element_features, persistent=False)
        self.register_buffer("centers", centers, persistent=False)
        self.gaussian_width = graph_spec.gaussian_step
        self.embedding = nn.Linear(element_features.shape[1], N_FEATURES)
        self.convs = nn.ModuleList(
            GatedConvolution(N_FEATURES, len(centers)) for _ in range(N_CONVOLUTIONS)
        )

    def forward(self, graph: GraphTensors) -> Tensor:
        """(n, 64): the vector of every atom after the last convolution."""
        shifted = (graph.distances[:, :, None] - self.centers) / self.gaussian_width
        edges = torch.exp(-shifted.square())
        atoms: Tensor = self.embedding(self.element_features[graph.atomic_numbers])
        for convolution in self.convs:
            atoms = convolution(atoms, edges, graph.neighbors, graph.filled)
        return atoms


def mean_pool(atoms: Tensor, graph: GraphTensors) -> Tensor:
    """(b, f): mean over the atoms of each structure of (n, f)."""
    total = atoms.new_zeros(len(graph.n_atoms), atoms.shape[1])
    total.index_add_(0, graph.structure_of_atom, atoms)
    return total / graph.n_atoms[:, None].to(atoms.dtype)
