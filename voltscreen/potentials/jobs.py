"""What there is to compute of one structure, and the row of the label table that it gives."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

from voltscreen.errors import StructureError
from voltscreen.potentials.insertion import insertion_energies
from voltscreen.potentials.label_table import (
    LabelKind,
    failed_row,
    insertion_row,
    short_look_row,
    topotactic_row,
)
from voltscreen.potentials.short_look import short_looks
from voltscreen.potentials.topotactic import topotactic_voltages
from voltscreen.structures import PackedStructure

if TYPE_CHECKING:
    from voltscreen.potentials.chgnet import ChgnetPotential


class Job(Protocol):
    """One row of a label table, to be computed."""

    kind: ClassVar[LabelKind]
    """Of the table."""

    @property
    def structure(self) -> PackedStructure:
        """What is computed."""

    @property
    def ions(self) -> tuple[str, ...]:
        """Working ions to put in or to take out."""

    @property
    def name(self) -> tuple[str, str | None]:
        """What no two jobs of a table may share."""

    def row(self, potential: ChgnetPotential) -> dict[str, object]:
        """Compute; a structure that cannot be computed gives a row with the reason."""


@dataclass(frozen=True, slots=True)
class _HostJob(ABC):
    """A host and the working ions to insert.

    host_id: id of the structure that the host was made from.
    structure: the host itself.
    ions: working ions to insert.
    removed: element that was taken out of the structure of that id; None if it is as given.
    """

    host_id: str
    structure: PackedStructure
    ions: tuple[str, ...]
    removed: str | None = None

    @property
    def name(self) -> tuple[str, str | None]:
        """Id and what was removed."""
        return self.host_id, self.removed

    def row(self, potential: ChgnetPotential) -> dict[str, object]:
        """Compute; a host that cannot be computed gives a row with the reason."""
        head = {
            "host_id": self.host_id,
            "removed": self.removed,
            "n_atoms": len(self.structure),
        }
        try:
            return head | self._computed(potential)
        except StructureError as error:
            return head | failed_row(str(error))

    @abstractmethod
    def _computed(self, potential: ChgnetPotential) -> dict[str, object]:
        """What the potential says, as columns of the table of labels."""


@dataclass(frozen=True, slots=True)
class InsertionJob(_HostJob):
    """Insertion energies of ions into a host."""

    kind: ClassVar[LabelKind] = LabelKind.INSERTION

    def _computed(self, potential: ChgnetPotential) -> dict[str, object]:
        return insertion_row(insertion_energies(potential, self.structure, self.ions))


@dataclass(frozen=True, slots=True)
class ShortLookJob(_HostJob):
    """Short looks at a host, one an ion."""

    kind: ClassVar[LabelKind] = LabelKind.RELAXED

    def _computed(self, potential: ChgnetPotential) -> dict[str, object]:
        return short_look_row(short_looks(potential, self.structure, self.ions))


@dataclass(frozen=True, slots=True)
class TopotacticJob:
    """Voltages of a structure against itself without each of its working ions.

    structure: as it is, with its ions. ions: those to take out, each alone.
    """

    kind: ClassVar[LabelKind] = LabelKind.TOPOTACTIC

    host_id: str
    structure: PackedStructure
    ions: tuple[str, ...]

    @property
    def name(self) -> tuple[str, str | None]:
        """The id."""
        return self.host_id, None

    def row(self, potential: ChgnetPotential) -> dict[str, object]:
        """Compute; a structure that cannot be computed gives a row with the reason."""
        head = {"host_id": self.host_id, "n_atoms": len(self.structure)}
        try:
            return head | topotactic_row(topotactic_voltages(potential, self.structure, self.ions))
        except StructureError as error:
            return head | failed_row(str(error))
