"""Voltages by a potential's energies of both known ends; nothing is fitted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from voltscreen.errors import StructureError
from voltscreen.ions import working_ion
from voltscreen.potentials.metals import metal_energy
from voltscreen.potentials.relaxation import RelaxOptions, relax
from voltscreen.structures import PackedStructure
from voltscreen.train.dataset import LabelledElectrodes
from voltscreen.train.electrode_files import ELECTRODES_FILE

if TYPE_CHECKING:
    from voltscreen.potentials.chgnet import ChgnetPotential

BOTH_ENDS = "both-ends-electrodes.csv"
RELAXED = "relaxed-ends-electrodes.csv"
DISCHARGED_FILE = "electrode_discharged.parquet"
SEED = 0
RELAXATION = RelaxOptions(steps=100, force=0.1)
"""As of second looks."""


@dataclass(frozen=True, eq=False)
class Ends:
    """Both ends of a labelled electrode as DFT relaxed them. row: of the labelled electrodes."""

    row: int
    row_id: str
    ion: str
    host: PackedStructure
    discharged: PackedStructure


def read_ends_voltages(data: LabelledElectrodes, path: Path) -> NDArray[np.float64]:
    """(r,) volt from a table of row_id and voltage; NaN for rows that it lacks, or without it."""
    import pandas as pd

    found = np.full(len(data), np.nan)
    if path.exists():
        table = pd.read_csv(path).set_index("row_id")["voltage"]
        found = table.reindex(data.row_id).to_numpy(dtype=np.float64)
    return found


def draw_ends(data: LabelledElectrodes, folder: Path, count: int) -> Iterator[Ends]:
    """So many electrodes drawn at random, less those whose discharged end is not there.

    Args:
        folder: with electrodes.csv and electrode_discharged.parquet.
    """
    import pandas as pd

    ids = pd.read_csv(folder / ELECTRODES_FILE).set_index("battery_id")["discharged_id"]
    table = pd.read_parquet(folder / DISCHARGED_FILE).set_index("structure_id")
    for row in np.random.default_rng(SEED).permutation(len(data))[:count].tolist():
        name = ids[data.row_id[row]]
        if name not in table.index:
            continue
        cell = table.loc[name]
        end = PackedStructure.from_arrays(cell.lattice, cell.frac_coords, cell.atomic_numbers)
        host = data.hosts[data.host_of_row[row]]
        yield Ends(row, str(data.row_id[row]), str(data.ion[row]), host, end)


def ends_voltage(potential: ChgnetPotential, ends: Ends, *, relaxed: bool) -> float:
    """Volt, by the potential's energies of both ends.

    Args:
        relaxed: let the potential relax both ends, cell and all; else they stand as they are.

    Raises:
        StructureError: an end that cannot be computed, comes apart or does not converge, or no
            ion between the two.
    """
    number = working_ion(ends.ion).atomic_number
    ions = [int((one.atomic_numbers == number).sum()) for one in (ends.host, ends.discharged)]
    scale = (len(ends.host) - ions[0]) / (len(ends.discharged) - ions[1])
    inserted = ions[1] * scale - ions[0]
    if inserted <= 0:
        raise StructureError(f"the discharged end holds no more {ends.ion} than the host")
    pair = [ends.host, ends.discharged]
    before, after = _relaxed(potential, pair) if relaxed else potential.energies(pair)
    gained = after * scale - before - inserted * metal_energy(potential, ends.ion)
    return -gained / (inserted * working_ion(ends.ion).charge)


def _relaxed(potential: ChgnetPotential, ends: list[PackedStructure]) -> list[float]:
    found = relax(potential, ends, RELAXATION)
    for one in found:
        if one.failure or not one.converged:
            raise StructureError(one.failure or "not converged")
    return [one.energy for one in found]
