"""Loops of the readouts on the CPU, each in one pass over float32 arrays.

Index letters: r rows (an ion at a host), h hidden, a atoms, b structures, f features, x ions.
"""

from __future__ import annotations

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from voltscreen.model.vectorized import MATH, ONE, exp


def silu_on_line(start: Tensor, change: Tensor, node: float) -> tuple[Tensor, Tensor]:
    """Silu and its derivative at start + node * change, all (r, h)."""
    value, slope = torch.empty_like(start), torch.empty_like(start)
    arrays = (start.contiguous(), change.contiguous(), value, slope)
    _silu_on_line(np.float32(node), *(tensor.numpy() for tensor in arrays))
    return value, slope


def silu_slope(inputs: Tensor, factor: Tensor) -> Tensor:
    """The derivative of silu times factor, both (r, h), in place of the inputs."""
    _silu_slope(inputs.numpy(), factor.contiguous().numpy())
    return inputs


def add_product(total: Tensor, left: Tensor, right: Tensor, share: float) -> None:
    """Add share * left * right to total, all (r, h)."""
    _add_product(total.numpy(), left.numpy(), right.numpy(), np.float32(share))


def add_mean_pulls(
    rule: list[tuple[float, float]],
    first: Tensor,
    last: Tensor,
    length: Tensor,
    pull: Tensor,
    later: Tensor,
    *,
    exponential: bool,
) -> None:
    """Add to pull and later (b, h) the means over t of a kernel's pull -k'(d) / d and of t times,
    where d^2 = (1 - t) first (h,) + t last (b, h) - t (1 - t) length (b,), by a rule of nodes and
    weights. That is the squared distance to a point of a line of squared length `length`.
    """
    nodes, shares = np.array(rule, np.float32).T.copy()
    arrays = (first, last, length, pull, later)
    _add_mean_pulls(nodes, shares, exponential, *(tensor.contiguous().numpy() for tensor in arrays))


def scaled_columns(values: Tensor, columns: Tensor, factors: Tensor) -> Tensor:
    """(b, r): of values (b, h) the columns (r,) int64, times factors (r,)."""
    out = values.new_empty(len(values), len(columns))
    arrays = (values.contiguous(), columns, factors, out)
    _scaled_columns(*(tensor.numpy() for tensor in arrays))
    return out


@numba.njit(cache=True, nogil=True, fastmath=MATH, error_model="numpy")
def _scaled_columns(
    values: NDArray[np.float32],
    columns: NDArray[np.int64],
    factors: NDArray[np.float32],
    out: NDArray[np.float32],
) -> None:
    for b in range(len(values)):
        own, scaled = values[b], out[b]
        for r in range(len(columns)):
            scaled[r] = own[columns[r]] * factors[r]


@numba.njit(cache=True, nogil=True, fastmath=MATH, error_model="numpy")
def _add_mean_pulls(
    nodes: NDArray[np.float32],
    shares: NDArray[np.float32],
    exponential: bool,
    first: NDArray[np.float32],
    last: NDArray[np.float32],
    length: NDArray[np.float32],
    pull: NDArray[np.float32],
    later: NDArray[np.float32],
) -> None:
    root, three = np.float32(3.0**0.5), np.float32(3.0)
    for b in range(len(last)):
        end, total, late = last[b], pull[b], later[b]
        for q in range(len(nodes)):
            t, share = nodes[q], shares[q]
            before, inside = ONE - t, t * (ONE - t) * length[b]
            for h in range(len(end)):
                d = np.sqrt(max(before * first[h] + t * end[h] - inside, np.float32(1e-12)))
                value = share * (exp(-d) / d if exponential else three * exp(-root * d))
                total[h] += value
                late[h] += t * value


@numba.njit(cache=True, nogil=True, fastmath=MATH, error_model="numpy")
def _silu_on_line(
    node: np.float32,
    start: NDArray[np.float32],
    change: NDArray[np.float32],
    value: NDArray[np.float32],
    slope: NDArray[np.float32],
) -> None:
    for r in range(len(start)):
        s, d, v, w = start[r], change[r], value[r], slope[r]
        for h in range(len(s)):
            x = s[h] + node * d[h]
            gate = ONE / (ONE + exp(-x))
            v[h] = x * gate
            w[h] = gate + v[h] * (ONE - gate)


@numba.njit(cache=True, nogil=True, fastmath=MATH, error_model="numpy")
def _silu_slope(inputs: NDArray[np.float32], factor: NDArray[np.float32]) -> None:
    for r in range(len(inputs)):
        x, f = inputs[r], factor[r]
        for h in range(len(x)):
            gate = ONE / (ONE + exp(-x[h]))
            x[h] = (gate + x[h] * gate * (ONE - gate)) * f[h]


@numba.njit(cache=True, nogil=True, fastmath=MATH, error_model="numpy")
def _add_product(
    total: NDArray[np.float32],
    left: NDArray[np.float32],
    right: NDArray[np.float32],
    share: np.float32,
) -> None:
    for r in range(len(total)):
        t, u, v = total[r], left[r], right[r]
        for h in range(len(t)):
            t[h] += share * u[h] * v[h]


@numba.njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def products_by_owner(
    features: NDArray[np.float32],
    gradient: NDArray[np.float32],
    owner: NDArray[np.int64],
    wanted: NDArray[np.bool_],
    local: NDArray[np.float32],
) -> None:
    """Fill local (x, a): features (a, f) times gradient (x, b, f) of their structures."""
    for a in range(len(features)):
        b = owner[a]
        for x in range(len(gradient)):
            if not wanted[x, b]:
                continue
            own, slope = features[a], gradient[x, b]
            total = np.float32(0.0)
            for f in range(len(own)):
                total += own[f] * slope[f]
            local[x, a] = total
