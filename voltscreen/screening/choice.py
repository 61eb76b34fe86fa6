"""Which candidates a second look is worth: by rank, or by what it can be expected to gain."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from voltscreen.screening.ranking import RankedRow

Z90 = 1.6449
"""Half width of a normal distribution's 90 % interval, in standard deviations."""


class Choice(StrEnum):
    """How the shortlist is chosen."""

    RANK = "rank"
    """The best of the ranking."""
    GAIN = "gain"
    """Those that may push the front of voltage and capacity farthest out."""


class RefineSpec(BaseModel):
    """The `refine` part of a campaign spec."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    top: int = Field(default=200, ge=1, description="candidates to look at again, for each ion")
    choose: Choice = Field(
        default=Choice.RANK, description="rank: the best; gain: the largest expected gain"
    )
    sites: int = Field(default=4, ge=1, le=20, description="distinct voids tried")
    relax_steps: int = Field(
        default=100, ge=2, le=2000, description="force evaluations for each end, at most"
    )
    max_force: float = Field(
        default=0.1, gt=0, description="largest force when relaxed, eV/angstrom"
    )
    max_ions: int = Field(default=12, ge=1, le=64, description="ions in a cell, at most")


def choose_candidates(rows: Sequence[RankedRow], top: int, choice: Choice) -> list[str]:
    """Structure ids of the candidates to look at, best first.

    Args:
        rows: a ranking, best first. top: at most so many.
    """
    if choice is Choice.RANK:
        return [row.structure_id for row in rows[:top]]
    gain = expected_gain(
        np.array([row.voltage for row in rows]),
        np.array([_deviation(row) for row in rows]),
        np.array([row.capacity or 0.0 for row in rows]),
    )
    order = np.argsort(-gain, kind="stable")[:top]
    return [rows[i].structure_id for i in order]


def expected_gain(
    voltage: NDArray[np.float64], sd: NDArray[np.float64], capacity: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(n,) Wh/kg: by how much each candidate can be expected to enlarge the area under the front.

    The front is that of voltage over capacity of all others, as predicted; the candidate's
    voltage is normally distributed. Its expected gain is the integral over capacities up to its
    own of the expected amount by which it exceeds the best voltage at that capacity or beyond
    (Emmerich et al., IEEE CEC 2011, for two objectives one of which is known).

    Args:
        voltage, sd: (n,) volt. capacity: (n,) mAh/g.
    """
    front = _front(voltage, capacity)
    gain = np.zeros(len(voltage))
    for i in range(len(voltage)):
        others = front[front != i] if i in front else front
        if i in front:
            # What it hides may be on the front of the others.
            rest = np.delete(np.arange(len(voltage)), i)
            others = rest[_front(voltage[rest], capacity[rest])]
        gain[i] = _gain(voltage[i], sd[i], capacity[i], voltage[others], capacity[others])
    return gain


def _front(voltage: NDArray[np.float64], capacity: NDArray[np.float64]) -> NDArray[np.int64]:
    """Indices of the front, by rising capacity and falling voltage."""
    order = np.lexsort((-voltage, -capacity))
    best = np.maximum.accumulate(np.concatenate(([-np.inf], voltage[order])))[:-1]
    return order[voltage[order] > best][::-1]


def _gain(
    voltage: float,
    sd: float,
    capacity: float,
    front_voltage: NDArray[np.float64],
    front_capacity: NDArray[np.float64],
) -> float:
    """Of one candidate against a front by rising capacity."""
    edges = np.minimum(np.concatenate(([0.0], front_capacity)), capacity)
    widths = np.append(np.diff(edges), max(capacity - edges[-1], 0.0))
    levels = np.append(np.maximum(front_voltage, 0.0), 0.0)
    return float((widths * _expected_excess(voltage, sd, levels)).sum())


def _expected_excess(mean: float, sd: float, levels: NDArray[np.float64]) -> NDArray[np.float64]:
    """(k,) mean of max(0, x - level) of a normal x."""
    from scipy.stats import norm

    if sd <= 0:
        return np.maximum(mean - levels, 0.0)
    z = (mean - levels) / sd
    excess: NDArray[np.float64] = sd * (norm.pdf(z) + z * norm.cdf(z))
    return excess


def _deviation(row: RankedRow) -> float:
    """Volt; from the interval, which follows the errors closer than their root mean square."""
    if row.lo90 is not None and row.hi90 is not None:
        return (row.hi90 - row.lo90) / (2 * Z90)
    return row.sd or 0.0
