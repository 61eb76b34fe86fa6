"""Relaxation of many structures at once: limited-memory BFGS on places and cell.

The variables of a structure of n atoms are its places in the undeformed cell, x (n, 3), and n
times its deformation D (3, 3), so that a place is x D and a cell L D (the scale makes a step of
the cell and a step of an atom alike; Tadmor et al., PRB 59, 235 (1999)). The search is that of
Liu and Nocedal, Math. Program. 45, 503 (1989), without a line search: steps are capped, and a step
that raises the energy is taken back, halves the cap and forgets the curvature.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from voltscreen.errors import StructureError
from voltscreen.structures import PackedStructure, refuse_overlap

if TYPE_CHECKING:
    from chgnet.graph.crystalgraph import CrystalGraph

    from voltscreen.potentials.chgnet import ChgnetPotential, Forces

STIFFNESS = 20.0
"""eV/angstrom^2: curvature that the search begins with."""
MEMORY = 20
"""Steps that the search remembers."""
LARGEST_STEP = 0.2
"""Angstrom, of an atom or of a row of n D."""
SMALLEST_CAP = 0.005
"""Angstrom; a structure whose steps must be shorter than this goes no further."""
ENERGY_SLACK = 1e-4
"""eV: by less than this a step does not count as rising; single precision gives no more."""
NEARLY = 3.0
"""Times the limits, below which a search that finds no way down counts as relaxed."""
PLATEAU = 2e-4
"""eV an atom: a structure that gained less in `PLATEAU_STEPS` evaluations is relaxed."""
PLATEAU_STEPS = 12
EXPLODED = 1.6
"""Volume over the first one, or its inverse, beyond which a structure has come apart."""


@dataclass(frozen=True, slots=True)
class RelaxOptions:
    """How far to go.

    steps: evaluations of the forces at most. force: eV/angstrom, largest on an atom when done.
    stress: eV/angstrom^3, largest component when done. cell: whether the cell may change.
    """

    steps: int = 200
    force: float = 0.05
    stress: float = 0.005
    cell: bool = True


@dataclass(frozen=True, eq=False)
class Relaxed:
    """Where a relaxation came to.

    structure: of least energy that was found. energy: eV, its own. energies: eV, of every step.
    first, last: forces at the start and at `structure`. converged: within the options' limits, or
    on a plateau of the energy.
    failure: why it ended early; None otherwise.
    """

    structure: PackedStructure
    energies: tuple[float, ...]
    first: Forces | None
    last: Forces | None
    converged: bool
    failure: str | None = None

    @property
    def energy(self) -> float:
        """eV, of the whole cell; NaN when not even the first step could be computed."""
        return self.last.energy if self.last else float("nan")

    @property
    def max_force(self) -> float:
        """eV/angstrom, on any atom."""
        return _largest(self.last.forces) if self.last else float("nan")


def relax(
    potential: ChgnetPotential,
    structures: Sequence[PackedStructure],
    options: RelaxOptions | Sequence[RelaxOptions] | None = None,
) -> list[Relaxed]:
    """Relax structures side by side, each on its own path.

    A structure that cannot be computed, or that comes apart, ends with a `failure`; the others go
    on.

    Args:
        options: for all, or one for each; the default goes to the end, cell and all.
    """
    one = options if isinstance(options, RelaxOptions) else RelaxOptions()
    chosen = options if isinstance(options, Sequence) else [one] * len(structures)
    paths = [_Path(*pair) for pair in zip(structures, chosen, strict=True)]
    while going := [path for path in paths if path.going]:
        graphs = []
        for path in list(going):
            try:
                refuse_overlap(path.structure)
                graphs.append(potential.graph(path.structure))
            except StructureError as error:
                path.fail(str(error))
                going.remove(path)
        if going:
            for path, forces in zip(going, _forces(potential, graphs), strict=True):
                path.take(forces)
    return [path.result() for path in paths]


def _forces(potential: ChgnetPotential, graphs: list[CrystalGraph]) -> list[Forces | None]:
    """None for a structure whose forces are not finite."""
    try:
        return list(potential.forces(graphs))
    except StructureError:
        if len(graphs) == 1:
            return [None]
        return [_forces(potential, [graph])[0] for graph in graphs]


@dataclass
class _Path:
    """The search of one structure."""

    start: PackedStructure
    options: RelaxOptions
    going: bool = True
    converged: bool = False
    failure: str | None = None
    energies: list[float] = field(default_factory=list)
    first: Forces | None = None

    def __post_init__(self) -> None:
        self._n = len(self.start)
        self._lattice = self.start.lattice
        # (n + 3, 3): x, then n D.
        self._at = np.vstack((self.start.frac_coords @ self._lattice, self._n * np.eye(3)))
        self._cap = LARGEST_STEP
        self._memory: deque[tuple[NDArray[np.float64], NDArray[np.float64]]] = deque(maxlen=MEMORY)
        self._best: tuple[NDArray[np.float64], NDArray[np.float64], Forces] | None = None
        self.structure = self.start

    def take(self, forces: Forces | None) -> None:
        """Judge where the last step led, and make the next."""
        if forces is None:
            self.fail("explodes: CHGNet gives a number that is not finite")
            return
        self.energies.append(forces.energy)
        self.first = self.first or forces
        if self._best and forces.energy > self._best[2].energy + ENERGY_SLACK:
            self._cap /= 4 if self._cap > LARGEST_STEP / 4 else 2
            self._memory.clear()
            self.going = self._cap >= SMALLEST_CAP
            # Single precision shows no way down any more; nearly flat is flat enough.
            self.converged = not self.going and self._is_flat(self._best[2], NEARLY)
        else:
            downhill = self._downhill(forces)
            if self._best:
                moved, changed = self._at - self._best[0], self._best[1] - downhill
                if (moved * changed).sum() > 1e-12:
                    self._memory.append((moved.ravel(), changed.ravel()))
            self._best = (self._at, downhill, forces)
            self._cap = min(LARGEST_STEP, 1.5 * self._cap)
            self.converged = self._is_flat(forces, 1.0)
        self.converged = self.converged or self._is_on_plateau()
        if self.converged or len(self.energies) >= self.options.steps:
            self.going = False
        if self.going:
            self._step()

    def fail(self, reason: str) -> None:
        """End here."""
        self.going, self.failure = False, reason

    def result(self) -> Relaxed:
        """What was found."""
        if self._best is None:
            return Relaxed(self.start, (), None, None, converged=False, failure=self.failure)
        return Relaxed(
            self._structure(self._best[0]),
            tuple(self.energies),
            self.first,
            self._best[2],
            self.converged,
            self.failure,
        )

    def _step(self) -> None:
        assert self._best is not None  # noqa: S101  # `take` has just set it
        at, downhill, _ = self._best
        step = self._direction(downhill.ravel()).reshape(-1, 3)
        longest = _largest(step)
        if longest > self._cap:
            step *= self._cap / longest
        self._at = at + step
        try:
            self.structure = self._structure(self._at)
        except StructureError as error:
            self.fail(f"explodes: {error}")
            return
        growth = self.structure.volume / self.start.volume
        if not 1 / EXPLODED < growth < EXPLODED:
            self.fail(f"explodes: the volume became {growth:.2f} times what it was")

    def _direction(self, downhill: NDArray[np.float64]) -> NDArray[np.float64]:
        """The two-loop recursion."""
        step = downhill.copy()
        parts = []
        for moved, changed in reversed(self._memory):
            curvature = moved @ changed
            share = (moved @ step) / curvature
            step -= share * changed
            parts.append((moved, changed, curvature, share))
        step /= STIFFNESS
        for moved, changed, curvature, share in reversed(parts):
            step += moved * (share - (changed @ step) / curvature)
        return step if step @ downhill > 0 else downhill / STIFFNESS

    def _deformation(self, at: NDArray[np.float64]) -> NDArray[np.float64]:
        deformation: NDArray[np.float64] = at[self._n :] / self._n
        return deformation

    def _structure(self, at: NDArray[np.float64]) -> PackedStructure:
        return PackedStructure.from_arrays(
            self._lattice @ self._deformation(at),
            at[: self._n] @ np.linalg.inv(self._lattice),
            self.start.atomic_numbers,
        )

    def _downhill(self, forces: Forces) -> NDArray[np.float64]:
        """(n + 3, 3): minus the derivative of the energy by the variables."""
        deformation = self._deformation(self._at)
        cell = np.zeros((3, 3))
        if self.options.cell:
            cell = -np.linalg.inv(deformation).T @ forces.strain_gradient / self._n
        return np.vstack((forces.forces @ deformation.T, cell))

    def _is_flat(self, forces: Forces, share: float) -> bool:
        """Whether forces and stress are below so many times the limits."""
        stress = np.abs(forces.strain_gradient).max() / self.structure.volume
        return _largest(forces.forces) < share * self.options.force and (
            not self.options.cell or stress < share * self.options.stress
        )

    def _is_on_plateau(self) -> bool:
        if len(self.energies) <= PLATEAU_STEPS:
            return False
        before = min(self.energies[:-PLATEAU_STEPS])
        return before - min(self.energies) < PLATEAU * self._n


def _largest(rows: NDArray[np.float64]) -> float:
    """Length of the longest row."""
    return float(np.sqrt((rows**2).sum(axis=1)).max())
