"""Capacity, energy density, filters, ranking and the Pareto front, on plain objects."""

from voltscreen.screening.capacity import gravimetric_capacity, reducible_charge
from voltscreen.screening.ranking import (
    Objective,
    RankedRow,
    RankInput,
    RankSpec,
    rank_candidates,
)

__all__ = [
    "Objective",
    "RankInput",
    "RankSpec",
    "RankedRow",
    "gravimetric_capacity",
    "rank_candidates",
    "reducible_charge",
]
