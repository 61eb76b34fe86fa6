"""Refusal of elements that no electrode can be made of."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from voltscreen.errors import StructureError
from voltscreen.structures.packed import MAX_ATOMIC_NUMBER, PackedStructure, element_symbol

_LASTING = (90, 92)
"""Thorium and uranium: radioactive, and dug out of the ground all the same."""
_FLEETING = np.zeros(MAX_ATOMIC_NUMBER + 1, np.bool_)
_FLEETING[[43, 61]] = True  # Tc, Pm
_FLEETING[84:] = True  # Po and beyond
_FLEETING[list(_LASTING)] = False


def is_radioactive(atomic_numbers: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """(n,): which of these atoms `refuse_radioactive` refuses."""
    fleeting: NDArray[np.bool_] = _FLEETING[atomic_numbers]
    return fleeting


def refuse_radioactive(structure: PackedStructure) -> None:
    """Raise for an element without an isotope that nature has kept (NUBASE: none beyond Bi but
    Th and U; neither Tc nor Pm).

    Raises:
        StructureError: names the elements.
    """
    fleeting = is_radioactive(structure.atomic_numbers)
    if fleeting.any():
        found = np.unique(structure.atomic_numbers[fleeting])
        symbols = ", ".join(element_symbol(int(number)) for number in found)
        raise StructureError(f"radioactive element: {symbols} has no isotope that lasts")
