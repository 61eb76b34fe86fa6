"""How good held-out predictions are: errors, paired comparisons, coverage, error by distance.

Letters: r rows, c clusters (host chemical systems), d bootstrap draws.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from voltscreen.train.filters import TRIM_WIDTH

POOLED = "all"
DRAWS = 2000
N_DECILES = 10


@dataclass(frozen=True, slots=True)
class ErrorSummary:
    """Errors of n rows: mae, median (absolute) and rmse in volt.

    r2 = 1 - sum (y - p)^2 / sum (y - mean y)^2; None for rows of one voltage.
    """

    n: int
    mae: float
    median: float
    rmse: float
    r2: float | None


@dataclass(frozen=True, slots=True)
class Difference:
    """A difference of mean absolute errors, and its 95 % interval; volt."""

    difference: float
    lo95: float
    hi95: float

    @property
    def gain(self) -> bool:
        """The first of the two is better, and zero lies outside the interval."""
        return self.hi95 < 0


@dataclass(frozen=True, slots=True)
class Decile:
    """Rows between two deciles of out_of_domain.

    decile: 1 (nearest to the training hosts) to 10; n: rows; mae: volt; highest: the largest
    out_of_domain percentile among them.
    """

    decile: int
    n: int
    mae: float
    highest: float


def summarize(voltage: NDArray[np.float64], predicted: NDArray[np.float64]) -> ErrorSummary:
    """Errors of predictions: voltage, predicted (r,), volt, r at least 1."""
    error = predicted - voltage
    size = np.abs(error)
    spread = float(((voltage - voltage.mean()) ** 2).sum())
    return ErrorSummary(
        n=len(voltage),
        mae=float(size.mean()),
        median=float(np.median(size)),
        rmse=float(np.sqrt((error**2).mean())),
        r2=1 - float((error**2).sum()) / spread if spread > 0 else None,
    )


def paper_trimmed(ion: NDArray[np.str_], voltage: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(r,) bool: the rows that the paper kept when it trimmed its labels before splitting.

    Kept where |V - mean| <= k sd over all labels of the ion, k = 2 for Li, Mg, Ca and Zn and 1.5
    for Na; every row of the other ions.

    Args:
        ion: (r,). voltage: (r,) volt, all labels, not a part of them.
    """
    kept = np.ones(len(voltage), np.bool_)
    for symbol, widths in TRIM_WIDTH.items():
        rows = ion == symbol
        # One label has no standard deviation.
        if rows.sum() > 1:
            label = voltage[rows]
            kept[rows] = np.abs(label - label.mean()) <= widths * label.std(ddof=1)
    return kept


class ClusterBootstrap:
    """Paired bootstrap that draws whole clusters of rows, because rows of one are alike.

    A draw takes c clusters with replacement; w (d, c) counts how often each was taken. The
    difference of two mean absolute errors in a draw is (w . s) / (w . n), with s (c,) the sum
    of |a| - |b| over a cluster's rows and n (c,) their number.

    Args:
        group: (r,), the cluster of each row. draws: d. seed: of the draws.
    """

    def __init__(self, group: NDArray[np.str_], draws: int = DRAWS, seed: int = 0) -> None:
        clusters, self._cluster = np.unique(group, return_inverse=True)
        self.n_clusters = c = len(clusters)
        rng = np.random.default_rng(seed)
        drawn = rng.integers(c, size=(draws, c)) + c * np.arange(draws)[:, None]
        self._taken = (
            np.bincount(drawn.ravel(), minlength=draws * c).reshape(draws, c).astype(np.float32)
        )
        self._rows_drawn = self._taken @ np.bincount(self._cluster, minlength=c).astype(np.float32)

    def difference(self, error: NDArray[np.float64], against: NDArray[np.float64]) -> Difference:
        """Mean of |error| - |against|, negative where the first is better; both (r,), volt."""
        paired = np.abs(error) - np.abs(against)
        sums = np.bincount(self._cluster, weights=paired, minlength=self.n_clusters)
        drawn = (self._taken @ sums.astype(np.float32)) / self._rows_drawn
        lo95, hi95 = np.quantile(drawn, [0.025, 0.975])
        return Difference(float(paired.mean()), float(lo95), float(hi95))


def coverage(
    voltage: NDArray[np.float64], lo: NDArray[np.float64], hi: NDArray[np.float64]
) -> float:
    """Share of rows with lo <= voltage <= hi; all (r,) volt."""
    return float(((lo <= voltage) & (voltage <= hi)).mean())


def error_by_decile(error: NDArray[np.float64], out_of_domain: NDArray[np.float64]) -> list[Decile]:
    """Mean absolute error by decile of out_of_domain; both (r,), volt and percentile.

    Rows of equal percentile share a decile, that of their mean rank, so that their order decides
    nothing; a decile without rows is left out.
    """
    _, value, count = np.unique(out_of_domain, return_inverse=True, return_counts=True)
    mean_rank = (np.cumsum(count) - (count + 1) / 2)[value]
    decile = 1 + (N_DECILES * (mean_rank + 0.5) / len(error)).astype(np.int64).clip(
        max=N_DECILES - 1
    )
    return [
        Decile(
            int(number),
            int((decile == number).sum()),
            float(np.abs(error[decile == number]).mean()),
            float(out_of_domain[decile == number].max()),
        )
        for number in np.unique(decile)
    ]


def rounded(value: float) -> float:
    """To 0.1 mV, as cards print it."""
    return round(float(value), 4)
