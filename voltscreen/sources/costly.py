"""Structure files that would keep a parser busy or fill the memory, refused before they do.

A few bytes can ask for much: a POSCAR claims 10^9 atoms in one line, a CIF multiplies its sites
with its symmetry operations. Both are counted here, cheaply, by the rules of pymatgen's parsers.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from voltscreen.errors import StructureError
from voltscreen.structures.packed import refuse_many_atoms

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pymatgen.core.operations import SymmOp
    from pymatgen.io.cif import CifBlock

MAX_POSITIONS = 8000
"""Sites times symmetry operations of a CIF: a second or two of pymatgen's parser."""
_COUNTS = re.compile(r"^[\s\d]+$")


def refuse_costly_poscar(text: str) -> None:
    """Raise for a POSCAR that claims more atoms than a structure can have.

    Raises:
        StructureError: too many atoms.
    """
    # Counts stand on line 6, or below as many lines of symbols; nothing else there is all digits.
    counts = [
        int(number[:9])
        for line in text.splitlines()[5:30]
        if _COUNTS.match(line)
        for number in line.split()
    ]
    refuse_many_atoms(sum(counts))


def refuse_costly_cif(text: str) -> None:
    """Raise for a CIF whose sites and symmetry make too many atoms.

    Raises:
        StructureError: too many atoms, or too much symmetry for so many sites.
    """
    from pymatgen.io.cif import CifFile, CifParser

    parser = None
    positions = 0
    for block in CifFile.from_str(text).data.values():
        sites = block.data.get("_atom_site_label")
        if not isinstance(sites, list):
            continue
        refuse_many_atoms(len(sites))
        parser = parser or CifParser.from_str("data_none\n_x y\n")
        operations = parser.get_symops(block)
        positions += len(sites) * len(operations)
        if positions > MAX_POSITIONS:
            raise StructureError(
                f"too many positions: {len(sites)} sites times {len(operations)} symmetry "
                "operations; give the primitive cell without symmetry (space group P1)"
            )
        refuse_many_atoms(_distinct(block, operations))


def _distinct(block: CifBlock, operations: Sequence[SymmOp]) -> int:
    """Atoms that the operations make of the sites, sites within 1e-3 of a cell counted once."""
    from pymatgen.io.cif import str2float

    columns = [block.data.get(f"_atom_site_fract_{axis}", []) for axis in "xyz"]
    sites = np.array([[str2float(text) for text in column] for column in columns]).T
    turned = [
        sites @ np.asarray(each.rotation_matrix).T + each.translation_vector for each in operations
    ]
    rounded = np.round(np.concatenate(turned) % 1.0, 3) % 1.0
    return len(np.unique(rounded, axis=0))
