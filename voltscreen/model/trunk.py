"""The CGCNN trunk in plain torch: embedding, three gated convolutions.

Xie and Grossman, PRL 120, 145301 (2018); eq. 1 of Zhang et al. for the convolution. This is the
readable reference; on the CPU the messages of float32 networks go through `fused.py`.

Index letters: n nodes, e edges, f features, g Gaussians, b structures, s insertion sites.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from voltscreen.graph import GraphBatch, GraphSpec
from voltscreen.graph.on_device.build import DeviceGraphs
from voltscreen.model.fused import GatedMessages, gaussian_windows

N_FEATURES = 64
N_CONVOLUTIONS = 3


@dataclass(frozen=True, slots=True)
class GraphTensors:
    """A `GraphBatch` on a torch device; shapes, dtypes and units as there.

    receivers: (e,) int64, node that receives. structure_of_node: (n,) int64. is_site: (n,) bool.
    counts: (n,) float32. n_atoms: (b,) int64. volumes: (b,) float32.
    window_start, window_values: the non-zero Gaussians of the edges, on the CPU alone.
    """

    atomic_numbers: Tensor
    structure_of_node: Tensor
    is_site: Tensor
    counts: Tensor
    n_atoms: Tensor
    edge_offsets: Tensor
    receivers: Tensor
    neighbors: Tensor
    distances: Tensor
    weights: Tensor
    site_weights: Tensor
    site_clearances: Tensor
    site_distances: Tensor
    volumes: Tensor
    window_start: Tensor
    window_values: Tensor

    @classmethod
    def from_batch(
        cls, batch: GraphBatch, device: torch.device, *, windows: bool = True
    ) -> GraphTensors:
        """Copy a batch to a device; without `windows` for readouts alone."""
        graph = cls.from_device(DeviceGraphs.from_batch(batch, device))
        if not windows or device.type != "cpu":
            return graph
        spec = batch.spec
        start, values = gaussian_windows(
            batch.distances, spec.first_center, spec.gaussian_step, len(spec.centers)
        )
        return replace(
            graph, window_start=torch.from_numpy(start), window_values=torch.from_numpy(values)
        )

    @classmethod
    def from_device(cls, graphs: DeviceGraphs) -> GraphTensors:
        """Graphs that are on a device already; without windows."""
        none = graphs.distances[:0]
        return cls(
            atomic_numbers=graphs.atomic_numbers,
            structure_of_node=graphs.structure_of_node,
            is_site=graphs.atomic_numbers == 0,
            counts=graphs.counts.float(),
            n_atoms=graphs.n_atoms,
            edge_offsets=graphs.edge_offsets,
            receivers=graphs.receivers,
            neighbors=graphs.neighbors,
            distances=graphs.distances,
            weights=graphs.weights,
            site_weights=graphs.site_weights,
            site_clearances=graphs.site_clearances,
            site_distances=graphs.site_distances,
            volumes=graphs.volumes.float(),
            window_start=none.int(),
            window_values=none.view(0, 1),
        )


class GatedConvolution(nn.Module):
    """v_i <- softplus(v_i + BN(sum_j w_ij sigmoid(gate(z_ij)) * softplus(core(z_ij)))), eq. 1.

    z_ij = v_i + v_j + u_ij concatenated; gate and core are the two halves of one linear map, with
    batch norm if `edge_norm` (the original has it; without it training needs one pass over the
    edges). w_ij is the weight of the edge, 1 in the original. Attribute names are those of the
    original code, so its weights load as they are.
    """

    def __init__(self, n_features: int, n_gaussians: int, *, edge_norm: bool = True) -> None:
        super().__init__()
        self.fc_full = nn.Linear(2 * n_features + n_gaussians, 2 * n_features)
        self.bn1 = nn.BatchNorm1d(2 * n_features) if edge_norm else None
        self.bn2 = nn.BatchNorm1d(n_features)

    def forward(self, nodes: Tensor, edges: Tensor | None, graph: GraphTensors) -> Tensor:
        """One convolution of (n, f) to (n, f); edges are the (e, g) Gaussians, unless fused."""
        # W z_ij in three parts: the node's and the neighbour's are computed once a node.
        n_features = nodes.shape[1]
        w_self, w_neighbor, w_edge = torch.split(
            self.fc_full.weight,
            [n_features, n_features, self.fc_full.in_features - 2 * n_features],
            dim=1,
        )
        own = functional.linear(nodes, w_self, self.fc_full.bias)
        sent = functional.linear(nodes, w_neighbor)
        if edges is None:
            edge_map = w_edge
            if self.bn1 is not None:
                factor, shift = _fixed(self.bn1)
                own, sent, edge_map = own * factor + shift, sent * factor, w_edge * factor[:, None]
            messages = GatedMessages.apply(  # type: ignore[no-untyped-call]
                own, sent, edge_map.t(), graph.edge_offsets, graph.neighbors, graph.weights,
                graph.window_start, graph.window_values,
            )  # fmt: skip
        else:
            mixed = functional.linear(edges, w_edge) + own[graph.receivers] + sent[graph.neighbors]
            if self.bn1 is not None:
                mixed = self.bn1(mixed)
            gate, core = mixed.chunk(2, 1)
            message = torch.sigmoid(gate) * functional.softplus(core) * graph.weights[:, None]
            messages = torch.zeros_like(nodes).index_add(0, graph.receivers, message)
        return functional.softplus(nodes + self.bn2(messages))


def _fixed(norm: nn.BatchNorm1d) -> tuple[Tensor, Tensor]:
    """Batch norm with its fixed statistics as a factor and a shift."""
    if norm.running_mean is None or norm.running_var is None:
        raise TypeError("this batch norm keeps no statistics")
    factor = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    return factor, norm.bias - norm.running_mean * factor


class Trunk(nn.Module):
    """Graphs to one vector a node.

    Args:
        element_features: (101, 92) float32, node features by atomic number.
        graph_spec: rules of the graphs it takes; gives the Gaussians of the edge feature, and
            whether there are insertion sites, which share one learned vector.
        edge_norm: batch norm inside the convolutions, as the original has it.
    """

    element_features: Tensor
    centers: Tensor

    def __init__(
        self, element_features: Tensor, graph_spec: GraphSpec, *, edge_norm: bool = True
    ) -> None:
        super().__init__()
        centers = torch.from_numpy(graph_spec.centers)
        self.register_buffer("element_features", element_features, persistent=False)
        self.register_buffer("centers", centers, persistent=False)
        self.gaussian_width = graph_spec.gaussian_step
        self.edge_norm = edge_norm
        self.embedding = nn.Linear(element_features.shape[1], N_FEATURES)
        self.site = (
            nn.Parameter(0.3 * torch.randn(N_FEATURES)) if graph_spec.insertion_sites else None
        )
        self.convs = nn.ModuleList(
            GatedConvolution(N_FEATURES, len(centers), edge_norm=edge_norm)
            for _ in range(N_CONVOLUTIONS)
        )

    @property
    def n_features(self) -> int:
        """Numbers in the vector of a node."""
        return N_FEATURES

    def elements(self, atomic_numbers: Tensor) -> Tensor:
        """(k, 64): the embedding of elements (k,), before any convolution."""
        vectors: Tensor = self.embedding(self.element_features[atomic_numbers])
        return vectors

    def forward(self, graph: GraphTensors) -> Tensor:
        """(n, 64): the vector of every node after the last convolution."""
        nodes = self.elements(graph.atomic_numbers)
        if self.site is not None:
            nodes = torch.where(graph.is_site[:, None], self.site, nodes)
        edges = None if self._fused(nodes, graph) else self._gaussians(graph)
        for convolution in self.convs:
            nodes = convolution(nodes, edges, graph)
        return nodes

    def _fused(self, nodes: Tensor, graph: GraphTensors) -> bool:
        fixed = not (self.edge_norm and self.training)
        windows = len(graph.window_start) == len(graph.distances)
        return fixed and windows and nodes.device.type == "cpu" and nodes.dtype == torch.float32

    def _gaussians(self, graph: GraphTensors) -> Tensor:
        distances = graph.distances.to(self.centers.dtype)
        return torch.exp(-((distances[:, None] - self.centers) / self.gaussian_width).square())


def mean_pool(nodes: Tensor, graph: GraphTensors) -> Tensor:
    """(b, f): mean over the atoms of each structure of (n, f)."""
    return mean_over_atoms(nodes[~graph.is_site], graph)


def mean_over_atoms(values: Tensor, graph: GraphTensors) -> Tensor:
    """(b, f): mean over each structure of values of the atoms (a, f)."""
    atoms = ~graph.is_site
    total = values.new_zeros(len(graph.n_atoms), values.shape[1])
    counted = values * graph.counts[atoms, None].to(values.dtype)
    total.index_add_(0, graph.structure_of_node[atoms], counted)
    return total / graph.n_atoms[:, None].to(values.dtype)


def site_pool(nodes: Tensor, graph: GraphTensors) -> Tensor:
    """(b, f): weighted mean over the insertion sites of each structure of (n, f)."""
    total = nodes.new_zeros(len(graph.n_atoms), nodes.shape[1])
    weighted = nodes[graph.is_site] * graph.site_weights[:, None].to(nodes.dtype)
    return total.index_add(0, graph.structure_of_node[graph.is_site], weighted)
