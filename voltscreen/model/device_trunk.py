"""A trained trunk made ready for inference on a GPU: the same vectors from few, large operations.

What an edge gives to the gate, W z_ij, is a sum of rows: one of the receiver, one of the sender,
and of the distance four rows of a table (cubic Hermite interpolation, to float32 rounding). So
`embedding_bag` gathers and adds them in one pass, and a second one adds the weighted messages of
every node; neither the 41 Gaussians of an edge nor the 169 numbers of z_ij are ever written down.
Batch norm is folded into the weights. Runs on any device, in pieces that bound its memory.

Index letters: n nodes, e edges, r rows of the table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from voltscreen.graph import GraphSpec
from voltscreen.graph.on_device.ragged import at_once, runs
from voltscreen.model.folded import STEPS, TABLE_ERROR, edge_terms, fixed_norm
from voltscreen.model.trunk import N_FEATURES, GatedConvolution, GraphTensors, Trunk

_N_TERMS = 2 * N_FEATURES
"""Of an edge: those of the gate, then those of the core."""


@dataclass(frozen=True, eq=False)
class _Convolution:
    """A convolution with its batch norms folded in, float32 on one device.

    weight: (64, 256) and bias: (256,): columns of the receiver, then of the sender.
    table: (2 r, 128): terms of the distances 0, step, ..., then their derivatives by the row.
    rows_per_angstrom: of the table. scale, shift: (64,), of the sum of messages.
    """

    weight: Tensor
    bias: Tensor
    table: Tensor
    rows_per_angstrom: float
    scale: Tensor
    shift: Tensor


class DeviceTrunk:
    """The vectors of trunks in evaluation mode, side by side, float32 on their own device.

    The weights are those of the moment it is made: a trunk that learns on, or moves, needs a new
    one.
    """

    def __init__(self, trunks: Sequence[Trunk], graph_spec: GraphSpec) -> None:
        with torch.inference_mode():
            self._embeddings = [_embedding(trunk) for trunk in trunks]
            self._convolutions = [
                [_fold(cast(GatedConvolution, layer), graph_spec) for layer in trunk.convs]
                for trunk in trunks
            ]

    def __call__(self, graph: GraphTensors) -> Tensor:
        """(n, 64 k): the vector of every node."""
        vectors = []
        for embedding, convolutions in zip(self._embeddings, self._convolutions, strict=True):
            nodes = embedding[graph.atomic_numbers]
            for convolution in convolutions:
                nodes = _convolve(convolution, nodes, graph)
            vectors.append(nodes)
        return torch.cat(vectors, dim=1)


def _embedding(trunk: Trunk) -> Tensor:
    """(101, 64): by atomic number, with that of an insertion site in row 0."""
    embedding: Tensor = trunk.embedding(trunk.element_features)
    if trunk.site is not None:
        embedding[0] = trunk.site
    return embedding


def _fold(convolution: GatedConvolution, spec: GraphSpec) -> _Convolution:
    f, device = N_FEATURES, convolution.fc_full.weight.device
    weight = convolution.fc_full.weight.detach().double()
    bias = convolution.fc_full.bias.detach().double()
    if convolution.bn1 is not None:
        factor, shift = fixed_norm(convolution.bn1)
        weight, bias = weight * factor[:, None], bias * factor + shift
    scale, shift = fixed_norm(convolution.bn2)
    table, step = _edge_table(weight[:, 2 * f :].cpu().numpy(), spec)
    return _Convolution(
        weight=torch.cat((weight[:, :f], weight[:, f : 2 * f])).t().float().contiguous(),
        bias=torch.cat((bias, torch.zeros_like(bias))).float(),
        table=torch.from_numpy(table).to(device),
        rows_per_angstrom=1.0 / step,
        scale=scale.float(),
        shift=shift.float(),
    )


def _edge_table(
    edge_map: NDArray[np.float64], spec: GraphSpec
) -> tuple[NDArray[np.float32], float]:
    """Table of a convolution's map of Gaussians (128, g), and its step in angstrom: the coarsest
    whose interpolation is right to float32 in the middle between rows.
    """
    for step in STEPS:
        at = np.arange(0.0, spec.cutoff + 2 * step, step)
        value, slope = edge_terms(at, edge_map, spec)
        slope = slope * step
        middle = 0.5 * (value[1:] + value[:-1]) + 0.125 * (slope[:-1] - slope[1:])
        expected, _ = edge_terms(at[:-1] + 0.5 * step, edge_map, spec)
        if np.abs(middle - expected).max() < TABLE_ERROR:
            break
    return np.concatenate((value, slope)).astype(np.float32), step


def _convolve(convolution: _Convolution, nodes: Tensor, graph: GraphTensors) -> Tensor:
    """(n, 64) of (n, 64)."""
    n = len(nodes)
    terms = torch.addmm(convolution.bias, nodes, convolution.weight)
    # Row i is the receiver's part of node i, row n + i the sender's, behind them stands the table.
    own, sent = terms.split_with_sizes([_N_TERMS, _N_TERMS], dim=1)
    rows = torch.cat((own, sent, convolution.table))
    messages = torch.empty_like(nodes)
    limit = max(at_once(nodes.device) // 4, 1)
    for first, last in runs(graph.edge_offsets.diff(), limit):
        offsets = graph.edge_offsets[first : last + 1]
        begin, end = (0, len(graph.neighbors)) if last - first == n else offsets[[0, -1]].tolist()
        which, shares = _rows(convolution, graph, 2 * n, begin, end)
        gate, core = _weighted_sum(rows, which, shares).chunk(2, dim=1)
        message = torch.sigmoid(gate).mul_(functional.softplus(core))
        messages[first:last] = functional.embedding_bag(
            torch.arange(end - begin, device=nodes.device),
            message,
            offsets - begin,
            mode="sum",
            per_sample_weights=graph.weights[begin:end],
            include_last_offset=True,
        )
    return functional.softplus(nodes + messages * convolution.scale + convolution.shift)


def _weighted_sum(rows: Tensor, which: Tensor, shares: Tensor) -> Tensor:
    return functional.embedding_bag(which, rows, mode="sum", per_sample_weights=shares)


def _rows(
    convolution: _Convolution, graph: GraphTensors, n_before: int, begin: int, end: int
) -> tuple[Tensor, Tensor]:
    """Rows (e, 6) that add up to the terms of edges, and what share of them (e, 6)."""
    n_rows = len(convolution.table) // 2
    place = graph.distances[begin:end] * convolution.rows_per_angstrom
    row = place.long().clamp_(max=n_rows - 2)
    t = place - row
    square = t * t
    h2 = square * (3.0 - 2.0 * t)
    h3 = square * (t - 1.0)
    h1 = h3 - t * (t - 1.0)
    ones = torch.ones_like(t)
    low = row + n_before
    n_nodes = n_before // 2
    which = torch.stack(
        (
            graph.receivers[begin:end], graph.neighbors[begin:end] + n_nodes,
            low, low + 1, low + n_rows, low + n_rows + 1,
        ),
        dim=1,
    )  # fmt: skip
    return which, torch.stack((ones, ones, 1.0 - h2, h2, h1, h3), dim=1)
