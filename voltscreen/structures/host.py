"""Host states: what the network sees of a candidate for a given working ion."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from voltscreen.errors import StructureError
from voltscreen.ions import working_ion
from voltscreen.structures.packed import PackedStructure


class HostState(StrEnum):
    """How a candidate became a host."""

    ION_REMOVED = "ion_removed"
    """Every atom of the working ion's element was taken out."""
    AS_GIVEN = "as_given"
    """The structure as it was given."""


@dataclass(frozen=True)
class Host:
    """A host and how it was made.

    structure: what the network sees, sites in the order of the candidate.
    state: `as_given` whenever nothing was taken out.
    """

    structure: PackedStructure
    state: HostState


def make_host(
    candidate: PackedStructure, ion: str, state: HostState = HostState.ION_REMOVED
) -> Host:
    """The host of a candidate for one working ion.

    Args:
        candidate: any structure, with or without the ion.
        ion: symbol of the working ion.
        state: `ion_removed` takes every atom of the ion out; `as_given` leaves them.

    Raises:
        StructureError: nothing is left once the ion is out.
    """
    kept = np.flatnonzero(candidate.atomic_numbers != working_ion(ion).atomic_number)
    if state is HostState.AS_GIVEN or len(kept) == len(candidate):
        return Host(candidate, HostState.AS_GIVEN)
    if len(kept) == 0:
        raise StructureError(f"no host is left once {ion} is removed from {candidate.formula}")
    return Host(candidate.take(kept), HostState.ION_REMOVED)
