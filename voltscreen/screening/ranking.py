"""Filters, score, rank and Pareto front of one ion's candidates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from voltscreen.screening.capacity import Uptake


class Objective(StrEnum):
    """What a candidate is ranked by; more is better."""

    ENERGY_DENSITY = "energy_density"
    VOLTAGE = "voltage"
    CAPACITY = "capacity"


class RankSpec(BaseModel):
    """The `rank` part of a campaign spec."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    voltage: tuple[float, float] | None = Field(
        default=None, description="lowest and highest voltage kept, V"
    )
    max_interval_width: float | None = Field(
        default=None, gt=0, description="widest 90 % interval kept, hi90 - lo90, V"
    )
    max_out_of_domain: float | None = Field(
        default=None, ge=0, le=100, description="largest out-of-domain percentile kept"
    )
    objectives: tuple[Objective, ...] = Field(
        default=(Objective.ENERGY_DENSITY,),
        min_length=1,
        description="what to rank by; with several, by the mean of the ranks in each",
    )
    top: int | None = Field(default=1000, ge=1, description="candidates kept for each ion")

    @model_validator(mode="after")
    def _window_is_possible(self) -> RankSpec:
        if self.voltage and self.voltage[0] >= self.voltage[1]:
            raise ValueError("voltage: the first number must be below the second")
        return self


@dataclass(frozen=True, slots=True)
class RankInput:
    """A predicted candidate. uptake: of its host; voltages in volt; out_of_domain: percentile."""

    structure_id: str
    formula: str
    uptake: Uptake
    voltage: float
    sd: float | None
    lo90: float | None
    hi90: float | None
    out_of_domain: float | None


@dataclass(frozen=True, slots=True)
class RankedRow:
    """A candidate with its place. score: the objective's value, or the mean share of
    candidates it beats when there are several objectives; None where an objective is not
    defined for it. capacity: mAh/g; energy_density: Wh/kg of the discharged formula.
    pareto: no other candidate is better in every objective (voltage and capacity when there
    is only one).
    """

    structure_id: str
    rank: int
    score: float | None
    formula: str
    voltage: float
    sd: float | None
    lo90: float | None
    hi90: float | None
    out_of_domain: float | None
    capacity: float | None
    energy_density: float | None
    pareto: bool


def rank_candidates(rows: Sequence[RankInput], ion: str, options: RankSpec) -> list[RankedRow]:
    """Filter, score and rank.

    Candidates for which an objective is not defined (no redox-active element, so no capacity)
    come last, by voltage. Equal scores go by structure id, so that a ranking repeats.

    Args:
        rows: candidates of one ion. ion: working ion. options: filters and objectives.
    """
    kept = [row for row in rows if _passes(row, options)]
    if not kept:
        return []
    capacity = np.array(
        [np.nan if (value := row.uptake.capacity(ion)) is None else value for row in kept]
    )
    voltage = np.array([row.voltage for row in kept])
    columns = {
        Objective.VOLTAGE: voltage,
        Objective.CAPACITY: capacity,
        Objective.ENERGY_DENSITY: voltage * capacity,
    }
    score = _score([columns[objective] for objective in options.objectives])
    front = options.objectives
    if len(front) == 1:
        front = (Objective.VOLTAGE, Objective.CAPACITY)
    pareto = pareto_front(np.column_stack([columns[objective] for objective in front]))
    undefined = np.isnan(score)
    ids = np.array([row.structure_id for row in kept])
    order = np.lexsort((ids, np.where(undefined, -voltage, -score), undefined))[: options.top]
    return [
        RankedRow(
            structure_id=kept[i].structure_id,
            rank=place,
            score=_number(score[i]),
            formula=kept[i].formula,
            voltage=kept[i].voltage,
            sd=kept[i].sd,
            lo90=kept[i].lo90,
            hi90=kept[i].hi90,
            out_of_domain=kept[i].out_of_domain,
            capacity=_number(capacity[i]),
            energy_density=_number(columns[Objective.ENERGY_DENSITY][i]),
            pareto=bool(pareto[i]),
        )
        for place, i in enumerate(order.tolist(), start=1)
    ]


def pareto_front(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which rows no other row dominates (at least as good everywhere, better somewhere).

    Args:
        values: (n, k), more is better; a row with a NaN is never on the front.
    """
    on_front = np.zeros(len(values), np.bool_)
    complete = np.flatnonzero(~np.isnan(values).any(axis=1))
    # Best first in the first column, so that a row can only be dominated by an earlier one: the
    # first of those that are left is on the front, and what it does not dominate is left then.
    left = complete[np.lexsort(-values[complete].T[::-1])]
    while len(left):
        best = values[left[0]]
        on_front[left[(values[left] == best).all(axis=1)]] = True
        left = left[(values[left] > best).any(axis=1)]
    return on_front


def _passes(row: RankInput, options: RankSpec) -> bool:
    if options.voltage and not options.voltage[0] <= row.voltage <= options.voltage[1]:
        return False
    if options.max_interval_width is not None and (
        row.lo90 is None or row.hi90 is None or row.hi90 - row.lo90 > options.max_interval_width
    ):
        return False
    return options.max_out_of_domain is None or (
        row.out_of_domain is not None and row.out_of_domain <= options.max_out_of_domain
    )


def _score(columns: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """(n,): the one objective, or the mean share of defined candidates that a row beats."""
    if len(columns) == 1:
        return columns[0]
    from scipy.stats import rankdata

    shares = []
    for column in columns:
        defined = int((~np.isnan(column)).sum())
        shares.append((rankdata(column, nan_policy="omit") - 1) / max(defined - 1, 1))
    return np.asarray(np.mean(shares, axis=0), dtype=np.float64)


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
