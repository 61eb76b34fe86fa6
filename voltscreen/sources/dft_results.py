"""What DFT said of the folders that `voltscreen export dft` wrote: electrodes with their voltages.

    V = -(E(discharged) - E(host) - x E(metal)) / (x z)

by the final energies of vasprun.xml. The Materials Project's corrections are left out: both ends
have the same atoms but for the ion, and they cancel.
"""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from voltscreen.errors import FileFormatError
from voltscreen.ions import working_ion
from voltscreen.structures import PackedStructure

MANIFEST = "manifest.json"
OUTPUTS = ("vasprun.xml", "vasprun.xml.gz")


@dataclass(frozen=True, eq=False)
class DftLabel:
    """An electrode computed by DFT.

    host, discharged: relaxed. voltage: volt. volume_change: largest / smallest - 1, per atom of
    the framework.
    """

    structure_id: str
    source_id: str
    ion: str
    host: PackedStructure
    discharged: PackedStructure
    voltage: float
    volume_change: float


@dataclass(slots=True)
class DftResults:
    """Labels, and for each electrode without one the reason."""

    labels: list[DftLabel] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class _Calculation:
    """energy: eV, of the cell."""

    energy: float
    structure: PackedStructure


def read_dft_results(folder: Path) -> DftResults:
    """Every electrode of a folder whose calculations are finished and converged.

    Raises:
        FileFormatError: no folder of `voltscreen export dft`, or the metal is not computed.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        ion, entries = working_ion(manifest["ion"]), list(manifest["electrodes"])
        metal = _calculation(folder / manifest["metal"])
    except OSError:
        raise FileFormatError(f"{folder} has no {MANIFEST}: give a folder of export dft") from None
    except (ValueError, KeyError, TypeError) as error:
        raise FileFormatError(f"{folder / MANIFEST} is damaged: {error}") from None
    reference = metal.energy / len(metal.structure)
    found = DftResults()
    for entry in entries:
        try:
            ends = [_calculation(folder / entry[end]) for end in ("host", "discharged")]
            found.labels.append(_label(entry, ion.symbol, ends[0], ends[1], reference))
        except FileFormatError as error:
            found.failed[str(entry["source_id"])] = str(error)
    return found


def write_electrodes(results: DftResults, folder: Path) -> int:
    """Write the labels as insertion electrodes and structures, JSON lines; how many.

    They are in the Materials Project's layout, which `voltscreen model dataset` reads.
    """
    folder.mkdir(parents=True, exist_ok=True)
    documents, structures = [], []
    for one in results.labels:
        documents.append(
            {
                "battery_id": f"{one.structure_id}_{one.ion}",
                "working_ion": one.ion,
                "average_voltage": one.voltage,
                "id_charge": one.structure_id,
                "formula_charge": one.host.composition.formula.replace(" ", ""),
                "formula_discharge": one.discharged.composition.formula.replace(" ", ""),
                "max_delta_volume": one.volume_change,
                "num_steps": 1,
            }
        )
        structures.append(
            {"material_id": one.structure_id, "structure": one.host.to_pymatgen().as_dict()}
        )
    for name, lines in (("insertion_electrodes", documents), ("structures", structures)):
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
    return len(documents)


def _calculation(folder: Path) -> _Calculation:
    from pymatgen.io.vasp.outputs import Vasprun

    path = next((folder / name for name in OUTPUTS if (folder / name).exists()), None)
    if path is None:
        raise FileFormatError(f"not computed yet: {folder} has no vasprun.xml")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pymatgen repeats what VASP warned of
            run: Any = Vasprun(path, parse_dos=False, parse_eigen=False, parse_potcar_file=False)
    except Exception as error:  # noqa: BLE001  # a file that was cut off fails in many ways
        raise FileFormatError(f"{path} is no complete vasprun.xml: {error}") from None
    if not run.converged:
        raise FileFormatError(f"not converged: {path}")
    return _Calculation(float(run.final_energy), PackedStructure.from_pymatgen(run.final_structure))


def _label(
    entry: dict[str, Any], ion: str, host: _Calculation, discharged: _Calculation, metal: float
) -> DftLabel:
    number = working_ion(ion).atomic_number
    counts = [int(np.sum(end.structure.atomic_numbers == number)) for end in (host, discharged)]
    frames = [len(end.structure) - n for end, n in zip((host, discharged), counts, strict=True)]
    scale = frames[0] / frames[1]  # cells of the discharged end in one of the host
    ions = counts[1] * scale - counts[0]
    if ions <= 0:
        raise FileFormatError(f"{entry['discharged']} holds no more {ion} than its host")
    gained = discharged.energy * scale - host.energy - ions * metal
    volumes = host.structure.volume, discharged.structure.volume * scale
    return DftLabel(
        structure_id=str(entry["structure_id"]),
        source_id=str(entry["source_id"]),
        ion=ion,
        host=host.structure,
        discharged=discharged.structure,
        voltage=-gained / (ions * working_ion(ion).charge),
        volume_change=max(volumes) / min(volumes) - 1,
    )
