"""Topotactic voltages: what a structure that holds a working ion says of its own ion.

    V = -(E(A_x H) - E(H) - x E(A)) / (x z)

with the structure A_x H as it is, its host H in the same geometry, and the ion's metal. Nothing
is relaxed, so that V is too high by what the host would gain; it follows the voltage of the
relaxed pair nonetheless (`voltscreen.train` learns from it, never takes it for a label).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from voltscreen.errors import StructureError
from voltscreen.ions import parse_ions, working_ion
from voltscreen.potentials.metals import metal_energy
from voltscreen.structures import PackedStructure, refuse_overlap

if TYPE_CHECKING:
    from voltscreen.potentials.chgnet import ChgnetPotential

MIN_HOST_ATOMS = 2


@dataclass(frozen=True, slots=True)
class TopotacticVoltage:
    """A structure against itself without one of its working ions.

    count: ions taken out, all of that element. host_energy: eV, of what is left.
    voltage: volt, against the ion's metal.
    """

    ion: str
    count: int
    host_energy: float
    voltage: float


@dataclass(frozen=True, slots=True)
class TopotacticLabels:
    """energy: eV, of the structure as it is. ions: one a working ion that it can lose.

    failed: for an ion without a voltage, the reason.
    """

    energy: float
    ions: tuple[TopotacticVoltage, ...]
    failed: dict[str, str]


def held_ions(structure: PackedStructure, ions: Sequence[str]) -> tuple[str, ...]:
    """Those of these working ions that a structure holds and still is a host without."""
    counts = structure.element_counts
    return tuple(
        ion
        for ion in parse_ions(ions)
        if ion in counts and len(structure) - counts[ion] >= MIN_HOST_ATOMS
    )


def topotactic_voltages(
    potential: ChgnetPotential, structure: PackedStructure, ions: Sequence[str]
) -> TopotacticLabels:
    """Voltages of a structure for each of its working ions, nothing relaxed.

    Args:
        ions: symbols of working ions that the structure holds, see `held_ions`.

    Raises:
        StructureError: overlapping atoms, or a structure that the potential cannot compute.
    """
    refuse_overlap(structure)
    graphs = [potential.graph(structure)]
    computed: list[str] = []
    failed: dict[str, str] = {}
    for ion in ions:
        number = working_ion(ion).atomic_number
        host = structure.take(np.flatnonzero(structure.atomic_numbers != number))
        try:
            graphs.append(potential.graph(host))
        except StructureError as error:
            failed[ion] = str(error)
        else:
            computed.append(ion)
    filled, *emptied = (item.energy for item in potential.evaluate(graphs))
    return TopotacticLabels(
        energy=filled,
        ions=tuple(
            _voltage(potential, ion, structure.element_counts[ion], filled, energy)
            for ion, energy in zip(computed, emptied, strict=True)
        ),
        failed=failed,
    )


def _voltage(
    potential: ChgnetPotential, ion: str, count: int, filled: float, emptied: float
) -> TopotacticVoltage:
    gained = filled - emptied - count * metal_energy(potential, ion)
    return TopotacticVoltage(ion, count, emptied, -gained / (count * working_ion(ion).charge))
