"""Formal oxidation states of a host, and how likely one element stands in for another.

States follow the rules of `capacity`: all but the redox-active elements keep their usual state,
and neutrality fixes what the redox-active ones carry. A host that no such states make neutral is
unbalanced.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from functools import cache
from typing import Any

from voltscreen.screening.capacity import CENTRE_CHARGES, INACTIVE, fixed_charges, redox_range

_ROUNDING = 1e-9


def formal_states(host: Mapping[str, float]) -> dict[str, float] | None:
    """Mean oxidation state of every element, by which the cell is neutral.

    Redox-active elements share what the others leave: each stands equally far between its lowest
    and its highest state.

    Args:
        host: atoms by element symbol.

    Returns:
        States in elementary charges, or None where none make the cell neutral.
    """
    states = fixed_charges(host)
    active = {symbol: n for symbol, n in host.items() if symbol not in states}
    carried = -sum(states[symbol] * n for symbol, n in host.items() if symbol in states)
    ranges = {symbol: _credible_range(symbol) for symbol in active}
    low = sum(ranges[symbol][0] * n for symbol, n in active.items())
    high = sum(ranges[symbol][1] * n for symbol, n in active.items())
    if not low - _ROUNDING <= carried <= high + _ROUNDING:
        return None
    share = (carried - low) / (high - low) if high > low else 0.0
    return states | {s: bottom + share * (top - bottom) for s, (bottom, top) in ranges.items()}


@cache
def _credible_range(symbol: str) -> tuple[int, int]:
    """Lowest and highest state of a redox-active element that a new crystal may be built on.

    Narrower than `redox_range`: no higher than the states that crystals are known with, or +4,
    which charged electrodes reach. Otherwise Fe5+ would pass for V5+.
    """
    from pymatgen.core import Element

    low, high = redox_range(symbol)
    element = Element(symbol)
    known = {*element.icsd_oxidation_states, *element.common_oxidation_states}
    return low, min(high, max(4, *known))


def is_redox_active(symbol: str) -> bool:
    """Whether the element can be reduced in an electrode, as pymatgen counts."""
    return redox_range(symbol) is not INACTIVE


def is_framework(symbol: str, host: Mapping[str, float]) -> bool:
    """Whether an element is an anion of the host, or the centre of its polyanions."""
    return fixed_charges(host).get(symbol, 1) < 0 or symbol in CENTRE_CHARGES


def possible_states(symbol: str, state: float) -> list[int]:
    """Integer states that the element takes while ions are inserted, highest first.

    Args:
        state: its formal state in the host.
    """
    top = math.ceil(state - _ROUNDING)
    bottom = redox_range(symbol)[0] if is_redox_active(symbol) else math.floor(state + _ROUNDING)
    return list(range(top, min(bottom, top) - 1, -1))


def substitution_probability(old: str, new: str, old_state: float, new_state: float) -> float:
    """How likely `new` is where `old` was: Hautier et al., Inorg. Chem. 50, 656 (2011).

    The conditional probability given the old ion, the largest of the states that both take during
    insertion, else of the two formal states. 0 for an ion that the statistics do not know.
    """
    shared = set(possible_states(old, old_state)) & set(possible_states(new, new_state))
    pairs = [(q, q) for q in shared] or [(round(old_state), round(new_state))]
    return max(_conditional(f"{new}{b:+d}", f"{old}{a:+d}") for a, b in pairs)


@cache
def _conditional(new: str, old: str) -> float:
    from pymatgen.core import Species

    table = _statistics()
    wanted, given = (_species(text, Species) for text in (new, old))
    # An unknown ion has no marginal probability to divide by.
    if wanted not in table.species or given not in table.species:
        return 0.0
    return float(table.cond_prob(wanted, given))


def _species(text: str, species: Any) -> Any:
    position = max(text.find("+"), text.find("-"))
    return species(text[:position], int(text[position:]))


@cache
def _statistics() -> Any:
    from pymatgen.analysis.structure_prediction.substitution_probability import (
        SubstitutionProbability,
    )

    return SubstitutionProbability()  # type: ignore[no-untyped-call]


@cache
def ionic_radius(symbol: str, state: int) -> float:
    """Angstrom: Shannon's radius of the ion, of the nearest state that has one, else atomic."""
    from pymatgen.core import Element

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one warning for every missing datum
        element = Element(symbol)
        radii = {int(q): float(r) for q, r in element.ionic_radii.items() if q > 0}
        if not radii:
            return float(element.atomic_radius or 0.0)
    return radii[min(radii, key=lambda q: (abs(q - state), q))]


def family(symbol: str) -> str:
    """The part of the periodic table in which substitutes are looked for."""
    from pymatgen.core import Element

    element = Element(symbol)
    for name, holds in (
        ("alkali", element.is_alkali),
        ("alkaline earth", element.is_alkaline),
        ("lanthanoid", element.is_lanthanoid),
        ("actinoid", element.is_actinoid),
        ("transition metal", element.is_transition_metal),
    ):
        if holds:
            return name
    return "main group"
