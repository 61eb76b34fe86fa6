"""What the local voltages of elements say as a whole: by family, and against their properties.

These are the statements of the paper: alkali metals and early transition metals low, late ones and
the main group high, and the covalent radius as first descriptor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from voltscreen.explain.elements import Correlation, correlations, property_of
from voltscreen.explain.families import FAMILIES, family_of
from voltscreen.explain.statistics import SiteStatistics

DRAWS = 2000


@dataclass(frozen=True, slots=True)
class FamilyTrend:
    """Local voltages of a family of elements.

    elements: their number. median: of the elements' medians, V. above: that less the median of
    all other elements, V. lo95, hi95: of `above`, V; elements are drawn with replacement, each
    with the uncertainty of its own median.
    """

    family: str
    elements: int
    median: float
    above: float
    lo95: float
    hi95: float

    @property
    def verdict(self) -> str:
        """`low`, `high` or `undecided`: on which side of the others the whole interval lies."""
        if self.lo95 > 0:
            return "high"
        return "low" if self.hi95 < 0 else "undecided"


@dataclass(frozen=True, slots=True)
class Descriptor:
    """How the elements' medians go with a property.

    correlation: over the elements. lo95, hi95: of Spearman's coefficient, elements drawn with
    replacement. first: share of the draws in which no other property correlates more (|Spearman|).
    """

    correlation: Correlation
    lo95: float
    hi95: float
    first: float


def settled(statistics: Sequence[SiteStatistics], min_sites: int) -> list[SiteStatistics]:
    """Those that rest on enough sites."""
    return [one for one in statistics if one.sites >= min_sites]


def family_trends(statistics: Sequence[SiteStatistics]) -> list[FamilyTrend]:
    """Every family against all other elements, in the order of the families."""
    families = np.array([family_of(one.element) for one in statistics])
    median = np.array([one.median for one in statistics])
    spread = np.array([(one.hi95 - one.lo95) / 3.92 for one in statistics])
    rng = np.random.default_rng(0)
    found = []
    for family in FAMILIES:
        own = families == family
        if own.sum() < 2 or (~own).sum() < 2:
            continue
        draws = [_drawn(median[part], spread[part], rng) for part in (own, ~own)]
        low, high = np.quantile(draws[0] - draws[1], [0.025, 0.975])
        middle = float(np.median(median[own]))
        found.append(
            FamilyTrend(
                family, int(own.sum()), middle, middle - float(np.median(median[~own])),
                float(low), float(high),
            )
        )  # fmt: skip
    return found


def _drawn(
    median: NDArray[np.float64], spread: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.float64]:
    """(draws,) medians, V, of as many elements drawn with replacement."""
    which = rng.integers(len(median), size=(DRAWS, len(median)))
    drawn = median[which] + spread[which] * rng.standard_normal(which.shape)
    medians: NDArray[np.float64] = np.median(drawn, axis=1)
    return medians


def descriptors(statistics: Sequence[SiteStatistics]) -> list[Descriptor]:
    """Elemental properties by how well the medians go with them, best first."""
    symbols = [one.element for one in statistics]
    median = np.array([one.median for one in statistics])
    found = correlations(symbols, {"local voltage": median})
    drawn = np.stack(
        [_rank_correlations(property_of(one.property, symbols), median) for one in found], axis=1
    )
    size = np.nan_to_num(np.abs(drawn))
    first = (size == size.max(axis=1, keepdims=True)).mean(axis=0)
    bounds = np.nanquantile(drawn, [0.025, 0.975], axis=0)
    ranked = [
        Descriptor(one, float(bounds[0, i]), float(bounds[1, i]), float(first[i]))
        for i, one in enumerate(found)
    ]
    return sorted(ranked, key=lambda one: -abs(one.correlation.spearman))


def _rank_correlations(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """(draws,) correlations of the ranks of x and y, elements drawn with replacement.

    Ranks are those among all elements; the draws are the same for every property.
    """
    from scipy.stats import rankdata

    known = np.isfinite(x)
    ranks = np.zeros((2, len(x)))
    ranks[:, known] = rankdata(x[known]), rankdata(y[known])
    rng = np.random.default_rng(0)
    taken = rng.multinomial(len(x), np.full(len(x), 1 / len(x)), DRAWS) * known
    weight = taken / taken.sum(axis=1, keepdims=True)
    mean = weight @ ranks.T
    second = weight @ np.stack((ranks[0] ** 2, ranks[1] ** 2, ranks[0] * ranks[1])).T
    spread = np.sqrt((second[:, :2] - mean**2).clip(1e-12).prod(axis=1))
    correlation: NDArray[np.float64] = (second[:, 2] - mean[:, 0] * mean[:, 1]) / spread
    return correlation
