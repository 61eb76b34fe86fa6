"""Voltages by a potential's energies of both ends as DFT relaxed them; nothing is fitted."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from voltscreen.errors import StructureError
from voltscreen.ions import working_ion
from voltscreen.potentials.metals import metal_energy
from voltscreen.structures import PackedStructure
from voltscreen.train.dataset import ELECTRODES_FILE, LabelledElectrodes

if TYPE_CHECKING:
    from voltscreen.potentials.chgnet import ChgnetPotential

BOTH_ENDS = "both-ends-electrodes.csv"
DISCHARGED_FILE = "electrode_discharged.parquet"
SEED = 0


def read_both_ends(data: LabelledElectrodes, labels: Path) -> NDArray[np.float64]:
    """(r,) volt; NaN for rows that were not computed, and everywhere without the file."""
    import pandas as pd

    found = np.full(len(data), np.nan)
    path = labels / BOTH_ENDS
    if path.exists():
        table = pd.read_csv(path).set_index("row_id")["voltage"]
        found = table.reindex(data.row_id).to_numpy(dtype=np.float64)
    return found


def compute_both_ends(
    data: LabelledElectrodes, folder: Path, potential: ChgnetPotential, count: int
) -> list[tuple[str, float]]:
    """(row id, voltage) of so many electrodes drawn at random, those that can be computed.

    Args:
        folder: with electrodes.csv and electrode_discharged.parquet.
    """
    import pandas as pd

    ids = pd.read_csv(folder / ELECTRODES_FILE).set_index("battery_id")["discharged_id"]
    table = pd.read_parquet(folder / DISCHARGED_FILE).set_index("structure_id")
    rows: list[tuple[str, float]] = []
    for row in np.random.default_rng(SEED).permutation(len(data))[:count]:
        name = ids[data.row_id[row]]
        if name not in table.index:
            continue
        cell = table.loc[name]
        end = PackedStructure.from_arrays(cell.lattice, cell.frac_coords, cell.atomic_numbers)
        host, ion = data.hosts[data.host_of_row[row]], str(data.ion[row])
        try:
            rows.append((str(data.row_id[row]), _voltage(potential, host, end, ion)))
        except (StructureError, ZeroDivisionError):
            continue
    return rows


def _voltage(
    potential: ChgnetPotential, host: PackedStructure, end: PackedStructure, ion: str
) -> float:
    number = working_ion(ion).atomic_number
    ions = [int((one.atomic_numbers == number).sum()) for one in (host, end)]
    scale = (len(host) - ions[0]) / (len(end) - ions[1])
    inserted = ions[1] * scale - ions[0]
    before, after = potential.energies([host, end])
    gained = after * scale - before - inserted * metal_energy(potential, ion)
    return -gained / (inserted * working_ion(ion).charge)
