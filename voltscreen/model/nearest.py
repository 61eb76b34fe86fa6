"""The nearest training hosts of a point in feature space, ion by ion, exactly."""

from __future__ import annotations

import math

import numba
import numpy as np
import torch
from numpy.typing import NDArray

SPARE = 3
"""Candidates beyond those asked for: their order comes from float32 products, the final one not."""


def nearest_hosts(
    points: NDArray[np.float32],
    hosts: NDArray[np.float32],
    counted: NDArray[np.bool_],
    n_nearest: int,
    *,
    apart: bool = False,
    squares: NDArray[np.float32] | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Indices and distances of the nearest hosts among those that count for each ion.

    Squared distances to float32 rounding find the few that can be nearest; their distances are
    then computed from differences, so that a host that is a training host is at distance 0. Of
    equally near hosts the first counts.

    Args:
        points: (b, p). hosts: (h, p), in the same units. counted: (ions, h).
        apart: the points are the hosts, and none is its own neighbour.
        squares: (b, h), squared distances; by default from a product of matrices.

    Returns:
        (ions, b, n_nearest) int64 and float64, nearest first; -1 and nan where there are fewer.
    """
    order = _half_squares(points, hosts) if squares is None else squares
    members = np.flatnonzero(counted.ravel()) % len(hosts)
    starts = np.concatenate(([0], np.cumsum(counted.sum(axis=1))))
    which = np.full((len(counted), len(points), n_nearest), -1, np.int64)
    distances = np.full(which.shape, np.nan)
    _select(order, points, hosts, members, starts, apart, which, distances)
    return which, distances


def _half_squares(points: NDArray[np.float32], hosts: NDArray[np.float32]) -> NDArray[np.float32]:
    """(b, h): half the squared distances, less what is the same for all hosts."""
    product = torch.from_numpy(points) @ torch.from_numpy(hosts).T
    lengths = torch.from_numpy(0.5 * (hosts.astype(np.float64) ** 2).sum(axis=1)).float()
    half: NDArray[np.float32] = (lengths - product).numpy()
    return half


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=True)
def _squared_distance(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    total = 0.0
    for f in range(len(one)):
        difference = np.float64(one[f]) - np.float64(other[f])
        total += difference * difference
    return total


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _select(
    order: NDArray[np.float32],
    points: NDArray[np.float32],
    hosts: NDArray[np.float32],
    members: NDArray[np.int64],
    starts: NDArray[np.int64],
    apart: bool,
    which: NDArray[np.int64],
    distances: NDArray[np.float64],
) -> None:
    """Fill which and distances; order (b, h) grows with the distance of host from point."""
    n_nearest = which.shape[2]
    room = n_nearest + SPARE
    value, host = np.empty(room, np.float32), np.empty(room, np.int64)
    exact = np.empty(room)
    for b in range(len(points)):
        for x in range(len(which)):
            count = 0
            for m in range(starts[x], starts[x + 1]):
                h = members[m]
                own = order[b, h]
                if count == room and own >= value[room - 1]:
                    continue
                if apart and h == b:
                    continue
                slot = count if count < room else room - 1
                count = min(count + 1, room)
                while slot > 0 and value[slot - 1] > own:
                    value[slot], host[slot] = value[slot - 1], host[slot - 1]
                    slot -= 1
                value[slot], host[slot] = own, h
            for k in range(count):
                h = host[k]
                total = _squared_distance(points[b], hosts[h])
                slot = k
                while slot > 0 and (
                    exact[slot - 1] > total or (exact[slot - 1] == total and host[slot - 1] > h)
                ):
                    exact[slot], host[slot] = exact[slot - 1], host[slot - 1]
                    slot -= 1
                exact[slot], host[slot] = total, h
            for k in range(min(count, n_nearest)):
                which[x, b, k], distances[x, b, k] = host[k], math.sqrt(exact[k])
