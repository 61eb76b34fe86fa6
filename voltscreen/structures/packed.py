"""`PackedStructure`: an ordered crystal as three arrays, its bytes and its content hash."""

from __future__ import annotations

import hashlib
import struct
import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from voltscreen.errors import StructureError

if TYPE_CHECKING:
    from pymatgen.core import Composition, Structure

MAX_ATOMIC_NUMBER = 118
MIN_CELL_VOLUME_PER_ATOM = 0.5
"""Cubic angstrom; the densest matter a user can mean has several times this."""
MAX_ATOMS = 2000
"""Sites of a cell; the largest of the Materials Project has 688."""
MAX_CELL_LENGTH = 1e4
"""Angstrom; a longer cell vector is a file in the wrong unit."""
MAX_FRACTION = 1e6
"""Cell vectors; a coordinate beyond it has lost the digits that tell where in the cell it is."""

_HEADER = struct.Struct("<4sI")
_MAGIC = b"VSP1"

# The hash counts lengths, angles and fractional coordinates in these steps. The offset keeps
# the simple fractions that crystals are full of (1/8, 1/6, 1/3 ...) away from the step's edge,
# where the last digit of a CIF would decide.
_LENGTH_STEP, _ANGLE_STEP, _FRAC_STEPS = 1e-3, 1e-2, 1000
_STEP_OFFSET = 0.38196601125


@dataclass(frozen=True, eq=False)
class PackedStructure:
    """An ordered crystal.

    lattice: (3, 3) float64, rows are the cell vectors a, b, c in angstrom.
    frac_coords: (n_atoms, 3) float64, fractional.
    atomic_numbers: (n_atoms,) uint8.

    Equality and hash go by the bytes of the arrays; `content_hash` is the tolerant one.
    """

    lattice: NDArray[np.float64]
    frac_coords: NDArray[np.float64]
    atomic_numbers: NDArray[np.uint8]

    @classmethod
    def from_arrays(
        cls, lattice: ArrayLike, frac_coords: ArrayLike, atomic_numbers: ArrayLike
    ) -> PackedStructure:
        """Checked arrays as a structure.

        Args:
            lattice: (3, 3) or (9,), rows a b c, angstrom.
            frac_coords: (n_atoms, 3) or (3 n_atoms,), fractional.
            atomic_numbers: (n_atoms,) integers.

        Raises:
            StructureError: wrong shapes, no atoms or too many, non-finite numbers, a cell
                without volume, an atomic number that is no element's.
        """
        try:
            cell = np.array(lattice, dtype=np.float64).reshape(3, 3)
            numbers = np.array(atomic_numbers, dtype=np.int64).reshape(-1)
            coords = np.array(frac_coords, dtype=np.float64).reshape(-1, 3)
        except (TypeError, ValueError, OverflowError) as error:
            raise StructureError(f"not a crystal's arrays: {error}") from None
        if len(numbers) == 0:
            raise StructureError("empty structure: it has no atoms")
        refuse_many_atoms(len(numbers))
        if len(coords) != len(numbers):
            raise StructureError(
                f"not a crystal's arrays: {len(numbers)} atomic numbers but {len(coords)} "
                "coordinates were given"
            )
        if not (np.isfinite(cell).all() and np.isfinite(coords).all()):
            raise StructureError("non-finite number: in the lattice or the coordinates")
        if np.abs(coords).max() > MAX_FRACTION:
            raise StructureError(
                f"not a crystal's arrays: a fractional coordinate beyond {MAX_FRACTION:g}"
            )
        if numbers.min() < 1 or numbers.max() > MAX_ATOMIC_NUMBER:
            wrong = int(numbers.min() if numbers.min() < 1 else numbers.max())
            raise StructureError(f"unknown element: atomic number {wrong}")
        if np.linalg.norm(cell, axis=1).max() > MAX_CELL_LENGTH:
            raise StructureError(
                f"cell too long: a cell vector is longer than {MAX_CELL_LENGTH:g} angstrom"
            )
        if abs(np.linalg.det(cell)) < MIN_CELL_VOLUME_PER_ATOM * len(numbers):
            raise StructureError(
                "cell with no room: less than "
                f"{MIN_CELL_VOLUME_PER_ATOM:g} cubic angstrom for each of {len(numbers)} atoms"
            )
        packed = cls(cell, coords, numbers.astype(np.uint8))
        for array in (packed.lattice, packed.frac_coords, packed.atomic_numbers):
            array.flags.writeable = False
        return packed

    @classmethod
    def from_pymatgen(cls, structure: Structure) -> PackedStructure:
        """The packed form of a pymatgen structure; oxidation states and properties are dropped.

        Raises:
            StructureError: disordered, empty, or as for `from_arrays`.
        """
        from pymatgen.core import DummySpecies

        if len(structure) == 0:
            raise StructureError("empty structure: it has no atoms")
        refuse_many_atoms(len(structure))
        if not structure.is_ordered:
            site = next(site for site in structure if not site.is_ordered)
            raise disordered(f"site {site.species_string}")
        species = [site.specie for site in structure]
        if any(isinstance(item, DummySpecies) for item in species):
            raise StructureError("unknown element: the structure holds a dummy species")
        # pymatgen calls deuterium's symbol H; its name is D.
        if any(getattr(item, "element", item).name in ("D", "T") for item in species):
            raise deuterium()
        numbers = [int(item.Z) for item in species]
        return cls.from_arrays(structure.lattice.matrix, structure.frac_coords, numbers)

    def to_pymatgen(self) -> Structure:
        """The structure for pymatgen, sites in the same order."""
        from pymatgen.core import Lattice, Structure

        return Structure(Lattice(self.lattice), self.symbols, self.frac_coords)

    @classmethod
    def from_bytes(cls, data: bytes) -> PackedStructure:
        """The inverse of `to_bytes`.

        Raises:
            StructureError: not the bytes of a packed structure.
        """
        if len(data) < _HEADER.size:
            raise StructureError("not a packed structure: too short")
        magic, n_atoms = _HEADER.unpack_from(data)
        if magic != _MAGIC or len(data) != _HEADER.size + 72 + 25 * n_atoms:
            raise StructureError("not a packed structure: wrong header or length")
        start = _HEADER.size
        lattice = np.frombuffer(data, "<f8", 9, start).reshape(3, 3)
        coords = np.frombuffer(data, "<f8", 3 * n_atoms, start + 72).reshape(-1, 3)
        numbers = np.frombuffer(data, np.uint8, n_atoms, start + 72 + 24 * n_atoms)
        return cls(lattice, coords, numbers)

    def to_bytes(self) -> bytes:
        """Little-endian: magic, number of atoms, lattice, coordinates, atomic numbers.

        8 + 72 + 25 n_atoms bytes; exact, so that a stored structure gives the same voltage.
        """
        return b"".join(
            (
                _HEADER.pack(_MAGIC, len(self)),
                self.lattice.astype("<f8").tobytes(),
                self.frac_coords.astype("<f8").tobytes(),
                self.atomic_numbers.tobytes(),
            )
        )

    def __len__(self) -> int:
        return len(self.atomic_numbers)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PackedStructure):
            return NotImplemented
        return self.to_bytes() == other.to_bytes()

    def __hash__(self) -> int:
        return hash(self.to_bytes())

    @cached_property
    def volume(self) -> float:
        """Volume of the cell, cubic angstrom."""
        return float(abs(np.linalg.det(self.lattice)))

    @cached_property
    def composition(self) -> Composition:
        """The cell's composition as pymatgen has it."""
        from pymatgen.core import Composition

        return Composition(self.element_counts)

    @cached_property
    def element_counts(self) -> dict[str, int]:
        """Number of atoms by element symbol, by ascending atomic number."""
        numbers, counts = np.unique(self.atomic_numbers, return_counts=True)
        return {element_symbol(int(z)): int(n) for z, n in zip(numbers, counts, strict=True)}

    @property
    def symbols(self) -> list[str]:
        """Element symbol of every site."""
        return [element_symbol(int(z)) for z in self.atomic_numbers]

    @cached_property
    def formula(self) -> str:
        """Reduced formula, as pymatgen writes it."""
        with warnings.catch_warnings():
            # pymatgen orders by electronegativity and warns that noble gases have none.
            warnings.filterwarnings("ignore", message="No Pauling electronegativity")
            return str(self.composition.reduced_formula)

    @cached_property
    def content_hash(self) -> str:
        """32 hex digits that name the crystal, whatever file or database it came from.

        Equal for the same cell in another orientation, with its atoms in another order, moved
        by whole cells, or written with fewer digits (steps of 0.001 angstrom, 0.01 degree and
        0.001 of a cell vector). A different choice of cell is a different structure. A crystal
        and its mirror image hash alike: every quantity we predict is equal for both.
        """
        lengths = np.linalg.norm(self.lattice, axis=1)
        unit = self.lattice / lengths[:, None]
        cosines = np.array([unit[1] @ unit[2], unit[0] @ unit[2], unit[0] @ unit[1]])
        angles = np.degrees(np.arccos(np.clip(cosines, -1.0, 1.0)))
        cell = np.concatenate((_steps(lengths / _LENGTH_STEP), _steps(angles / _ANGLE_STEP)))
        coords = _steps((self.frac_coords % 1.0) * _FRAC_STEPS) % _FRAC_STEPS
        sites = np.column_stack((self.atomic_numbers.astype(np.int64), coords))
        order = np.lexsort(sites.T[::-1])
        digest = hashlib.blake2b(digest_size=16, person=b"voltscreen-1")
        digest.update(cell.astype("<i8").tobytes())
        digest.update(sites[order].astype("<i8").tobytes())
        return digest.hexdigest()

    def take(self, sites: NDArray[np.integer[Any]]) -> PackedStructure:
        """The structure with only the sites of these indices, in that order."""
        return PackedStructure(self.lattice, self.frac_coords[sites], self.atomic_numbers[sites])


