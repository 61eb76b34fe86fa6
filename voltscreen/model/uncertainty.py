"""How sure a prediction is: conformal intervals by ion, and distance from the training hosts."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

N_NEAREST = 5
N_PERCENTILES = 101


@dataclass(frozen=True, eq=False)
class Intervals:
    """Split-conformal intervals of one width an ion.

    sd: (ions,) float64, volt: root mean square of the held-out errors.
    half90: (ions,) float64, volt: half width of the interval of 90 % nominal coverage.
    """

    sd: NDArray[np.float64]
    half90: NDArray[np.float64]


def conformal_half_width(errors: NDArray[np.float64], coverage: float) -> float:
    """The half width that covers a new exchangeable row with at least that probability.

    Args:
        errors: (n,) held-out errors, volt.
        coverage: nominal, between 0 and 1.

    Returns:
        The ceil((n + 1) coverage)-th smallest absolute error, volt (Vovk et al., Algorithmic
        Learning in a Random World, 2005); the largest one where n is too small for that.
    """
    ordered = np.sort(np.abs(errors))
    position = math.ceil((len(ordered) + 1) * coverage)
    return float(ordered[min(position, len(ordered)) - 1])


@dataclass(frozen=True, eq=False)
class Domain:
    """The training hosts in feature space.

    center, spread: (64,) float64, mean and standard deviation of the pooled features of all
    training hosts; hosts: (h, 64) float32, standardised by them; trained_on: (ions, h) bool;
    percentiles: (ions, 101) float64, percentiles 0 to 100 of the training hosts' own distances
    to the others.
    """

    center: NDArray[np.float64]
    spread: NDArray[np.float64]
    hosts: NDArray[np.float32]
    trained_on: NDArray[np.bool_]
    percentiles: NDArray[np.float64]

    def percentile(self, pooled: NDArray[np.float64]) -> NDArray[np.float64]:
        """(ions, b): where the distance of pooled features (b, 64) stands among the training
        hosts' own, 0 to 100; 100 is farther than every training host is from the others.
        """
        distances = _nearest_distances(
            ((pooled - self.center) / self.spread), self.hosts, self.trained_on, leave_one_out=False
        )
        grid = np.linspace(0.0, 100.0, N_PERCENTILES)
        return np.stack(
            [
                np.interp(distance, own, grid)
                for distance, own in zip(distances, self.percentiles, strict=True)
            ]
        )


def fit_domain(pooled: NDArray[np.float64], trained_on: NDArray[np.bool_]) -> Domain:
    """The domain of a model.

    Args:
        pooled: (h, 64) features of the training hosts; trained_on: (ions, h).
    """
    center, spread = pooled.mean(axis=0), np.maximum(pooled.std(axis=0), 1e-9)
    hosts = ((pooled - center) / spread).astype(np.float32)
    distances = _nearest_distances(hosts.astype(np.float64), hosts, trained_on, leave_one_out=True)
    grid = np.linspace(0.0, 100.0, N_PERCENTILES)
    percentiles = np.stack(
        [
            np.percentile(distance[used], grid)
            for distance, used in zip(distances, trained_on, strict=True)
        ]
    )
    return Domain(center, spread, hosts, trained_on, percentiles)


def _nearest_distances(
    points: NDArray[np.float64],
    hosts: NDArray[np.float32],
    trained_on: NDArray[np.bool_],
    leave_one_out: bool,
) -> NDArray[np.float64]:
    """(ions, b): mean distance to the nearest training hosts of each ion."""
    others = hosts.astype(np.float64)
    squared = (points**2).sum(axis=1)[:, None] + (others**2).sum(axis=1) - 2.0 * points @ others.T
    if leave_one_out:
        np.fill_diagonal(squared, np.inf)
    distances = np.sqrt(np.maximum(squared, 0.0))
    nearest = []
    for used in trained_on:
        own = distances[:, used]
        count = min(N_NEAREST, own.shape[1] - int(leave_one_out))
        nearest.append(np.partition(own, count - 1, axis=1)[:, :count].mean(axis=1))
    return np.stack(nearest)
