"""Insertion-energy labels as training targets: the labelled electrodes' hosts and pool hosts.

The label files are made by `voltscreen refine label` and hold no structures, only the ids of the
hosts in the pool and in the electrodes' own table.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from voltscreen.errors import FileFormatError
from voltscreen.ions import ION_SYMBOLS, working_ion
from voltscreen.structures import PackedStructure
from voltscreen.train.dataset import LabelledElectrodes
from voltscreen.train.distill import InsertionTargets, squash

if TYPE_CHECKING:
    import pandas as pd

POOL_LABELS = "insertion-labels-pool.parquet"
ELECTRODE_LABELS = "insertion-labels-electrodes.parquet"
QUANTITIES = ("insertion_energy", "ion_site_energy", "host_shift", "moment_change")
N_CRYSTAL = 64
_STRUCTURE_COLUMNS = ("lattice", "frac_coords", "atomic_numbers")


@dataclass(frozen=True, eq=False)
class TrainingHosts:
    """All hosts to learn from: those of the labelled electrodes, in their order, then the pool's.

    n_labelled: how many are the electrodes'. targets: of all of them.
    n_labels: insertion energies of pool hosts. sha256: hex digest of the label files.
    """

    structures: list[PackedStructure]
    n_labelled: int
    targets: InsertionTargets
    n_labels: int
    sha256: str

    @property
    def pool(self) -> NDArray[np.int64]:
        """Indices of the pool hosts."""
        return np.arange(self.n_labelled, len(self.structures))


def load_training_hosts(data: LabelledElectrodes, labels: Path, pool: Path) -> TrainingHosts:
    """Read both label files and the pool hosts they speak of.

    Args:
        data: labelled electrodes with `host_ids`. labels: folder of the label files.
        pool: Parquet file of the pool's structures.

    Raises:
        FileFormatError: a file is missing, or names a host that the pool does not hold.
    """
    import pandas as pd

    try:
        own = pd.read_parquet(labels / ELECTRODE_LABELS).set_index("host_id")
        of_pool = pd.read_parquet(labels / POOL_LABELS)
    except (OSError, KeyError) as error:
        raise FileFormatError(f"cannot read insertion labels from {labels}: {error}") from None
    of_pool = of_pool[of_pool["error"].isna()]
    of_pool = of_pool.assign(removed=of_pool["removed"].fillna(""))
    table = pd.concat([own.reindex(data.host_ids), of_pool.set_index("host_id")])
    values, crystal, moments = _arrays(table)
    ion = np.array([ION_SYMBOLS.index(symbol) for symbol in data.ion])
    has_row = np.zeros(values.shape[:2], np.bool_)
    has_row[data.host_of_row, ion] = True
    n_labelled = len(data.hosts)
    return TrainingHosts(
        structures=[*data.hosts, *_pool_structures(of_pool, pool)],
        n_labelled=n_labelled,
        targets=InsertionTargets(
            _standardise(values, has_row), _standard_crystal(crystal, n_labelled), moments
        ),
        n_labels=int(np.isfinite(values[n_labelled:, :, 0]).sum()),
        sha256=hashlib.sha256(
            b"".join((labels / name).read_bytes() for name in (POOL_LABELS, ELECTRODE_LABELS))
        ).hexdigest(),
    )


def _arrays(
    table: pd.DataFrame,
) -> tuple[NDArray[np.float64], NDArray[np.float32], list[NDArray[np.float32]]]:
    """(h, x, 4) values in eV and Bohr magnetons, (h, 64) crystal vectors, moments by host."""
    values = np.full((len(table), len(ION_SYMBOLS), len(QUANTITIES)), np.nan)
    crystal = np.full((len(table), N_CRYSTAL), np.nan, np.float32)
    moments = [np.zeros(0, np.float32)] * len(table)
    for h, row in enumerate(table.itertuples()):
        if not isinstance(row.ions, np.ndarray):
            continue
        place = [ION_SYMBOLS.index(symbol) for symbol in row.ions]
        for q, name in enumerate(QUANTITIES):
            values[h, place, q] = getattr(row, name)
        crystal[h] = row.crystal
        moments[h] = np.asarray(row.moments, dtype=np.float32)
    return values, crystal, moments


def _standardise(values: NDArray[np.float64], has_row: NDArray[np.bool_]) -> NDArray[np.float32]:
    """By ion: median and interquartile range, then squashed; the sign of the energy turned.

    Insertion energies are measured by the labelled electrodes' own, the rest by all hosts'.
    """
    standard = np.full(values.shape, np.nan)
    for x in range(values.shape[1]):
        for q in range(values.shape[2]):
            known = np.isfinite(values[:, x, q])
            reference = values[known & has_row[:, x] if q == 0 else known, x, q]
            if not len(reference):
                reference = values[known, x, q]
            if not len(reference):
                continue
            low, middle, high = np.percentile(reference, [25, 50, 75])
            spread = max((high - low) / 1.35, 1e-6)
            standard[:, x, q] = squash((values[:, x, q] - middle) / spread)
    standard[:, :, 0] *= -1.0
    return standard.astype(np.float32)


def _standard_crystal(crystal: NDArray[np.float32], n_labelled: int) -> NDArray[np.float32]:
    pool = crystal[n_labelled:]
    if not len(pool):
        pool = crystal
    spread = np.nanstd(pool, axis=0) + 1e-3
    standard: NDArray[np.float32] = ((crystal - np.nanmean(pool, axis=0)) / spread).astype(
        np.float32
    )
    return standard


def _pool_structures(table: pd.DataFrame, pool: Path) -> list[PackedStructure]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not len(table):
        return []
    try:
        every = pq.read_table(pool, columns=["material_id", *_STRUCTURE_COLUMNS])
        place = {host_id: i for i, host_id in enumerate(every["material_id"].to_pylist())}
        rows = every.take([place[host_id] for host_id in table["host_id"]])
    except (OSError, pa.ArrowInvalid) as error:
        raise FileFormatError(f"cannot read the pool's structures from {pool}: {error}") from None
    except KeyError as error:
        raise FileFormatError(
            f"{pool} does not hold {error.args[0]}, which the insertion labels name: it is "
            "another release of the pool; make the labels anew with `voltscreen refine label`"
        ) from None
    structures = []
    columns = (rows[name].to_pylist() for name in _STRUCTURE_COLUMNS)
    for lattice, coords, numbers, removed in zip(*columns, table["removed"], strict=True):
        structure = PackedStructure.from_arrays(lattice, coords, numbers)
        if removed:
            number = working_ion(removed).atomic_number
            structure = structure.take(np.flatnonzero(structure.atomic_numbers != number))
        structures.append(structure)
    return structures
