"""Capacity, energy density, filters, ranking and the Pareto front, on plain objects."""

from voltscreen.screening.capacity import gravimetric_capacity, reducible_charge
from voltscreen.screening.ranking import (
    Objective,
    RankedRow,
    RankInput,
    RankSpec,
    rank_candidates,
)
from voltscreen.screening.substitution import (
    Proposal,
    SubstituteSpec,
    Swap,
    propose,
    substitute,
)

__all__ = [
    "Objective",
    "Proposal",
    "RankInput",
    "RankSpec",
    "RankedRow",
    "SubstituteSpec",
    "Swap",
    "gravimetric_capacity",
    "propose",
    "rank_candidates",
    "reducible_charge",
    "substitute",
]
