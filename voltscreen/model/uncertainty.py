"""How sure a prediction is: how hard its host is, and conformal intervals by ion.

A host is hard when no training host is near it, when the labels of the nearest ones differ among
themselves, and when the model fits those labels badly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voltscreen.model.nearest import nearest_hosts

N_NEAREST = 5
N_PERCENTILES = 101
SIGNS = ("distance", "roughness", "misfit")

_LEAST_SPREAD = 0.1  # volt: labels are not known better
_LEAST_MISFIT = 0.02
_LEAST_ERROR = 0.05


@dataclass(frozen=True, eq=False)
class Intervals:
    """Conformal intervals by ion that widen with the difficulty of the host.

    The half width is half80 or half90 of the ion, times `Domain.difficulty`.

    sd: (ions,) float64, volt: root mean square of held-out errors divided by their difficulty.
    half80, half90: (ions,) float64, volt, for 80 and 90 % nominal coverage.
    """

    sd: NDArray[np.float64]
    half80: NDArray[np.float64]
    half90: NDArray[np.float64]

    def around(
        self, voltages: NDArray[np.float64], difficulty: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """(5, ions, b): sd, lo80, hi80, lo90, hi90 in volt, of (ions, b) voltages."""
        sd, half80, half90 = (
            half[:, None] * difficulty for half in (self.sd, self.half80, self.half90)
        )
        return np.stack(
            (sd, voltages - half80, voltages + half80, voltages - half90, voltages + half90)
        )

    def arrays(self) -> dict[str, NDArray[np.float64]]:
        """The fields by name, for a model file."""
        return {"sd": self.sd, "half80": self.half80, "half90": self.half90}


def fit_intervals(
    errors: NDArray[np.float64],
    difficulty: NDArray[np.float64],
    ion: NDArray[np.int64],
    n_ions: int,
) -> Intervals:
    """Intervals from held-out errors (r,), volt, difficulties (r,) and ion indices (r,)."""
    normal = errors / difficulty
    groups = [normal[ion == x] if (ion == x).any() else normal for x in range(n_ions)]
    return Intervals(
        sd=np.array([np.sqrt((own**2).mean()) for own in groups]),
        half80=np.array([conformal_half_width(own, 0.8) for own in groups]),
        half90=np.array([conformal_half_width(own, 0.9) for own in groups]),
    )


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
class Neighborhood:
    """The training hosts in feature space, and how well the model does among them.

    center, spread: (p,) float64, of those pooled features that tell hosts apart, the last p of
    the model's; hosts: (h, p) float32, the training hosts less center by spread; trained_on:
    (ions, h) bool;
    roughness: (ions, h) float32, log of the standard deviation of the labels (V) of the ion at
    the host and those nearest to it; misfit: (h,) float32, log of the mean absolute difference
    (V) between the host's labels and what the model says of it.
    """

    center: NDArray[np.float64]
    spread: NDArray[np.float64]
    hosts: NDArray[np.float32]
    trained_on: NDArray[np.bool_]
    roughness: NDArray[np.float32]
    misfit: NDArray[np.float32]

    def signs(
        self, pooled: NDArray[np.float64], squares: NDArray[np.float32] | None = None
    ) -> NDArray[np.float64]:
        """(3, ions, b): log of the mean distance of pooled features (b, p) to the nearest
        training hosts of each ion, then the mean roughness and misfit there.

        squares: (b, h), the squared distances to the hosts, where somebody has them already.
        """
        points = ((pooled[:, -len(self.center) :] - self.center) / self.spread).astype(np.float32)
        found = nearest_hosts(points, self.hosts, self.trained_on, N_NEAREST, squares=squares)
        return self._signs(*found)

    @cached_property
    def own_signs(self) -> list[NDArray[np.float64]]:
        """By ion, (3, h'): the same of each training host of the ion against the others."""
        every = self._signs(
            *nearest_hosts(self.hosts, self.hosts, self.trained_on, N_NEAREST, apart=True)
        )
        return [every[:, x, used] for x, used in enumerate(self.trained_on)]

    def _signs(
        self, which: NDArray[np.int64], distances: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """(3, ions, b), of the nearest hosts and their distances (ions, b, N_NEAREST)."""
        there = which >= 0
        count = there.sum(axis=2)
        ion = np.arange(len(which))[:, None, None]

        def mean(values: NDArray[Any]) -> NDArray[np.float64]:
            averages: NDArray[np.float64] = np.where(there, values, 0.0).sum(axis=2) / count
            return averages

        near = np.log(np.maximum(mean(distances), 1e-6))
        return np.stack((near, mean(self.roughness[ion, which]), mean(self.misfit[which])))


def find_neighborhood(
    pooled: NDArray[np.float64],
    labels: NDArray[np.float64],
    voltages: NDArray[np.float64],
    metric: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None,
) -> Neighborhood:
    """The neighbourhood of training hosts.

    Args:
        pooled: (h, p) features. labels: (ions, h), volt, NaN where a host has none for an ion;
        an ion with fewer than two takes the labels of all. voltages: (ions, h), volt, what the
        model says. metric: center and spread (p,); by default mean and standard deviation.
    """
    missed = np.abs(labels - voltages)
    known = np.isfinite(labels)
    rare = known.sum(axis=1) < 2
    labels = np.where(rare[:, None], np.nanmean(labels, axis=0), labels)
    known = np.isfinite(labels)
    center, spread = metric or (pooled.mean(axis=0), np.maximum(pooled.std(axis=0), 1e-9))
    hosts = ((pooled - center) / spread).astype(np.float32)
    which, _ = nearest_hosts(hosts, hosts, known, N_NEAREST)
    own = np.where(which >= 0, labels[np.arange(len(labels))[:, None, None], which], np.nan)
    roughness = np.zeros(labels.shape, np.float32)
    roughness[known] = np.log(np.nanstd(own[known], axis=1) + _LEAST_SPREAD)
    misfit = np.log(np.nanmean(missed, axis=0) + _LEAST_MISFIT).astype(np.float32)
    return Neighborhood(center, spread, hosts, known, roughness, misfit)


@dataclass(frozen=True, eq=False)
class Domain:
    """Where a model is at home: a neighbourhood, and what its signs say of the error.

    weights: (3,) float64, of the signs, none negative; percentiles: (ions, 101) float64,
    percentiles 0 to 100 of the weighted signs of the training hosts, each against the others.
    """

    neighborhood: Neighborhood
    weights: NDArray[np.float64]
    percentiles: NDArray[np.float64]

    @classmethod
    def of(cls, neighborhood: Neighborhood, weights: NDArray[np.float64]) -> Domain:
        """The domain of a neighbourhood with these weights."""
        grid = np.linspace(0.0, 100.0, N_PERCENTILES)
        own = [np.percentile(weights @ signs, grid) for signs in neighborhood.own_signs]
        return cls(neighborhood, weights, np.stack(own))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All fields by name, for a model file; the inverse is `from_arrays`."""
        found = {item.name: getattr(self.neighborhood, item.name) for item in fields(Neighborhood)}
        found["trained_on"] = found["trained_on"].astype(np.uint8)
        return found | {"weights": self.weights, "percentiles": self.percentiles}

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[Any]]) -> Domain:
        """The domain that gave these arrays."""
        own = {item.name: arrays[item.name] for item in fields(Neighborhood)}
        own["trained_on"] = own["trained_on"].astype(np.bool_)
        return cls(Neighborhood(**own), arrays["weights"], arrays["percentiles"])

    def difficulty(
        self, pooled: NDArray[np.float64], squares: NDArray[np.float32] | None = None
    ) -> NDArray[np.float64]:
        """(ions, b): the error to expect of hosts with pooled features (b, p), in units of that
        of the ion's median training host held out; arguments of `Neighborhood.signs`.
        """
        return self.difficulty_of(self.neighborhood.signs(pooled, squares))

    def difficulty_of(self, signs: NDArray[np.float64]) -> NDArray[np.float64]:
        """(ions, b): the same, of signs (3, ions, b)."""
        level = np.tensordot(self.weights, signs, axes=1)
        difficulty: NDArray[np.float64] = np.exp(level - self.percentiles[:, [N_PERCENTILES // 2]])
        return difficulty

    def percentile(self, difficulty: NDArray[np.float64]) -> NDArray[np.float64]:
        """(ions, b): where difficulties stand among those of the training hosts, 0 to 100; 100
        is harder than every training host.
        """
        grid = np.linspace(0.0, 100.0, N_PERCENTILES)
        return np.stack(
            [
                np.interp(np.log(level) + own[N_PERCENTILES // 2], own, grid)
                for level, own in zip(difficulty, self.percentiles, strict=True)
            ]
        )


def fit_weights(
    errors: NDArray[np.float64], signs: NDArray[np.float64], ion: NDArray[np.int64]
) -> NDArray[np.float64]:
    """(3,): by which the logarithm of held-out errors grows with the signs; none is negative.

    Least squares within each ion, so that an ion with larger errors says nothing about signs.

    Args:
        errors: (r,) volt. signs: (3, r). ion: (r,) indices.
    """
    from scipy.optimize import nnls

    size = np.log(np.abs(errors) + _LEAST_ERROR)
    matrix = signs.T.copy()
    for x in np.unique(ion):
        own = ion == x
        matrix[own] -= matrix[own].mean(axis=0)
        size[own] -= size[own].mean()
    weights: NDArray[np.float64] = nnls(matrix, size)[0]
    return weights
