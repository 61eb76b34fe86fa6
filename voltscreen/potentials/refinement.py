"""A second look at one host and one ion: ions put in, both ends relaxed, voltage by energies.

    V = -(E(A_n H) - E(H) - n E(A)) / (n z)

with the host H and the filled host A_n H relaxed by the same potential and E(A) of the ion's
metal. Several voids are tried and those without hope given up early; between the empty host and
the fullest one the voltage is a profile over the number of ions, on the convex hull of the
energies.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from voltscreen.errors import StructureError
from voltscreen.ions import working_ion
from voltscreen.potentials.metals import metal_energy
from voltscreen.potentials.relaxation import Relaxed, RelaxOptions, relax
from voltscreen.potentials.voids import Void, distinct_voids, fill, with_ions
from voltscreen.structures import PackedStructure
from voltscreen.structures.overlap import closest_distance

if TYPE_CHECKING:
    from voltscreen.potentials.chgnet import ChgnetPotential

HOPELESS_UNRELAXED = 4.0
"""eV above the best site before any relaxation: no relaxation makes up for it."""
HOPELESS = 0.5
"""eV above the best site after the short relaxation."""
MOST_STARTS = 2
"""Sites from which fuller fillings start."""


@dataclass(frozen=True, slots=True)
class LookOptions:
    """How much a second look may cost.

    sites: symmetry-distinct voids tried. short_steps: force evaluations that decide between
    them. relax_steps: of each end, at most. force: eV/angstrom on any atom when relaxed.
    most_ions: in a cell, at most.
    """

    sites: int = 4
    short_steps: int = 8
    relax_steps: int = 100
    force: float = 0.1
    most_ions: int = 12


@dataclass(frozen=True, slots=True)
class TriedSite:
    """A void with one ion in it.

    frac_coords: (3,) fractional. clearance, distance: angstrom, see `insertion_sites`.
    multiplicity: voids like it in the cell. unrelaxed, relaxed: insertion energy, eV, at once and
    after the short relaxation; None where it was given up before.
    """

    frac_coords: tuple[float, float, float]
    clearance: float
    distance: float
    multiplicity: int
    unrelaxed: float | None = None
    relaxed: float | None = None


@dataclass(frozen=True, eq=False)
class Filling:
    """A host with ions, relaxed.

    count: ions in the host's cell. energy: eV, of the host's cell with them. structure: relaxed;
    where it began from a known structure, that one's cell. volume_change: relative to the relaxed
    host. min_distance: angstrom, between any two atoms. max_force: eV/angstrom.
    kept: whether it still matches the relaxed host once its ions are out. known: whether it began
    from a known structure.
    """

    count: float
    energy: float
    structure: PackedStructure
    volume_change: float
    min_distance: float
    max_force: float
    converged: bool
    kept: bool
    known: bool


@dataclass(frozen=True, slots=True)
class Step:
    """A step of the voltage profile: from so many ions in the host's cell to so many, volt."""

    first: float
    last: float
    voltage: float


@dataclass(frozen=True, eq=False)
class Look:
    """What a second look found.

    host: relaxed, its energy in eV. host_volume_change: relative to the host as given.
    sites: in the order of their clearance. fillings: by rising number of ions. profile: of those
    in which the framework survived. evaluations: of forces. failure: why there is no voltage to
    rely on.
    """

    ion: str
    host: Relaxed
    host_volume_change: float
    sites: tuple[TriedSite, ...] = ()
    fillings: tuple[Filling, ...] = ()
    profile: tuple[Step, ...] = ()
    evaluations: int = 0
    failure: str | None = None

    @property
    def end(self) -> Filling | None:
        """The fullest filling in which the framework survived; of none, the emptiest."""
        kept = [filling for filling in self.fillings if filling.kept]
        return kept[-1] if kept else next(iter(self.fillings), None)

    @property
    def voltage(self) -> float | None:
        """Average by energies, volt."""
        end = self.end
        return None if end is None else sum(
            step.voltage * (step.last - step.first) for step in self.profile
        ) / end.count  # fmt: skip


def look(
    potential: ChgnetPotential,
    host: PackedStructure,
    ion: str,
    limit: int,
    known: PackedStructure | None = None,
    options: LookOptions | None = None,
) -> Look:
    """Insert, relax and compute the voltage.

    Args:
        host: without the ion. ion: working ion.
        limit: ions in the host's cell when it is charge balanced; at least one is put in.
        known: the discharged end where it is known, a cell of the same framework; it takes the
        place of the fullest filling.

    Returns:
        What was found; a `failure` where no void is wide enough, a structure comes apart, or an
        end does not converge.
    """
    return look_many(potential, [LookJob(host, ion, limit, known)], options)[0]


@dataclass(frozen=True, eq=False)
class LookJob:
    """What `look` is asked for."""

    host: PackedStructure
    ion: str
    limit: int
    known: PackedStructure | None = None


