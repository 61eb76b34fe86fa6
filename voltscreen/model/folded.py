"""A trained trunk made ready for inference on the CPU: the same vectors, several times faster.

The gate of an edge is a function of e^z, and z is a sum of what receiver, sender and distance
give. So e^own and e^sent are computed once a node, e^(edge) comes from a table over the distance
(cubic Hermite interpolation, to float32 rounding), and an edge costs products, one logarithm and
one division instead of two exponentials, a logarithm and the Gaussians. Batch norm is folded into
the weights, and the first convolution's nodes into a table by element.

Index letters: i receiving node, e edge, j sending node, c channel (64).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numba
import numpy as np
import torch
from numpy.typing import NDArray

from voltscreen.graph import GraphBatch, GraphSpec
from voltscreen.model.trunk import N_FEATURES, GatedConvolution, GraphTensors, Trunk
from voltscreen.model.vectorized import MATH, ONE, ZERO, exp, log_above_one, softplus

LARGEST_EXPONENT = 28.0
"""Of each of the three parts of z: their product stays inside float32."""
TABLE_ERROR = 2e-7  # of z, between the rows of a table
STEPS = (0.02, 0.01, 0.005, 0.0025)  # angstrom


@dataclass(frozen=True, eq=False)
class FoldedConvolution:
    """A convolution with its batch norms folded in. Gate channels come first, with their sign
    turned, because sigmoid(z) = 1 / (1 + e^-z).

    weight: (64, 256) and bias: (256,): columns of the receiver, then of the sender.
    table: (rows, 256) float32: e^(edge), then its derivative by the row number.
    rows_per_angstrom: of the table, from distance 0.
    scale, shift: (64,), of the sum of messages.
    largest: of the exponents in the table, absolute.
    """

    weight: torch.Tensor
    bias: torch.Tensor
    table: NDArray[np.float32]
    rows_per_angstrom: np.float32
    scale: NDArray[np.float32]
    shift: NDArray[np.float32]
    largest: float


class FoldedTrunk:
    """The vectors of a trunk in evaluation mode, float32 on the CPU.

    The weights are those of the moment it is made: a trunk that learns on needs a new one. A
    network with exponents beyond float32 is left to the reference.
    """

    def __init__(self, trunk: Trunk, graph_spec: GraphSpec) -> None:
        self._trunk = trunk
        with torch.inference_mode():
            embedding: torch.Tensor = trunk.embedding(trunk.element_features)
            if trunk.site is not None:
                embedding[0] = trunk.site
            self._embedding = embedding.contiguous().numpy()
            self._convolutions = [
                _fold(cast(GatedConvolution, layer), graph_spec) for layer in trunk.convs
            ]
            first = self._convolutions[0]
            terms = torch.addmm(first.bias, embedding, first.weight).numpy()
        largest = exponentials(terms)
        self._first = terms
        self._fits = max(largest, *(c.largest for c in self._convolutions)) < LARGEST_EXPONENT

    def __call__(self, graphs: GraphBatch) -> NDArray[np.float32]:
        """(n, 64): the vector of every node."""
        if not self._fits:
            return self._reference(graphs)
        rows = graphs.atomic_numbers
        nodes, factors = self._embedding, self._first
        for number, convolution in enumerate(self._convolutions):
            if number:
                terms = torch.addmm(convolution.bias, torch.from_numpy(nodes), convolution.weight)
                factors = terms.numpy()
                if exponentials(factors) > LARGEST_EXPONENT:
                    return self._reference(graphs)
                rows = np.arange(len(nodes))
            out = np.empty((len(graphs.atomic_numbers), N_FEATURES), np.float32)
            _convolve(
                nodes, factors, rows, convolution.table, convolution.rows_per_angstrom,
                graphs.edge_offsets, graphs.neighbors, graphs.weights, graphs.distances,
                convolution.scale, convolution.shift, out,
            )  # fmt: skip
            nodes = out
        return nodes

    def _reference(self, graphs: GraphBatch) -> NDArray[np.float32]:
        with torch.inference_mode():
            vectors: torch.Tensor = self._trunk(
                GraphTensors.from_batch(graphs, torch.device("cpu"))
            )
        return vectors.numpy()


def _fold(convolution: GatedConvolution, spec: GraphSpec) -> FoldedConvolution:
    f = N_FEATURES
    weight = convolution.fc_full.weight.detach().double()
    bias = convolution.fc_full.bias.detach().double()
    if convolution.bn1 is not None:
        factor, shift = fixed_norm(convolution.bn1)
        weight, bias = weight * factor[:, None], bias * factor + shift
    sign = torch.cat((-torch.ones(f), torch.ones(f))).double()
    weight, bias = weight * sign[:, None], bias * sign
    scale, shift = fixed_norm(convolution.bn2)
    table, step, largest = _edge_table(weight[:, 2 * f :].numpy(), spec)
    return FoldedConvolution(
        weight=torch.cat((weight[:, :f], weight[:, f : 2 * f])).t().float().contiguous(),
        bias=torch.cat((bias, torch.zeros(2 * f).double())).float(),
        table=table,
        rows_per_angstrom=np.float32(1.0 / step),
        scale=scale.float().numpy(),
        shift=shift.float().numpy(),
        largest=largest,
    )


def fixed_norm(norm: torch.nn.BatchNorm1d) -> tuple[torch.Tensor, torch.Tensor]:
    """Batch norm with its fixed statistics as a factor and a shift, float64."""
    if norm.running_mean is None or norm.running_var is None:
        raise TypeError("this batch norm keeps no statistics")
    factor = norm.weight.detach().double() * torch.rsqrt(norm.running_var.double() + norm.eps)
    return factor, norm.bias.detach().double() - norm.running_mean.double() * factor


def _edge_table(
    edge_map: NDArray[np.float64], spec: GraphSpec
) -> tuple[NDArray[np.float32], float, float]:
    """Table of a convolution (128, gaussians), its step in angstrom, and its largest exponent.

    The coarsest step whose interpolation is right to float32 in the middle between rows.
    """
    for step in STEPS:
        at = np.arange(0.0, spec.cutoff + 2 * step, step)
        exponent, slope = edge_terms(at, edge_map, spec)
        value, slope = np.exp(exponent), np.exp(exponent) * slope * step
        middle = 0.5 * (value[1:] + value[:-1]) + 0.125 * (slope[:-1] - slope[1:])
        expected, _ = edge_terms(at[:-1] + 0.5 * step, edge_map, spec)
        if np.abs(np.log(np.maximum(middle, 1e-300)) - expected).max() < TABLE_ERROR:
            break
    table = np.concatenate((value, slope), axis=1).astype(np.float32)
    return table, step, float(np.abs(exponent).max())


def edge_terms(
    distances: NDArray[np.float64], edge_map: NDArray[np.float64], spec: GraphSpec
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(d, 128): what the Gaussians of a distance give to z, and its derivative by angstrom."""
    x = (distances[:, None] - spec.centers.astype(np.float64)) / spec.gaussian_step
    gaussians = np.exp(-x * x)
    slopes = -2.0 * x / spec.gaussian_step * gaussians
    return gaussians @ edge_map.T, slopes @ edge_map.T