def refuse_many_atoms(count: int) -> None:
    """Raise for a cell that is larger than any crystal's.

    Raises:
        StructureError: more than `MAX_ATOMS`.
    """
    if count > MAX_ATOMS:
        raise StructureError(
            f"too many atoms: {count} in the cell, at most {MAX_ATOMS} can be predicted; "
            "give the primitive cell"
        )


def disordered(site: str) -> StructureError:
    """The refusal of a structure with a partly occupied site."""
    return StructureError(
        f"disordered structure: {site} is partly occupied; "
        "give an ordered one (pymatgen's OrderDisorderedStructureTransformation)"
    )


def deuterium() -> StructureError:
    """The refusal of a structure with deuterium."""
    return StructureError(
        "deuterium: the network knows no isotopes; write D as H to have it predicted as hydrogen"
    )


def _steps(values: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.floor(values + _STEP_OFFSET).astype(np.int64)


def element_symbol(atomic_number: int) -> str:
    """Element symbol of an atomic number from 1 to 118."""
    return _SYMBOLS[atomic_number]


_SYMBOLS = (
    "X H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As "
    "Se Br Kr Rb Sr Y Zr Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd "
    "Tb Dy Ho Er Tm Yb Lu Hf Ta W Re Os Ir Pt Au Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am "
    "Cm Bk Cf Es Fm Md No Lr Rf Db Sg Bh Hs Mt Ds Rg Cn Nh Fl Mc Lv Ts Og"
).split()
