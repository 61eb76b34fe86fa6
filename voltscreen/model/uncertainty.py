"""How sure a prediction is: conformal intervals by ion, and distance from the training hosts."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

N_NEAREST = 5
N_PERCENTILES = 101
MAX_DISTANCE = 5.0


@dataclass(frozen=True, eq=False)
class Intervals:
    """Conformal intervals by ion that widen with the distance from the training hosts.

    The half width is half80 or half90 of the ion, times 1 + slope d, where d is the distance of
    `Domain.distance` (1 for a typical training host), at most `MAX_DISTANCE`.

    sd: (ions,) float64, volt: root mean square of held-out errors divided by their 1 + slope d.
    half80, half90: (ions,) float64, volt, for 80 and 90 % nominal coverage. slope: no unit.
    """

    sd: NDArray[np.float64]
    half80: NDArray[np.float64]
    half90: NDArray[np.float64]
    slope: float

    def widening(self, distances: NDArray[np.float64]) -> NDArray[np.float64]:
        """1 + slope d, of distances of any shape."""
        return widening(distances, self.slope)

    def around(
        self, voltages: NDArray[np.float64], distances: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """(5, ions, b): sd, lo80, hi80, lo90, hi90 in volt, of (ions, b) voltages and distances."""
        width = self.widening(distances)
        sd, half80, half90 = (half[:, None] * width for half in (self.sd, self.half80, self.half90))
        return np.stack(
            (sd, voltages - half80, voltages + half80, voltages - half90, voltages + half90)
        )

    def arrays(self) -> dict[str, NDArray[np.float64]]:
        """The fields by name, for a model file."""
        return {
            "sd": self.sd, "half80": self.half80, "half90": self.half90,
            "slope": np.array([self.slope]),
        }  # fmt: skip


def widening(distances: NDArray[np.float64], slope: float) -> NDArray[np.float64]:
    """1 + slope min(d, MAX_DISTANCE)."""
    return 1.0 + slope * np.minimum(distances, MAX_DISTANCE)


def fit_slope(errors: NDArray[np.float64], distances: NDArray[np.float64]) -> float:
    """The slope of `widening` by which held-out absolute errors grow with distance.

    Least squares of |error| on a (1 + slope d), not below 0; errors are first divided by their
    ion's mean so that ions count alike.

    Args:
        errors: (r,) volt, already divided; distances: (r,).
    """
    d = np.minimum(distances, MAX_DISTANCE)
    steepness, constant = np.polyfit(d, np.abs(errors), 1)
    # A host on top of a training host still errs: no less than a tenth of the typical error.
    constant = max(float(constant), 0.1 * float(np.abs(errors).mean()))
    return max(0.0, float(steepness) / constant)


def fit_intervals(
    errors: NDArray[np.float64],
    distances: NDArray[np.float64],
    ion: NDArray[np.int64],
    n_ions: int,
) -> Intervals:
    """Intervals from held-out errors (r,), distances (r,) and ion indices (r,)."""
    scaled = np.abs(errors) / _mean_by(np.abs(errors), ion, n_ions)[ion]
    slope = fit_slope(scaled, distances)
    normal = errors / widening(distances, slope)
    groups = [normal[ion == x] if (ion == x).any() else normal for x in range(n_ions)]
    return Intervals(
        sd=np.array([np.sqrt((own**2).mean()) for own in groups]),
        half80=np.array([conformal_half_width(own, 0.8) for own in groups]),
        half90=np.array([conformal_half_width(own, 0.9) for own in groups]),
        slope=slope,
    )


def _mean_by(
    values: NDArray[np.float64], ion: NDArray[np.int64], n_ions: int
) -> NDArray[np.float64]:
    total = np.bincount(ion, values, n_ions)
    return total / np.maximum(np.bincount(ion, minlength=n_ions), 1)


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

    center, spread: (p,) float64, mean and standard deviation of the pooled features of all
    training hosts; hosts: (h, p) float32, standardised by them; trained_on: (ions, h) bool;
    percentiles: (ions, 101) float64, percentiles 0 to 100 of the training hosts' own distances
    to the others.
    """

    center: NDArray[np.float64]
    spread: NDArray[np.float64]
    hosts: NDArray[np.float32]
    trained_on: NDArray[np.bool_]
    percentiles: NDArray[np.float64]

    def distance(self, pooled: NDArray[np.float64]) -> NDArray[np.float64]:
        """(ions, b): mean distance of pooled features (b, p) to the nearest training hosts of each
        ion, in units of the training hosts' own median distance to each other.
        """
        points = (pooled - self.center) / self.spread
        distances = _nearest_distances(points, self.hosts, self.trained_on, leave_one_out=False)
        return distances / self.percentiles[:, [N_PERCENTILES // 2]]

    def percentile(self, distances: NDArray[np.float64]) -> NDArray[np.float64]:
        """(ions, b): where distances of `distance` stand among the training hosts' own, 0 to 100;
        100 is farther than every training host is from the others.
        """
        grid = np.linspace(0.0, 100.0, N_PERCENTILES)
        return np.stack(
            [
                np.interp(distance * own[N_PERCENTILES // 2], own, grid)
                for distance, own in zip(distances, self.percentiles, strict=True)
            ]
        )


def fit_domain(pooled: NDArray[np.float64], trained_on: NDArray[np.bool_]) -> Domain:
    """The domain of a model.

    Args:
        pooled: (h, p) features of the training hosts; trained_on: (ions, h).
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