def exponentials(terms: NDArray[np.float32]) -> float:
    """Replace terms (n, k) by their exponentials; the largest of them, absolute."""
    largest = max(float(terms.max()), -float(terms.min()))
    _exponentials(terms.ravel())
    return largest


@numba.njit(cache=True, nogil=True, fastmath=MATH, error_model="numpy")
def _exponentials(values: NDArray[np.float32]) -> None:
    for i in range(len(values)):
        values[i] = exp(values[i])


@numba.njit(cache=True, nogil=True, fastmath=MATH, error_model="numpy")
def _convolve(
    nodes: NDArray[np.float32],
    factors: NDArray[np.float32],
    rows: NDArray[np.int64],
    table: NDArray[np.float32],
    rows_per_angstrom: np.float32,
    edge_offsets: NDArray[np.int64],
    neighbors: NDArray[np.int64],
    weights: NDArray[np.float32],
    distances: NDArray[np.float32],
    scale: NDArray[np.float32],
    shift: NDArray[np.float32],
    out: NDArray[np.float32],
) -> None:
    """One convolution; nodes (k, 64) and factors (k, 256) are looked up by rows (n,)."""
    last = len(table) - 2
    for i in range(len(out)):
        own, total = factors[rows[i]], out[i]
        for c in range(64):
            total[c] = ZERO
        for e in range(edge_offsets[i], edge_offsets[i + 1]):
            place = distances[e] * rows_per_angstrom
            row = min(int(place), last)
            t = np.float32(place - np.float32(row))
            h3 = t * t * (t - ONE)
            h1 = h3 - t * (t - ONE)
            h2 = t * t * (np.float32(3.0) - np.float32(2.0) * t)
            h0 = ONE - h2
            sent, low, high, weight = (
                factors[rows[neighbors[e]]], table[row], table[row + 1], weights[e]
            )  # fmt: skip
            for c in range(64):
                gate = own[c] * sent[128 + c] * (
                    h0 * low[c] + h1 * low[128 + c] + h2 * high[c] + h3 * high[128 + c]
                )  # fmt: skip
                core = own[64 + c] * sent[192 + c] * (
                    h0 * low[64 + c] + h1 * low[192 + c] + h2 * high[64 + c] + h3 * high[192 + c]
                )  # fmt: skip
                total[c] += weight * log_above_one(ONE + core) / (ONE + gate)
        former = nodes[rows[i]]
        for c in range(64):
            x = former[c] + total[c] * scale[c] + shift[c]
            total[c] = softplus(x)
