"""How far a crystal lies above the convex hull of its competitors, and whether it gives off oxygen.

All energies must come from one potential. A hull of few phases lies too high, so that distances
from it are lower bounds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

OXYGEN_IN_AIR = -0.27
"""eV an atom at 298 K and 0.21 bar, against half the energy of O2 at 0 K (JANAF entropy)."""

_LOST = 1e-4
"""Share of the oxygen that is taken out to find what it costs."""


@dataclass(frozen=True, slots=True)
class Phase:
    """A crystal: atoms by element, and energy, eV for all of them."""

    elements: Mapping[str, float]
    energy: float


@dataclass(frozen=True, slots=True)
class HullDistance:
    """Where a crystal lies.

    above_hull: eV/atom, 0 on the hull. phases: competitors that the hull was made of.
    decomposition: formulas of what it would fall apart into. oxygen: chemical potential of O at
    which its composition begins to lose oxygen, eV against half an O2; None without oxygen.
    releases_oxygen: that is above what air gives at 298 K, or O2 is among the products.
    """

    above_hull: float
    phases: int
    decomposition: tuple[str, ...]
    oxygen: float | None
    releases_oxygen: bool | None


def missing_elements(elements: Sequence[str], competitors: Sequence[Phase]) -> list[str]:
    """Elements that no competitor is made of alone: without them there is no hull."""
    pure = {next(iter(phase.elements)) for phase in competitors if len(phase.elements) == 1}
    return sorted(set(elements) - pure)


def hull_distance(target: Phase, competitors: Sequence[Phase]) -> HullDistance:
    """The distance of a crystal from the hull of its competitors.

    Args:
        competitors: of elements of the target alone, every pure element among them.

    Raises:
        ValueError: a pure element is missing.
    """
    from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
    from pymatgen.core import Composition, Element

    if missing := missing_elements(list(target.elements), competitors):
        raise ValueError(f"no pure {', '.join(missing)} among the competitors")
    entries = [PDEntry(Composition(dict(p.elements)), p.energy) for p in competitors]
    diagram = PhaseDiagram(entries)
    own = PDEntry(Composition(dict(target.elements)), target.energy)
    products, energy = diagram.get_decomp_and_e_above_hull(own, allow_negative=True)
    products = products or {}
    oxygen = released = None
    if "O" in target.elements:
        element = Element("O")
        # At a stable composition potentials jump: those on the side of less oxygen count.
        reduced = own.composition - Composition({element: _LOST * own.composition[element]})
        potentials = diagram.get_composition_chempots(reduced)
        oxygen = float(potentials[element] - diagram.el_refs[element].energy_per_atom)
        released = oxygen > OXYGEN_IN_AIR or any(p.composition.is_element for p in products
            if element in p.composition)  # fmt: skip
    return HullDistance(
        above_hull=max(float(energy or 0.0), 0.0),
        phases=len(entries),
        decomposition=tuple(sorted(p.composition.reduced_formula for p in products)),
        oxygen=oxygen,
        releases_oxygen=released,
    )
