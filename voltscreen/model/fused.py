"""The gated messages of a convolution in one pass over the edges, on the CPU.

The same numbers as the torch expression in `trunk.py` to float32 rounding, forward and
backward, without ever writing an (edges, 128) array to memory: that traffic, not arithmetic, is
what the torch expression costs.

Index letters: i receiving node, e edge, j sending node, c channel (64), k Gaussian.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from voltscreen.model.vectorized import MATH, ONE, ZERO, exp, log_above_one, softplus

WINDOW = 10
"""Gaussians of an edge that are not zero: five steps to either side leave 1.4e-11 outside."""


@numba.njit(cache=True, nogil=True, error_model="numpy")
def gaussian_windows(
    distances: NDArray[np.float32], first_center: float, step: float, count: int
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The non-zero Gaussians of edges: index of the first (E,), and values (E, WINDOW)."""
    start = np.empty(len(distances), np.int32)
    values = np.empty((len(distances), min(WINDOW, count)), np.float32)
    width = values.shape[1]
    for e in range(len(distances)):
        place = (distances[e] - first_center) / step
        begin = min(max(int(np.floor(place)) - WINDOW // 2 + 1, 0), count - width)
        start[e] = begin
        for k in range(width):
            x = place - (begin + k)
            values[e, k] = np.exp(-x * x)
    return start, values


@numba.njit(inline="always", fastmath=MATH, error_model="numpy")
def _activations(
    z: NDArray[np.float32],
    own: NDArray[np.float32],
    sent: NDArray[np.float32],
    edge_map: NDArray[np.float32],
    gaussians: NDArray[np.float32],
    begin: int,
) -> None:
    """Z (2c,) of one edge: what receiver, sender and distance give to gate and core."""
    for c in range(len(z)):
        z[c] = own[c] + sent[c]
    for k in range(len(gaussians)):
        value, row = gaussians[k], begin + k
        for c in range(len(z)):
            z[c] += value * edge_map[row, c]


@numba.njit(cache=True, nogil=True, fastmath=MATH, error_model="numpy")
def _forward(
    own: NDArray[np.float32],
    sent: NDArray[np.float32],
    edge_map: NDArray[np.float32],
    edge_offsets: NDArray[np.int64],
    neighbors: NDArray[np.int64],
    weights: NDArray[np.float32],
    start: NDArray[np.int32],
    gaussians: NDArray[np.float32],
    messages: NDArray[np.float32],
) -> None:
    n_channels = messages.shape[1]
    z = np.empty(2 * n_channels, np.float32)
    total = np.empty(n_channels, np.float32)
    for i in range(len(own)):
        for c in range(n_channels):
            total[c] = ZERO
        for e in range(edge_offsets[i], edge_offsets[i + 1]):
            j, begin, weight = neighbors[e], start[e], weights[e]
            _activations(z, own[i], sent[j], edge_map, gaussians[e], begin)
            for c in range(n_channels):
                gate, core = z[c], z[n_channels + c]
                total[c] += weight * softplus(core) / (ONE + exp(-gate))
        for c in range(n_channels):
            messages[i, c] = total[c]


@numba.njit(cache=True, nogil=True, fastmath=MATH, error_model="numpy")
def _backward(
    own: NDArray[np.float32],
    sent: NDArray[np.float32],
    edge_map: NDArray[np.float32],
    edge_offsets: NDArray[np.int64],
    neighbors: NDArray[np.int64],
    weights: NDArray[np.float32],
    start: NDArray[np.int32],
    gaussians: NDArray[np.float32],
    d_messages: NDArray[np.float32],
    d_own: NDArray[np.float32],
    d_sent: NDArray[np.float32],
    d_edge_map: NDArray[np.float32],
) -> None:
    """Gradients; the pre-activations are computed again rather than kept."""
    n_channels = d_messages.shape[1]
    z = np.empty(2 * n_channels, np.float32)
    total = np.empty(2 * n_channels, np.float32)
    for i in range(len(own)):
        for c in range(2 * n_channels):
            total[c] = ZERO
        for e in range(edge_offsets[i], edge_offsets[i + 1]):
            j, begin, weight = neighbors[e], start[e], weights[e]
            _activations(z, own[i], sent[j], edge_map, gaussians[e], begin)
            for c in range(n_channels):
                gate, core = z[c], z[n_channels + c]
                small = exp(-abs(core))
                value = max(core, ZERO) + log_above_one(ONE + small)
                slope = (ONE if core > ZERO else small) / (ONE + small)
                open_ = ONE / (ONE + exp(-gate))
                upstream = weight * d_messages[i, c] * open_
                z[c] = upstream * value * (ONE - open_)
                z[n_channels + c] = upstream * slope
            for c in range(2 * n_channels):
                total[c] += z[c]
                d_sent[j, c] += z[c]
            for k in range(gaussians.shape[1]):
                value, row = gaussians[e, k], begin + k
                for c in range(2 * n_channels):
                    d_edge_map[row, c] += value * z[c]
        for c in range(2 * n_channels):
            d_own[i, c] = total[c]


class GatedMessages(torch.autograd.Function):
    """sum_e w_e sigmoid(gate) softplus(core), with its gradients.

    Args of `apply`: own (n, 2c) and sent (n, 2c), the linear maps of receiver and sender;
    edge_map (k, 2c), that of the Gaussians; edge_offsets (n + 1,) and neighbors (e,) int64;
    weights (e,); start (e,) int32 and gaussians (e, WINDOW) of `gaussian_windows`. All float32
    on the CPU. Result (n, c).
    """

    @staticmethod
    def forward(ctx: Any, *args: Tensor) -> Tensor:
        """The messages."""
        arrays = [tensor.detach().contiguous() for tensor in args]
        messages = torch.empty(len(arrays[0]), arrays[0].shape[1] // 2)
        arguments = [tensor.numpy() for tensor in (*arrays, messages)]
        _forward(*arguments)
        ctx.save_for_backward(*arrays)
        return messages

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of own, sent and edge_map."""
        arrays = ctx.saved_tensors
        d_own = torch.empty_like(arrays[0])
        d_sent = torch.zeros_like(arrays[1])
        d_edge_map = torch.zeros_like(arrays[2])
        tensors = (*arrays, gradients[0].contiguous(), d_own, d_sent, d_edge_map)
        _backward(*[tensor.numpy() for tensor in tensors])
        return (d_own, d_sent, d_edge_map, *(None,) * 5)
