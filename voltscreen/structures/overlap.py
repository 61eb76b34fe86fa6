"""Refusal of structures with overlapping atoms.

Everything that touches structures imports this module; numba comes with the first structure.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from voltscreen.errors import StructureError
from voltscreen.structures.packed import PackedStructure, element_symbol

MIN_DISTANCE = 0.5
"""Angstrom; the shortest bond there is, H-H, has 0.74."""


def overlapping(structures: Sequence[PackedStructure]) -> NDArray[np.bool_]:
    """(b,): whether `refuse_overlap` may refuse each structure; False is certain."""
    from voltscreen.structures.closest_pair import near_pairs

    if not structures:
        return np.zeros(0, np.bool_)
    offsets = np.concatenate(([0], np.cumsum([len(s) for s in structures], dtype=np.int64)))
    return near_pairs(
        np.stack([structure.lattice for structure in structures]),
        np.concatenate([structure.frac_coords for structure in structures]),
        offsets,
        MIN_DISTANCE,
    )


def refuse_overlap(structure: PackedStructure) -> None:
    """Raise when two atoms are closer than `MIN_DISTANCE`.

    Raises:
        StructureError: names the two sites and their distance in angstrom.
    """
    distance, i, j = _closest(structure, MIN_DISTANCE)
    if i >= 0:
        first, second = (element_symbol(int(structure.atomic_numbers[k])) for k in (i, j))
        raise StructureError(
            f"overlapping atoms: sites {i} ({first}) and {j} ({second}) are "
            f"{distance:.3f} angstrom apart"
        )


def closest_distance(structure: PackedStructure, radius: float = 5.0) -> float:
    """Angstrom between the two nearest atoms, images included; `radius` where none is nearer."""
    return _closest(structure, radius)[0]


def _closest(structure: PackedStructure, radius: float) -> tuple[float, int, int]:
    from voltscreen.structures.closest_pair import closest_pair

    spacing = 1.0 / np.linalg.norm(np.linalg.inv(structure.lattice), axis=0)
    distance, i, j = closest_pair(structure.lattice, structure.frac_coords, spacing, radius)
    return float(distance), i, j
