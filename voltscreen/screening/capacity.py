"""Theoretical capacity of a host, from how far its redox-active elements can be reduced.

The count is that of pymatgen's `BatteryAnalyzer`: its redox-active elements, down to their
lowest oxidation state of at least 2 (Cu: 1). It needs only the total charge on these elements,
and that follows from neutrality once all others have their usual states. So no oxidation states
are enumerated, which takes seconds for some formulas and finds none for many charged hosts
(FeSiO4, with Fe at +4).
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from voltscreen.ions import working_ion

FARADAY = 96485.33212
"""C/mol."""

_ANION_CHARGES = {
    "F": -1, "O": -2, "Cl": -1, "Br": -1, "I": -1, "S": -2, "Se": -2, "Te": -2,
    "N": -3, "P": -3, "As": -3, "Sb": -3, "C": -4, "Si": -4, "Ge": -4, "B": -3, "H": -1,
}  # fmt: skip
"""By falling readiness to be the anion, with the charge it then has."""
CENTRE_CHARGES = {
    "S": 6, "Se": 4, "Te": 4, "N": 5, "P": 5, "As": 5, "Sb": 5, "C": 4, "Si": 4, "Ge": 4,
    "B": 3, "H": 1, "Cl": 7, "Br": 5, "I": 5,
}  # fmt: skip
"""Charge of the same elements as the centre of an oxoanion or fluoroanion."""


@dataclass(frozen=True, slots=True)
class Uptake:
    """What a host can take up, whatever the ion.

    charge: electrons in the formula unit, None without an element that pymatgen counts as redox
    active. mass: of the formula unit, g/mol.
    """

    charge: float | None
    mass: float

    def capacity(self, ion: str) -> float | None:
        """mAh/g of the discharged formula; see `gravimetric_capacity`."""
        if self.charge is None:
            return None
        inserted = self.charge / working_ion(ion).charge
        return self.charge * FARADAY / (3.6 * (self.mass + inserted * _atomic_mass(ion)))


def uptake(host: Mapping[str, float]) -> Uptake:
    """Of atoms by element symbol, in any formula unit; without the working ion."""
    mass = sum(_atomic_mass(symbol) * count for symbol, count in host.items())
    return Uptake(reducible_charge(host), mass)


def gravimetric_capacity(host: Mapping[str, float], ion: str) -> float | None:
    """Q = x z F / (3.6 M), M the molar mass of the discharged formula.

    Args:
        host: atoms by element symbol, in any formula unit; without the working ion.
        ion: working ion.

    Returns:
        mAh/g, or None for a host without an element that pymatgen counts as redox active.
    """
    return uptake(host).capacity(ion)


def reducible_charge(host: Mapping[str, float]) -> float | None:
    """Electrons that the redox-active elements of a host can take up.

    Args:
        host: atoms by element symbol.

    Returns:
        Electrons in the formula unit given, 0 where nothing can be reduced, None where no
        element is redox active.
    """
    fixed = fixed_charges(host)
    active = {symbol: n for symbol, n in host.items() if symbol not in fixed}
    if not active:
        return None
    carried = -sum(fixed[symbol] * n for symbol, n in host.items() if symbol in fixed)
    lowest = sum(redox_range(symbol)[0] * n for symbol, n in active.items())
    highest = sum(redox_range(symbol)[1] * n for symbol, n in active.items())
    # Beyond the highest states the anions carry the rest, and it is not counted.
    return max(min(carried, highest) - lowest, 0.0)


def fixed_charges(host: Mapping[str, float]) -> dict[str, float]:
    """Oxidation states of the elements that keep theirs."""
    anion = next((symbol for symbol in _ANION_CHARGES if symbol in host), None)
    charges: dict[str, float] = {}
    for symbol in host:
        if symbol == anion or (symbol == "O" and anion == "F"):
            charges[symbol] = _ANION_CHARGES[symbol]
        elif redox_range(symbol) is not INACTIVE:
            continue
        elif symbol in CENTRE_CHARGES and anion in ("F", "O"):
            charges[symbol] = CENTRE_CHARGES[symbol]
        elif symbol in _ANION_CHARGES:
            charges[symbol] = _ANION_CHARGES[symbol]
        else:
            charges[symbol] = _cation_charge(symbol)
    if "H" in charges and anion != "H":
        charges["H"] = 1
    if "C" in host and "N" in host and host["C"] == host["N"]:
        charges["C"], charges["N"] = 2, -3  # cyanide
    return charges


INACTIVE = (0, 0)


@cache
def redox_range(symbol: str) -> tuple[int, int]:
    """Lowest and highest oxidation state in an electrode; `INACTIVE` for the other elements."""
    from pymatgen.apps.battery.analyzer import is_redox_active_intercalation
    from pymatgen.core import Element

    element = Element(symbol)
    if not is_redox_active_intercalation(element):
        return INACTIVE
    floor = 1 if symbol == "Cu" else 2
    states = [int(state) for state in element.oxidation_states if state >= floor]
    return min(states), max(states)


@cache
def _cation_charge(symbol: str) -> float:
    from pymatgen.core import Element

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # elements without oxidation states warn and give ()
        element = Element(symbol)
        states = element.common_oxidation_states or element.oxidation_states
    return float(max(states, default=0))


@cache
def _atomic_mass(symbol: str) -> float:
    from pymatgen.core import Element

    return float(Element(symbol).atomic_mass)
