"""Labelled electrodes: hosts, working ions and average voltages to learn from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from voltscreen.errors import FileFormatError, VoltscreenError
from voltscreen.ions import WORKING_IONS
from voltscreen.structures import PackedStructure

if TYPE_CHECKING:
    import pandas as pd

ELECTRODES_FILE = "electrodes.csv"
HOSTS_FILE = "electrode_hosts.parquet"
FOLDS_FILE = "folds.csv"


@dataclass(frozen=True, eq=False)
class LabelledElectrodes:
    """Rows of (host, ion, voltage). r rows, h hosts.

    hosts: h structures in their charged state, as labelled (some keep part of the ion).
    host_of_row: (r,) int64, index into hosts.
    ion: (r,) str. voltage: (r,) float64, volt.
    group: (r,) str, chemical system of the host without the row's working ion: rows of one
        group are never split between training and test, whatever their ion.
    paper_prediction: (r,) float64, volt, what the paper's own model printed; NaN where absent.
    folds: by split name, (r,) int64 fold of each row.
    """

    hosts: list[PackedStructure]
    host_of_row: NDArray[np.int64]
    ion: NDArray[np.str_]
    voltage: NDArray[np.float64]
    group: NDArray[np.str_]
    paper_prediction: NDArray[np.float64]
    folds: dict[str, NDArray[np.int64]]

    def __len__(self) -> int:
        return len(self.voltage)

    def rows_of(self, ion: str) -> NDArray[np.int64]:
        """Indices of the rows with this working ion."""
        return np.flatnonzero(self.ion == ion)


def load_electrodes(folder: Path) -> LabelledElectrodes:
    """Read the layout `electrodes.csv`, `electrode_hosts.parquet` and, if there, `folds.csv`.

    Without `folds.csv` five random and five grouped folds are drawn with a fixed seed.

    Raises:
        FileFormatError: a file or column is missing, or an electrode names an unknown host.
    """
    import pandas as pd

    try:
        rows = pd.read_csv(folder / ELECTRODES_FILE)
        table = pd.read_parquet(folder / HOSTS_FILE).set_index("structure_id")
        rows = rows[rows["working_ion"].isin(WORKING_IONS)].reset_index(drop=True)
        host_ids = sorted(set(rows["charged_id"]))
        hosts = [
            PackedStructure.from_arrays(row.lattice, row.frac_coords, row.atomic_numbers)
            for row in table.loc[host_ids].itertuples()
        ]
        position = {host_id: index for index, host_id in enumerate(host_ids)}
        ion = rows["working_ion"].to_numpy(dtype=str)
        host_of_row = rows["charged_id"].map(position).to_numpy(dtype=np.int64)
        voltage = rows["average_voltage"].to_numpy(dtype=np.float64)
    except (OSError, KeyError, ValueError, VoltscreenError) as error:
        raise FileFormatError(f"cannot read labelled electrodes from {folder}: {error}") from None
    group = np.array(
        [
            "-".join(sorted(set(hosts[host].element_counts) - {symbol}))
            for host, symbol in zip(host_of_row, ion, strict=True)
        ]
    )
    paper = rows["paper_pred_voltage"] if "paper_pred_voltage" in rows else [np.nan] * len(rows)
    return LabelledElectrodes(
        hosts=hosts,
        host_of_row=host_of_row,
        ion=ion,
        voltage=voltage,
        group=group,
        paper_prediction=np.asarray(paper, dtype=np.float64),
        folds=_stored_folds(folder, rows) or _drawn_folds(group),
    )


def _stored_folds(folder: Path, rows: pd.DataFrame) -> dict[str, NDArray[np.int64]]:
    import pandas as pd

    if not (folder / FOLDS_FILE).exists():
        return {}
    folds = pd.read_csv(folder / FOLDS_FILE).set_index("battery_id").loc[rows["battery_id"]]
    return {name: folds[f"fold_{name}"].to_numpy(dtype=np.int64) for name in ("grouped", "random")}


def _drawn_folds(group: NDArray[np.str_]) -> dict[str, NDArray[np.int64]]:
    from sklearn.model_selection import GroupKFold, KFold

    drawn = {
        "grouped": GroupKFold(5).split(group, groups=group),
        "random": KFold(5, shuffle=True, random_state=0).split(group),
    }
    folds = {name: np.zeros(len(group), np.int64) for name in drawn}
    for name, parts in drawn.items():
        for number, (_, test) in enumerate(parts):
            folds[name][test] = number
    return folds
