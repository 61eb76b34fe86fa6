"""Insertion energies: what it costs to put one working ion into a host's largest void.

    E_ins = E(host + ion) - E(host) - E(metal) = e_ion + sum_i (e_i' - e_i) - E(metal)

with the potential's site energies e_i of the host's atoms before and e_i' after the ion came, and
e_ion of the ion itself. Nothing is relaxed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from voltscreen.errors import StructureError
from voltscreen.ions import parse_ions, working_ion
from voltscreen.potentials.metals import metal_energy
from voltscreen.potentials.voids import SMALLEST
from voltscreen.structures import PackedStructure, refuse_overlap
from voltscreen.structures.insertion_sites import insertion_sites

if TYPE_CHECKING:
    from voltscreen.potentials.chgnet import ChgnetPotential, Evaluation


@dataclass(frozen=True, slots=True)
class Site:
    """The insertion site of a host.

    frac_coords: (3,) float64, fractional.
    clearance: angstrom, see `voltscreen.structures.insertion_sites`.
    distance: angstrom, to the nearest atom.
    """

    frac_coords: NDArray[np.float64]
    clearance: float
    distance: float


@dataclass(frozen=True, slots=True)
class InsertionLabel:
    """One working ion at a host's insertion site.

    insertion_energy: eV, against the ion's metal.
    ion_site_energy: eV, the ion's own part of the energy with it.
    host_shift: eV, sum of the changes of the host atoms' site energies.
    moment_change: Bohr magneton, sum of the changes of the host atoms' absolute moments.
    """

    ion: str
    insertion_energy: float
    ion_site_energy: float
    host_shift: float
    moment_change: float


@dataclass(frozen=True, slots=True)
class HostLabels:
    """A host of n atoms and its working ions.

    energy: eV, of the host's cell.
    moments: (n,) float64, absolute magnetic moments without an ion, Bohr magneton.
    crystal: (64,) float64, the potential's vector of the host without an ion.
    ions: in the order they were asked for.
    """

    site: Site
    energy: float
    moments: NDArray[np.float64]
    crystal: NDArray[np.float64]
    ions: tuple[InsertionLabel, ...]


def largest_void(host: PackedStructure) -> Site:
    """The site of largest clearance.

    Raises:
        StructureError: overlapping atoms, or no void wide enough for an atom.
    """
    refuse_overlap(host)
    sites = insertion_sites([host])
    if len(sites.clearance) == 0:
        raise StructureError("no void: the host has no insertion site")
    best = int(sites.best()[0])
    if sites.distance[best] < SMALLEST:
        raise StructureError(
            f"no void: the widest is {sites.distance[best]:.2f} angstrom from the nearest atom"
        )
    return Site(sites.frac_coords[best], float(sites.clearance[best]), float(sites.distance[best]))


def insertion_energies(
    potential: ChgnetPotential, host: PackedStructure, ions: Sequence[str]
) -> HostLabels:
    """Insertion energies of working ions in a host's largest void.

    Args:
        ions: symbols of working ions.

    Raises:
        StructureError: overlapping atoms, no void, or a host that the potential cannot compute.
        VoltscreenError: not a working ion.
    """
    from voltscreen.potentials.chgnet import with_last_atom

    wanted = parse_ions(ions)
    numbers = [working_ion(ion).atomic_number for ion in wanted]
    site = largest_void(host)
    graphs = [potential.graph(host)]
    if numbers:
        filled = potential.graph(_with_ion(host, site, numbers[0]))
        graphs += [with_last_atom(filled, number) for number in numbers]
    empty, *occupied = potential.evaluate(graphs)
    return HostLabels(
        site=site,
        energy=empty.energy,
        moments=empty.moments,
        crystal=empty.crystal,
        ions=tuple(
            _label(ion, empty, found, metal_energy(potential, ion))
            for ion, found in zip(wanted, occupied, strict=True)
        ),
    )


INSERTION_NUMBERS = (
    "insertion_energy", "ion_site_energy", "host_shift", "moment_change", "host_energy",
    "moment_mean", "moment_max", "moment_std",
)  # fmt: skip
"""Of one ion in the largest void, eV and Bohr magneton; the host's energy is for one atom."""


def insertion_numbers(labels: HostLabels) -> dict[str, float]:
    """`INSERTION_NUMBERS` of a host and the first of its ions."""
    own, moments = labels.ions[0], labels.moments
    values = (
        own.insertion_energy, own.ion_site_energy, own.host_shift, own.moment_change,
        labels.energy / len(moments), moments.mean(), moments.max(), moments.std(),
    )  # fmt: skip
    return dict(zip(INSERTION_NUMBERS, map(float, values), strict=True))


def _with_ion(host: PackedStructure, site: Site, atomic_number: int) -> PackedStructure:
    """The host with an atom at its site, in the last place."""
    return PackedStructure.from_arrays(
        host.lattice,
        np.vstack((host.frac_coords, site.frac_coords)),
        np.append(host.atomic_numbers, atomic_number),
    )


def _label(ion: str, empty: Evaluation, found: Evaluation, metal: float) -> InsertionLabel:
    return InsertionLabel(
        ion=ion,
        insertion_energy=found.energy - empty.energy - metal,
        ion_site_energy=float(found.site_energies[-1]),
        host_shift=float((found.site_energies[:-1] - empty.site_energies).sum()),
        moment_change=float((found.moments[:-1] - empty.moments).sum()),
    )