def look_many(
    potential: ChgnetPotential, jobs: Sequence[LookJob], options: LookOptions | None = None
) -> list[Look]:
    """Second looks side by side: what they want relaxed is relaxed in one go.

    On a GPU this fills the batches; on a CPU it gains nothing over one after another.
    """
    looks = [
        _Look(potential, job.host, job.ion, options or LookOptions()).run(job.limit, job.known)
        for job in jobs
    ]
    found: list[Look | None] = [None] * len(looks)
    answers: dict[int, list[Relaxed] | None] = dict.fromkeys(range(len(looks)))
    while answers:
        wanted: dict[int, _Wanted] = {}
        for number, answer in answers.items():
            try:
                wanted[number] = looks[number].send(answer)
            except StopIteration as end:
                found[number] = end.value
        every = [
            (structure, request.options)
            for request in wanted.values()
            for structure in request.structures
        ]
        relaxed = relax(potential, [one for one, _ in every], [options for _, options in every])
        answers = {}
        for number, request in wanted.items():
            count = len(request.structures)
            answers[number], relaxed = relaxed[:count], relaxed[count:]
    return [one for one in found if one is not None]


@dataclass(frozen=True, eq=False)
class _Wanted:
    """What a look in progress wants relaxed."""

    structures: Sequence[PackedStructure]
    options: RelaxOptions


_Relaxing = Generator[_Wanted, list[Relaxed] | None, list[Relaxed]]


@dataclass
class _Look:
    """A second look in progress: a generator that asks for relaxations and gets them."""

    potential: ChgnetPotential
    host: PackedStructure
    ion: str
    options: LookOptions
    evaluations: int = 0
    sites: list[TriedSite] = field(default_factory=list)
    fillings: list[Filling] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._number = working_ion(self.ion).atomic_number
        self._metal = metal_energy(self.potential, self.ion)

    def run(
        self, limit: int, known: PackedStructure | None
    ) -> Generator[_Wanted, list[Relaxed] | None, Look]:
        """From the empty host to the fullest."""
        self._relaxed_host = (yield from self._relax([self.host], self.options.relax_steps))[0]
        if self._relaxed_host.failure or not self._relaxed_host.converged:
            return self._found(_reason(self._relaxed_host, "the host"))
        if known is not None:
            yield from self._add_known(known)
        failure = None
        try:
            starts = yield from self._try_sites()
        except StructureError as error:
            starts, failure = [], str(error)
        # A known end is the fullest filling: only emptier ones are of interest beside it.
        most = min(max(limit, 1), self.options.most_ions)
        if self.fillings:
            most = min(most, math.ceil(self.fillings[0].count) - 1)
        for count in _counts(most, [len(void.frac_coords) for void, _ in starts]) if starts else ():
            failure = (yield from self._add(starts, count)) or failure
        self.fillings.sort(key=lambda filling: filling.count)
        return self._found(failure)

    def _relax(self, structures: Sequence[PackedStructure], steps: int) -> _Relaxing:
        found = yield _Wanted(structures, RelaxOptions(steps=steps, force=self.options.force))
        if found is None:
            raise TypeError("a look that asks for relaxations must be sent them")
        self.evaluations += sum(len(one.energies) for one in found)
        return found

    def _try_sites(
        self,
    ) -> Generator[_Wanted, list[Relaxed] | None, list[tuple[Void, Relaxed]]]:
        """The best voids, each with one ion after the short relaxation, best first."""
        voids = distinct_voids(self.host, self.options.sites)
        filled = [with_ions(self.host, v.frac_coords[:1], self._number) for v in voids]
        base = self._host_energy() + self._metal
        unrelaxed = [energy - base for energy in self.potential.energies(filled)]
        hopeful = [
            v for v, energy in enumerate(unrelaxed) if energy < min(unrelaxed) + HOPELESS_UNRELAXED
        ]
        relaxed = yield from self._relax([filled[v] for v in hopeful], self.options.short_steps)
        by_void = dict(zip(hopeful, relaxed, strict=True))
        self.sites = [
            TriedSite(
                frac_coords=(float(x), float(y), float(z)),
                clearance=void.clearance,
                distance=void.distance,
                multiplicity=len(void.frac_coords),
                unrelaxed=unrelaxed[v],
                relaxed=None if v not in by_void or by_void[v].failure
                else by_void[v].energy - base,
            )
            for v, void in enumerate(voids)
            for x, y, z in void.frac_coords[:1]
        ]  # fmt: skip
        order = sorted(
            (v for v in hopeful if not by_void[v].failure), key=lambda v: by_void[v].energy
        )
        if not order:
            raise StructureError(next(one.failure for one in relaxed if one.failure))
        best = by_void[order[0]].energy
        return [
            (voids[v], by_void[v])
            for v in order[:MOST_STARTS]
            if by_void[v].energy < best + HOPELESS
        ]

    def _host_energy(self) -> float:
        """eV, of the host as given, in which the voids are."""
        return self._relaxed_host.energies[0]

    def _add(
        self, starts: list[tuple[Void, Relaxed]], count: int
    ) -> Generator[_Wanted, list[Relaxed] | None, str | None]:
        """Relax the best way to put in so many ions; the reason where there is none."""
        if count == 1:
            tried = [one for _, one in starts]
        else:
            filled = [fill(self.host, void, count, self._number) for void, _ in starts]
            room = [one for one in filled if one is not None]
            if not room:
                return f"no void: the host has no room for {count} ions"
            tried = yield from self._relax(room, self.options.short_steps)
        sound = [one for one in tried if not one.failure]
        if not sound:
            return tried[0].failure
        best = min(sound, key=lambda one: one.energy)
        relaxed = (yield from self._relax([best.structure], self.options.relax_steps))[0]
        if relaxed.failure:
            return relaxed.failure
        self.fillings.append(self._filling(relaxed, count, 1.0, known=False))
        return None

    def _add_known(self, known: PackedStructure) -> Generator[_Wanted, list[Relaxed] | None, None]:
        """Relax the known discharged end; left out where it comes apart."""
        relaxed = (yield from self._relax([known], self.options.relax_steps))[0]
        ions = int((known.atomic_numbers == self._number).sum())
        if relaxed.failure or not ions:
            return
        scale = len(self.host) / (len(known) - ions)
        self.fillings.append(self._filling(relaxed, ions * scale, scale, known=True))

    def _filling(self, found: Relaxed, count: float, scale: float, *, known: bool) -> Filling:
        """scale: cells of the found structure in one of the host."""
        return Filling(
            count=count,
            energy=found.energy * scale,
            structure=found.structure,
            volume_change=found.structure.volume * scale / self._relaxed_host.structure.volume - 1,
            min_distance=closest_distance(found.structure),
            max_force=found.max_force,
            converged=found.converged,
            kept=same_framework(self._relaxed_host.structure, found.structure, self._number),
            known=known,
        )

    def _found(self, failure: str | None) -> Look:
        host = self._relaxed_host
        found = Look(
            ion=self.ion,
            host=host,
            host_volume_change=host.structure.volume / self.host.volume - 1,
            sites=tuple(self.sites),
            fillings=tuple(self.fillings),
            evaluations=self.evaluations,
            failure=failure,
        )
        end = found.end
        if end is None:
            return found
        kept = [filling for filling in self.fillings if filling.kept] or [end]
        profile = voltage_profile(host.energy, kept, self._metal, working_ion(self.ion).charge)
        return replace(found, profile=profile, failure=_judged(end))


