"""Label files beside structures: what belongs to which host, and by what standard."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tests.model.helpers import random_crystal
from voltscreen.errors import FileFormatError
from voltscreen.ions import ION_SYMBOLS
from voltscreen.potentials.label_table import LabelKind, table_of, write_labels
from voltscreen.structures import PackedStructure
from voltscreen.train.dataset import LabelledElectrodes
from voltscreen.train.training_hosts import (
    ELECTRODE_LABELS,
    POOL_LABELS,
    VOLTAGES,
    TrainingHosts,
    load_training_hosts,
)

LI, MG = ION_SYMBOLS.index("Li"), ION_SYMBOLS.index("Mg")


def insertion_row(host_id: str, energies: dict[str, float], removed: str | None = None):
    others = [0.0] * len(energies)
    return {
        "host_id": host_id, "removed": removed, "n_atoms": 4, "site": [0.0] * 3,
        "moments": np.full(4, 0.5, np.float16), "crystal": np.full(64, len(host_id), np.float16),
        "ions": list(energies), "insertion_energy": list(energies.values()),
        "ion_site_energy": others, "host_shift": others, "moment_change": others, "error": None,
    }  # fmt: skip


def topotactic_row(host_id: str, voltages: dict[str, float]):
    return {
        "host_id": host_id, "ions": list(voltages), "count": [1] * len(voltages),
        "host_energy": [0.0] * len(voltages), "voltage": list(voltages.values()),
    }  # fmt: skip


def lithiated(host: PackedStructure) -> PackedStructure:
    coords = [*host.frac_coords, [0.5, 0.5, 0.5]]
    return PackedStructure.from_arrays(host.lattice, coords, [*host.atomic_numbers, 3])


@pytest.fixture
def data() -> LabelledElectrodes:
    """Five oxides of iron, each with a row for lithium."""
    hosts = [random_crystal(seed, 4, (8, 26)) for seed in range(5)]
    return LabelledElectrodes(
        hosts, np.arange(5), np.array(["Li"] * 5), np.linspace(2, 4, 5),
        np.array(["Fe-O"] * 5), np.full(5, np.nan), {}, host_ids=[f"h-{k}" for k in range(5)],
    )  # fmt: skip


@pytest.fixture
def files(tmp_path):
    """A sulfide as it is and emptied, an oxide of iron emptied, and one that failed."""
    sulfide, oxide = random_crystal(7, 4, (16, 25)), random_crystal(8, 4, (8, 26))
    pool = {"s-1": sulfide, "s-2": lithiated(sulfide), "o-1": lithiated(oxide), "x": sulfide}
    pd.DataFrame(
        [
            {"material_id": name, "lattice": s.lattice.ravel(),
             "atomic_numbers": s.atomic_numbers, "frac_coords": s.frac_coords.ravel()}
            for name, s in pool.items()
        ]
    ).to_parquet(tmp_path / "pool.parquet")  # fmt: skip
    own = [insertion_row(f"h-{k}", {"Li": float(k)}) for k in (0, 1, 2, 4)]
    others = [
        insertion_row("s-1", {"Li": -4.0, "Mg": 1.0}),
        insertion_row("s-2", {"Li": 2.0}, "Li"),
        {"host_id": "x", "error": "isolated atom"},
    ]
    write_labels(table_of(own, LabelKind.INSERTION), tmp_path / ELECTRODE_LABELS)
    write_labels(table_of(others, LabelKind.INSERTION), tmp_path / POOL_LABELS)
    voltages = [topotactic_row("s-2", {"Li": 3.0}), topotactic_row("o-1", {"Li": 3.5})]
    write_labels(table_of(voltages, LabelKind.TOPOTACTIC), tmp_path / VOLTAGES)
    return tmp_path


def load(data, files) -> TrainingHosts:
    return load_training_hosts(data, files, files / "pool.parquet")


def test_labels_stand_with_their_hosts(data, files) -> None:
    hosts = load(data, files)
    assert hosts.n_labelled == 5
    assert hosts.structures[:5] == list(data.hosts)
    by_formula = {tuple(s.atomic_numbers): h for h, s in enumerate(hosts.structures) if h >= 5}
    assert len(hosts.structures) == 8
    assert len(by_formula) == 2, "lithium was not taken out"
    assert not any(3 in s.atomic_numbers for s in hosts.structures[5:])
    # Of the emptied sulfide both kinds are known, of the emptied oxide only the voltage.
    both = np.isfinite(hosts.targets.topotactic[:, LI]) & np.isfinite(
        hosts.targets.insertion[:, LI, 0]
    )
    assert both.sum() == 1
    assert np.isfinite(hosts.targets.topotactic[:, LI]).sum() == 2
    assert hosts.n_labels(hosts.pool) == (3, 2)
    assert np.isnan(hosts.targets.insertion[3]).all(), "the fourth electrode has no label"
    assert [len(moments) for moments in hosts.targets.moments[:5]] == [4, 4, 4, 0, 4]


def test_only_pool_hosts_of_unknown_chemistry_are_strange(data, files) -> None:
    hosts = load(data, files)
    elements = [set(hosts.structures[h].atomic_numbers.tolist()) for h in hosts.strange]
    assert elements == [{16, 25}, {16, 25}]


def test_energies_are_measured_by_the_electrodes_and_turned(data, files) -> None:
    energy = load(data, files).targets.insertion[:, LI, 0]
    # 0, 1, 2, 4: median 1.5, quartiles 0.75 and 2.5; the most stable stands highest.
    np.testing.assert_allclose(energy[[0, 1, 2]], -(np.arange(3) - 1.5) / (1.75 / 1.35), rtol=1e-6)
    assert 3 < np.nanmax(energy) < 4, "a label far off is squashed, not dropped"
    voltage = load(data, files).targets.topotactic[:, LI]
    assert np.nanmean(voltage) == pytest.approx(0)


def test_without_the_pool_the_electrodes_labels_are_the_same(data, files) -> None:
    every, own = load(data, files), load_training_hosts(data, files, None)
    assert len(own.structures) == len(data.hosts)
    assert len(own.strange) == 0
    for name in ("topotactic", "insertion", "crystal"):
        np.testing.assert_array_equal(
            getattr(own.targets, name), getattr(every.targets, name)[: len(data.hosts)]
        )
    assert own.sha256 == every.sha256


def test_what_is_missing_is_named(data, files) -> None:
    with pytest.raises(FileFormatError, match=r"none\.parquet"):
        load_training_hosts(data, files, files / "none.parquet")
    table = pd.read_parquet(files / "pool.parquet")
    table[table.material_id != "s-2"].to_parquet(files / "less.parquet")
    with pytest.raises(FileFormatError, match="does not hold s-2"):
        load_training_hosts(data, files, files / "less.parquet")
    (files / VOLTAGES).unlink()
    with pytest.raises(FileFormatError, match="cannot read the potential's labels"):
        load(data, files)
