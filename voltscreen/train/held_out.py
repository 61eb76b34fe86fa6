"""The model's recipe on every rung of the ladder: held-out voltages, intervals, domain.

Intervals and the weights of the domain's signs are fitted on the grouped folds: for a grouped
fold on the other four, for every other rung on all five.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from voltscreen.ions import ION_SYMBOLS
from voltscreen.model.uncertainty import (
    Domain,
    Intervals,
    Neighborhood,
    find_neighborhood,
    fit_intervals,
    fit_weights,
)
from voltscreen.train.dataset import LabelledElectrodes
from voltscreen.train.parts import Fitted, ion_index
from voltscreen.train.splits import Split

Array = NDArray[np.float64]
N_IONS = len(ION_SYMBOLS)


def neighborhood_of(
    data: LabelledElectrodes, rows: NDArray[np.int64], fitted: Fitted
) -> Neighborhood:
    """That of the hosts of these rows, by what was fitted to them.

    A process keeps the metric of its kernel, a network that of its features' spread.
    """
    hosts, place = np.unique(data.host_of_row[rows], return_inverse=True)
    labels = np.full((N_IONS, len(hosts)), np.nan)
    labels[ion_index(data)[rows], place] = data.voltage[rows]
    voltages = fitted.voltages[hosts].T.astype(np.float64)
    state = fitted.state or {}
    metric = None
    if "factor" in state:
        metric = state["center"].numpy().copy(), 1.0 / state["factor"].numpy()
    return find_neighborhood(fitted.pooled[hosts].astype(np.float64), labels, voltages, metric)


@dataclass(frozen=True, eq=False)
class HeldOutFold:
    """What a model says of the rows that its fold tests; k rows on t hosts.

    rows: (k,). ion, host: (k,) indices of each row's ion, and of its host among the t.
    predicted: (k,) volt. signs: (3, ions, t) in the neighbourhood of the training hosts.
    """

    rows: NDArray[np.int64]
    ion: NDArray[np.int64]
    host: NDArray[np.int64]
    predicted: Array
    neighborhood: Neighborhood
    signs: Array

    @classmethod
    def of(
        cls,
        data: LabelledElectrodes,
        split: Split,
        fold: int,
        fitted: Fitted,
        beside: Array | None = None,
    ) -> HeldOutFold:
        """Of a fold's network or process.

        beside: (r,) volt, held-out predictions of another one: the model is the mean of both, and
        its neighbourhood that of `fitted`.
        """
        rows = split.test_rows(fold)
        ion = ion_index(data)[rows]
        tested, host = np.unique(data.host_of_row[rows], return_inverse=True)
        neighborhood = neighborhood_of(data, split.train_rows(fold), fitted)
        predicted = fitted.voltages[tested[host], ion].astype(np.float64)
        return cls(
            rows, ion, host,
            predicted=predicted if beside is None else 0.5 * (predicted + beside[rows]),
            neighborhood=neighborhood,
            signs=neighborhood.signs(fitted.pooled[tested].astype(np.float64)),
        )  # fmt: skip

    @property
    def row_signs(self) -> Array:
        """(3, k)."""
        return self.signs[:, self.ion, self.host]

    def difficulty(self, weights: Array) -> tuple[Array, Array]:
        """Difficulty and out-of-domain percentile of the rows, (k,) each."""
        domain = Domain.of(self.neighborhood, weights)
        difficulty = domain.difficulty_of(self.signs)
        percentile = domain.percentile(difficulty)
        return difficulty[self.ion, self.host], percentile[self.ion, self.host]


@dataclass(frozen=True, eq=False)
class Calibration:
    """What held-out errors say: weights of the signs, and intervals."""

    weights: Array
    intervals: Intervals


def calibrate(data: LabelledElectrodes, folds: Iterable[HeldOutFold]) -> Calibration:
    """Weights and intervals from the errors of these folds."""
    folds = list(folds)
    rows = np.concatenate([fold.rows for fold in folds])
    ion = np.concatenate([fold.ion for fold in folds])
    error = np.concatenate([fold.predicted for fold in folds]) - data.voltage[rows]
    weights = fit_weights(error, np.hstack([fold.row_signs for fold in folds]), ion)
    difficulty = np.concatenate([fold.difficulty(weights)[0] for fold in folds])
    return Calibration(weights, fit_intervals(error, difficulty, ion, N_IONS))


def bounds(fold: HeldOutFold, calibration: Calibration) -> dict[str, Array]:
    """(k,) each, by the names in `OutOfFold`: ends of the intervals (V), and percentiles."""
    difficulty, percentile = fold.difficulty(calibration.weights)
    spread = (N_IONS, len(fold.rows))
    every = calibration.intervals.around(
        np.broadcast_to(fold.predicted, spread), np.broadcast_to(difficulty, spread)
    )
    _, *ends = every[:, fold.ion, np.arange(len(fold.rows))]
    return dict(zip(("lo80", "hi80", "lo90", "hi90"), ends, strict=True)) | {
        "out_of_domain": percentile
    }


def folds_of(split: Split) -> list[int]:
    """Numbers of the folds that test rows."""
    return [int(k) for k in np.unique(split.fold) if k >= 0]
