"""Hosts to learn from, labelled and not, and what a potential says of them.

The label files are made by `voltscreen refine label` and `voltscreen refine voltage`. They hold
no structures, only the ids of the hosts in the pool and in the electrodes' own table.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from voltscreen.errors import FileFormatError
from voltscreen.ions import ION_SYMBOLS, WORKING_IONS, working_ion
from voltscreen.structures import PackedStructure
from voltscreen.train.dataset import LabelledElectrodes
from voltscreen.train.distill import VOLTAGE_SCALE, PotentialTargets, squash

if TYPE_CHECKING:
    import pandas as pd

POOL_LABELS = "insertion-labels-pool.parquet"
ELECTRODE_LABELS = "insertion-labels-electrodes.parquet"
VOLTAGES = "topotactic-voltages-pool.parquet"
QUANTITIES = ("insertion_energy", "ion_site_energy", "host_shift", "moment_change")
N_CRYSTAL = 64
_STRUCTURE_COLUMNS = ("lattice", "frac_coords", "atomic_numbers")


@dataclass(frozen=True, eq=False)
class TrainingHosts:
    """All hosts to learn from: those of the labelled electrodes, in their order, then the pool's.

    n_labelled: how many are the electrodes'. targets: of all of them.
    strange: (k,) int64, pool hosts whose chemical system, without working ions, no labelled
        electrode has: what they teach is the same for every fold.
    sha256: hex digest of the label files.
    """

    structures: list[PackedStructure]
    n_labelled: int
    targets: PotentialTargets
    strange: NDArray[np.int64]
    sha256: str

    @property
    def pool(self) -> NDArray[np.int64]:
        """Indices of all pool hosts."""
        return np.arange(self.n_labelled, len(self.structures))

    def n_labels(self, hosts: NDArray[np.int64]) -> tuple[int, int]:
        """Insertion energies and topotactic voltages of some hosts."""
        insertion = self.targets.insertion[hosts, :, 0]
        return (
            int(np.isfinite(insertion).sum()),
            int(np.isfinite(self.targets.topotactic[hosts]).sum()),
        )


def load_training_hosts(data: LabelledElectrodes, labels: Path, pool: Path | None) -> TrainingHosts:
    """Read the label files and the pool hosts that they speak of.

    Args:
        data: labelled electrodes with `host_ids`. labels: folder of the label files.
        pool: Parquet file of the pool's structures; None leaves the pool hosts out, but measures
            the electrodes' labels by the same standard.

    Raises:
        FileFormatError: a file is missing, or names a host that the pool does not hold.
    """
    import pandas as pd

    try:
        own = pd.read_parquet(labels / ELECTRODE_LABELS).set_index("host_id")
        of_pool = pd.read_parquet(labels / POOL_LABELS)
        pairs = _pairs(pd.read_parquet(labels / VOLTAGES))
    except (OSError, KeyError) as error:
        raise FileFormatError(f"cannot read the potential's labels in {labels}: {error}") from None
    of_pool = of_pool[of_pool["error"].isna()]
    of_pool = of_pool.assign(removed=of_pool["removed"].fillna(""))
    of_pool = of_pool.merge(pairs, on=["host_id", "removed"], how="outer", sort=False)
    n_labelled = len(data.hosts)
    table = pd.concat([own.reindex(data.host_ids), of_pool.set_index("host_id")])
    values, crystal, moments = _arrays(table)
    emptied = n_labelled + np.flatnonzero(of_pool["voltage"].notna())
    ion = table["removed"].to_numpy()[emptied].astype(np.str_)
    structures = [*data.hosts, *(_pool_structures(of_pool, pool) if pool else [])]
    kept = len(structures)
    return TrainingHosts(
        structures=structures,
        n_labelled=n_labelled,
        targets=PotentialTargets(
            _standard_topotactic(table["voltage"].to_numpy(), emptied, ion)[:kept],
            _standardise(values, _has_row(data, len(table)))[:kept],
            _standard_crystal(crystal, n_labelled)[:kept],
            moments[:kept],
        ),
        strange=_strange(structures, n_labelled),
        sha256=hashlib.sha256(
            b"".join(
                (labels / name).read_bytes() for name in (POOL_LABELS, ELECTRODE_LABELS, VOLTAGES)
            )
        ).hexdigest(),
    )


def _pairs(table: pd.DataFrame) -> pd.DataFrame:
    """One row a (structure, ion taken out): host_id, removed, voltage."""
    long = table[["host_id", "ions", "voltage"]].explode(["ions", "voltage"])
    long = long.rename(columns={"ions": "removed"}).dropna(subset=["removed"])
    return long.astype({"voltage": float}).reset_index(drop=True)


def _has_row(data: LabelledElectrodes, n_hosts: int) -> NDArray[np.bool_]:
    """(h, x): where a label stands."""
    has_row = np.zeros((n_hosts, len(ION_SYMBOLS)), np.bool_)
    has_row[data.host_of_row, [ION_SYMBOLS.index(symbol) for symbol in data.ion]] = True
    return has_row


def _strange(structures: list[PackedStructure], n_labelled: int) -> NDArray[np.int64]:
    systems = [frozenset(host.element_counts).difference(WORKING_IONS) for host in structures]
    known = set(systems[:n_labelled])
    return np.array(
        [h for h in range(n_labelled, len(systems)) if systems[h] not in known], dtype=np.int64
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


def _standard_topotactic(
    voltage: NDArray[np.float64], host: NDArray[np.int64], ion: NDArray[np.str_]
) -> NDArray[np.float32]:
    """(h, x): against the ion's median in units of `VOLTAGE_SCALE`, squashed."""
    standard = np.full((len(voltage), len(ION_SYMBOLS)), np.nan)
    for x, symbol in enumerate(ION_SYMBOLS):
        own = host[ion == symbol]
        if len(own):
            standard[own, x] = squash((voltage[own] - np.median(voltage[own])) / VOLTAGE_SCALE)
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