def voltage_profile(
    host_energy: float, fillings: Sequence[Filling], metal: float, charge: int
) -> tuple[Step, ...]:
    """The steps between the fillings on the lower convex hull of energy over number of ions.

    Args:
        host_energy: eV, of the empty host's cell. metal: eV an atom of the ion's metal.
    """
    points = [(0.0, host_energy)]
    points += [(one.count, one.energy) for one in sorted(fillings, key=lambda f: f.count)]
    hull: list[tuple[float, float]] = []
    for point in points:
        while len(hull) > 1 and _slope(hull[-2], hull[-1]) >= _slope(hull[-1], point):
            hull.pop()
        hull.append(point)
    return tuple(Step(a[0], b[0], (metal - _slope(a, b)) / charge) for a, b in pairwise(hull))


def _slope(a: tuple[float, float], b: tuple[float, float]) -> float:
    return (b[1] - a[1]) / (b[0] - a[0])


def same_framework(host: PackedStructure, filled: PackedStructure, atomic_number: int) -> bool:
    """Whether a filled host without its ions matches the host, by pymatgen's StructureMatcher.

    Tolerances are pymatgen's (0.2, 0.3 and 5 degrees) widened by half again, for ions distort.
    """
    from pymatgen.analysis.structure_matcher import StructureMatcher

    kept = np.flatnonzero(filled.atomic_numbers != atomic_number)
    if not len(kept):
        return False
    matcher = StructureMatcher(ltol=0.3, stol=0.45, angle_tol=7.5)
    return bool(matcher.fit(host.to_pymatgen(), filled.take(kept).to_pymatgen()))


def _counts(most: int, orbits: Sequence[int]) -> list[int]:
    """Numbers of ions to compute: one, all places of a void, half and all of the limit."""
    natural = {count for count in orbits if count < most} or {-(-most // 2)}
    return sorted({1, most} | natural) if most >= 1 else []


def _reason(found: Relaxed, what: str) -> str:
    return f"{found.failure} ({what})" if found.failure else _unconverged(what, found.max_force)


def _judged(end: Filling) -> str | None:
    """Why a filling is no end of an insertion; None when it is one."""
    if not end.kept:
        return "the framework does not survive: the filled host no longer matches the host"
    return None if end.converged else _unconverged("the filled host", end.max_force)


def _unconverged(what: str, force: float) -> str:
    return f"not converged: {what} still has forces of {force:.2f} eV/angstrom"
