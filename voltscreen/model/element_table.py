"""Node features: 92 numbers by element, one-hot in bins, as CGCNN describes them.

Xie and Grossman, PRL 120, 145301 (2018), supplementary table: group, period, electronegativity,
covalent radius, valence electrons, first ionisation energy, electron affinity, block, atomic
volume. Values come from pymatgen; a value that an element does not have sets no bit.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from voltscreen.errors import ModelError
from voltscreen.structures.packed import element_symbol

N_FEATURES = 92
MAX_TABLE_NUMBER = 100


@dataclass(frozen=True, eq=False)
class ElementTable:
    """Node features by atomic number.

    features: (101, 92) float32, row Z; known: (101,) bool, False where there is no row.
    """

    features: NDArray[np.float32]
    known: NDArray[np.bool_]

    @property
    def hash(self) -> str:
        """16 hex digits that name the table; stored inside every model file."""
        digest = hashlib.sha256(self.features.astype("<f4").tobytes())
        digest.update(self.known.astype(np.uint8).tobytes())
        return digest.hexdigest()[:16]

    def has_row(self, atomic_numbers: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """(n,): whether the table has a row for each of these atoms."""
        found: NDArray[np.bool_] = self.known[np.minimum(atomic_numbers, MAX_TABLE_NUMBER)]
        return found & (atomic_numbers <= MAX_TABLE_NUMBER)

    def unknown_elements(self, atomic_numbers: NDArray[np.uint8]) -> list[str]:
        """Symbols among these atoms for which the table has no row."""
        missing = np.unique(atomic_numbers[~self.has_row(atomic_numbers)])
        return [element_symbol(int(z)) for z in missing]


def read_element_table(path: Path) -> ElementTable:
    """The table of an `atom_init.json`: atomic number (as a string) to 92 numbers.

    Raises:
        ModelError: not such a file.
    """
    try:
        rows = json.loads(path.read_text())
        features = np.zeros((MAX_TABLE_NUMBER + 1, N_FEATURES), np.float32)
        known = np.zeros(MAX_TABLE_NUMBER + 1, np.bool_)
        for key, row in rows.items():
            features[int(key)] = row
            known[int(key)] = True
    except (OSError, ValueError, TypeError, AttributeError, IndexError) as error:
        raise ModelError(
            f"{path} is not an element table (JSON, atomic number to {N_FEATURES} numbers): {error}"
        ) from None
    if not known.any() or not np.isfinite(features).all():
        raise ModelError(f"{path}: the element table is empty or holds non-finite numbers")
    return ElementTable(features, known)


@dataclass(frozen=True, slots=True)
class _Bins:
    """A property cut into equal bins from low to high; values outside go to the end bins."""

    low: float
    high: float
    count: int

    def index(self, value: float) -> int:
        step = (self.high - self.low) / self.count
        return min(max(math.floor((value - self.low) / step), 0), self.count - 1)


def build_element_table() -> ElementTable:
    """The table from pymatgen's element data, for training our own trunks."""
    features = np.zeros((MAX_TABLE_NUMBER + 1, N_FEATURES), np.float32)
    for atomic_number in range(1, MAX_TABLE_NUMBER + 1):
        features[atomic_number] = _element_row(element_symbol(atomic_number))
    known = np.arange(MAX_TABLE_NUMBER + 1) > 0
    return ElementTable(features, known)


def _element_row(symbol: str) -> NDArray[np.float32]:
    import warnings

    from pymatgen.analysis.local_env import CovalentRadius
    from pymatgen.core import Element

    element = Element(symbol)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one warning an element for every missing datum
        electronegativity = float(element.X)
        affinity = element.electron_affinity
        ionisation = element.ionization_energies
        volume = element.molar_volume if "Molar volume" in element.data else None
    radius = CovalentRadius.radius.get(symbol)
    f_block = element.is_lanthanoid or element.is_actinoid
    fields: list[tuple[_Bins, float | None]] = [
        # Bin 0 is for the f-block, whose elements belong to no group.
        (_Bins(0, 19, 19), 0 if f_block else element.group),
        (_Bins(1, 8, 7), element.row),
        (_Bins(0.5, 4.0, 10), electronegativity),
        (_Bins(25, 250, 10), None if radius is None else 100 * radius),  # pm
        (_Bins(1, 13, 12), _valence_electrons(symbol)),
        (_Bins(1.3, 3.3, 10), math.log(ionisation[0]) if ionisation else None),  # log eV
        (_Bins(-3.0, 3.7, 10), affinity),  # eV
        (_Bins(0, 4, 4), "spdf".index(element.block)),
        (_Bins(1.5, 4.3, 10), math.log(float(volume)) if volume else None),  # log cm3/mol
    ]
    row = np.zeros(N_FEATURES, np.float32)
    start = 0
    for bins, value in fields:
        if value is not None and math.isfinite(value):
            row[start + bins.index(value)] = 1.0
        start += bins.count
    return row


def _valence_electrons(symbol: str) -> int:
    """Electrons outside the noble-gas core, without the filled d and f shells of the p-block."""
    from pymatgen.core import Element

    element = Element(symbol)
    if element.is_lanthanoid or element.is_actinoid:
        return int(element.Z) - (54 if element.row == 6 else 86)
    if symbol == "He":
        return 2
    return int(element.group if element.group <= 12 else element.group - 10)
