"""DFT inputs of both ends of an insertion, by the Materials Project's sets of pymatgen.

No POTCAR is written, for it may not be passed on: POTCAR.spec names what each calculation needs.
The working ion's metal is a calculation like the others, so that the voltage rests on nothing but
this folder.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from voltscreen.errors import VoltscreenError
from voltscreen.ions import working_ion
from voltscreen.potentials.metals import METALS
from voltscreen.structures import PackedStructure

if TYPE_CHECKING:
    from pymatgen.io.vasp.sets import VaspInputSet

MANIFEST = "manifest.json"
INPUT_SET = "MPRelaxSet"


@dataclass(frozen=True, eq=False)
class DftElectrode:
    """Two ends to compute.

    structure_id, source_id: of the candidate. host, discharged: relaxed by a potential.
    voltage: volt, what is expected.
    """

    structure_id: str
    source_id: str
    host: PackedStructure
    discharged: PackedStructure
    voltage: float | None


@dataclass(frozen=True, slots=True)
class DftEntry:
    """An electrode in the manifest; the folders are relative to it."""

    structure_id: str
    source_id: str
    formula_host: str
    formula_discharged: str
    host: str
    discharged: str
    expected_voltage: float | None


def write_dft_inputs(electrodes: Sequence[DftElectrode], ion: str, folder: Path) -> Path:
    """Write a folder a calculation and the manifest; the manifest's path.

    Raises:
        VoltscreenError: nothing to write, or the folder holds something else.
    """
    from pymatgen.core import __version__ as pymatgen_version

    if not electrodes:
        raise VoltscreenError("there is no electrode to write DFT inputs of")
    if folder.exists() and any(folder.iterdir()) and not (folder / MANIFEST).exists():
        raise VoltscreenError(f"{folder} is not empty: choose another folder")
    metal = f"metal-{ion}"
    symbol = working_ion(ion).symbol
    calculations = {metal: METALS["chgnet"][symbol].cell(symbol)}
    entries = []
    for number, one in enumerate(electrodes, 1):
        name = f"{number:04d}-{one.host.formula}"
        calculations |= {f"{name}/host": one.host, f"{name}/discharged": one.discharged}
        entries.append(
            DftEntry(
                one.structure_id, one.source_id, one.host.formula, one.discharged.formula,
                f"{name}/host", f"{name}/discharged", one.voltage,
            )
        )  # fmt: skip
    symbols = {path: _write(cell, folder / path) for path, cell in calculations.items()}
    manifest = {
        "ion": symbol,
        "metal": metal,
        "input_set": INPUT_SET,
        "pymatgen": pymatgen_version,
        "potcars": symbols,
        "electrodes": [asdict(entry) for entry in entries],
    }
    path = folder / MANIFEST
    path.write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    return path


def input_set(structure: PackedStructure) -> VaspInputSet:
    """The Materials Project's relaxation (PBE, PBE+U) of a structure, ferromagnetic.

    The k-points are denser where pymatgen's validation asks for more than the set gives.
    """
    from pymatgen.io.vasp.sets import MPRelaxSet

    # Sites of one element together, as VASP wants its POTCAR.
    cell = structure.to_pymatgen().get_sorted_structure()
    # Projection in real space is refused by the Materials Project's validation.
    return MPRelaxSet(cell, user_incar_settings={"LREAL": False})


def _write(structure: PackedStructure, folder: Path) -> list[str]:
    """INCAR, KPOINTS, POSCAR and POTCAR.spec; the POTCARs' names."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pymatgen's advice on sets and symmetry
        wanted = input_set(structure)
        wanted.write_input(str(folder), potcar_spec=True, make_dir_if_not_present=True)
        return [str(symbol) for symbol in wanted.potcar_symbols]
