"""What a source yields: a candidate structure with its provenance, or a refusal with its reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from voltscreen.structures.packed import PackedStructure

Property = float | int | str | bool | None


@dataclass(frozen=True, slots=True)
class SourceRef:
    """Where a structure came from.

    source: `mp`, `files`, `parquet` or `hosts`.
    id: the structure's id there (Materials Project id, file name, host name).
    db_version: release of that source, where it has one.
    aliases: other ids of the same entry there.
    updated: when the source last changed the entry, as it says it.
    """

    source: str
    id: str
    db_version: str | None = None
    aliases: tuple[str, ...] = ()
    updated: str | None = None


@dataclass(frozen=True, slots=True)
class Measurement:
    """A measured average insertion voltage.

    ion: working ion; voltage: volt against the ion's metal; reference: where it was published.
    uncertainty: volt, how far the average can be taken differently.
    insertion: False where the cell's reaction is not an insertion of that ion into this host.
    note: what a reader must know to compare it.
    """

    ion: str
    voltage: float
    reference: str
    uncertainty: float | None = None
    insertion: bool = True
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """A structure to screen.

    properties: columns of the source worth keeping (energy_above_hull in eV/atom, band_gap in
    eV, ...); label: a name for people, where the source has one.
    """

    structure: PackedStructure
    ref: SourceRef
    label: str | None = None
    properties: Mapping[str, Property] = field(default_factory=dict)
    measured: tuple[Measurement, ...] = ()


@dataclass(frozen=True, slots=True)
class Refused:
    """An item of a source that no voltage can be predicted for, and why."""

    ref: SourceRef
    reason: str
