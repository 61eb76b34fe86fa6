"""Capacity, energy density, filters, ranking and the Pareto front, on plain objects."""

from voltscreen.screening.capacity import (
    Uptake,
    gravimetric_capacity,
    reducible_charge,
    uptake,
)
from voltscreen.screening.choice import Choice, RefineSpec, choose_candidates
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
    why_none,
)

__all__ = [
    "Choice",
    "Objective",
    "Proposal",
    "RankInput",
    "RankSpec",
    "RankedRow",
    "RefineSpec",
    "SubstituteSpec",
    "Swap",
    "Uptake",
    "choose_candidates",
    "gravimetric_capacity",
    "propose",
    "rank_candidates",
    "reducible_charge",
    "substitute",
    "uptake",
    "why_none",
]
