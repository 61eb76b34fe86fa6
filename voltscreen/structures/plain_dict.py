"""pymatgen's dictionary of a structure, read as plain data.

pymatgen's own reader makes objects of every class that a site's properties name, and imports
their modules: not for files that come from anywhere.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from voltscreen.errors import StructureError
from voltscreen.structures.packed import (
    MAX_ATOMIC_NUMBER,
    PackedStructure,
    deuterium,
    disordered,
    element_symbol,
    refuse_many_atoms,
)

_NUMBERS = {element_symbol(number): number for number in range(1, MAX_ATOMIC_NUMBER + 1)}


def from_plain_dict(content: dict[str, Any]) -> PackedStructure:
    """The structure of pymatgen's `Structure.as_dict()`; properties and charges are dropped.

    Raises:
        StructureError: disordered, of an unknown element, not such a dictionary, or as for
            `PackedStructure.from_arrays`.
    """
    try:
        sites = content["sites"]
        refuse_many_atoms(len(sites))
        numbers = [_atomic_number(site["species"], index) for index, site in enumerate(sites)]
        coords = np.array([site["abc"] for site in sites], dtype=np.float64)
        matrix = content["lattice"]["matrix"]
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
        raise StructureError(
            f"not a structure of pymatgen: {type(error).__name__} {error}"
        ) from None
    return PackedStructure.from_arrays(matrix, coords, numbers)


def _atomic_number(species: list[dict[str, Any]], index: int) -> int:
    if len(species) != 1 or not abs(float(species[0]["occu"]) - 1) < 1e-6:
        inside = ", ".join(f"{each['element']}{float(each['occu']):g}" for each in species)
        raise disordered(f"site {index} ({inside})")
    symbol = species[0]["element"]
    if symbol in ("D", "T"):
        raise deuterium()
    if symbol not in _NUMBERS:
        raise StructureError(f"unknown element: {symbol!r:.20} is no element's symbol")
    return _NUMBERS[symbol]
