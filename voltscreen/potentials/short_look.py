"""A short look: one ion in a host's largest void, and the first steps of its relaxation.

A few steps are most of what a relaxation gains, and the energy after them orders voltages much
better than that before. These numbers, computed alike for labelled electrodes and for candidates,
are what the refined voltage is learned from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from voltscreen.ions import parse_ions, working_ion
from voltscreen.potentials.insertion import largest_void
from voltscreen.potentials.metals import metal_energy
from voltscreen.potentials.relaxation import Relaxed, RelaxOptions, relax
from voltscreen.potentials.voids import with_ions
from voltscreen.structures import PackedStructure

if TYPE_CHECKING:
    from voltscreen.potentials.chgnet import ChgnetPotential

SHORT_STEPS = 6
"""Force evaluations of a short look."""
SHORT_LOOK_NUMBERS = (
    "ion_force", "host_force", "pressure", "volume_change", "shift", "end_force",
)  # fmt: skip
"""Fields of a short look that are one number each."""


@dataclass(frozen=True, slots=True)
class ShortLook:
    """One working ion in a host.

    energies: (up to `SHORT_STEPS`,) eV, insertion energy at each force evaluation; the first is
        unrelaxed. One that rose was taken back, so the least so far is where the search stood.
    ion_force, host_force: eV/angstrom at the start, on the ion, and root mean square over the
        host's atoms. pressure: eV/angstrom^3 at the start, positive where the cell would grow.
    volume_change: relative, of the cell. shift: angstrom, by which the ion moved against the
        host's centre. end_force: eV/angstrom, largest at the end.
    failure: why it ended early; None otherwise.
    """

    ion: str
    energies: tuple[float, ...]
    ion_force: float
    host_force: float
    pressure: float
    volume_change: float
    shift: float
    end_force: float
    failure: str | None

    @property
    def energy(self) -> float:
        """eV: the least insertion energy that was reached."""
        return min(self.energies)


def short_looks(
    potential: ChgnetPotential, host: PackedStructure, ions: Sequence[str]
) -> list[ShortLook]:
    """Short looks at a host with each of the ions, in their order; failed ones are left out.

    Raises:
        StructureError: overlapping atoms, no void, or a host that the potential cannot compute.
        VoltscreenError: not a working ion.
    """
    wanted = parse_ions(ions)
    site = largest_void(host).frac_coords[None]
    base = potential.energies([host])[0]
    filled = [with_ions(host, site, working_ion(ion).atomic_number) for ion in wanted]
    found = relax(potential, filled, RelaxOptions(steps=SHORT_STEPS, force=0.02))
    return [
        _look(ion, base + metal_energy(potential, ion), start, one)
        for ion, start, one in zip(wanted, filled, found, strict=True)
        if one.energies
    ]


def _look(ion: str, base: float, start: PackedStructure, found: Relaxed) -> ShortLook:
    assert found.first is not None  # noqa: S101  # there are energies, so there was a first step
    forces = found.first.forces
    return ShortLook(
        ion=ion,
        energies=tuple(energy - base for energy in found.energies),
        ion_force=float(np.linalg.norm(forces[-1])),
        host_force=float(np.sqrt((forces[:-1] ** 2).sum(axis=1).mean())),
        pressure=-float(np.trace(found.first.strain_gradient)) / 3 / start.volume,
        volume_change=found.structure.volume / start.volume - 1,
        shift=_shift(start, found.structure),
        end_force=found.max_force,
        failure=found.failure,
    )


def _shift(before: PackedStructure, after: PackedStructure) -> float:
    moved = after.frac_coords - before.frac_coords
    moved -= np.round(moved)
    return float(np.linalg.norm((moved[-1] - moved[:-1].mean(axis=0)) @ after.lattice))
