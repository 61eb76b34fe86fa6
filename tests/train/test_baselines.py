from __future__ import annotations

import numpy as np
import pytest

from tests.model.helpers import random_crystal
from voltscreen.structures import PackedStructure
from voltscreen.train import baselines
from voltscreen.train.baselines import (
    BASELINES,
    ELEMENT_PROPERTIES,
    Features,
    composition_features,
    composition_names,
    element_properties,
    ion_features,
    structure_features,
)
from voltscreen.train.dataset import LabelledElectrodes, load_electrodes
from voltscreen.train.splits import Split, ladder

LEARNING = [name for name in BASELINES if name != "mean"]


@pytest.fixture(scope="module")
def electrodes() -> LabelledElectrodes:
    """80 hosts under Li and Mg; the voltage rises with the share of Fe, Mg lies 1 V lower."""
    hosts = [random_crystal(seed, 6 + seed % 5, (8, 25, 26)) for seed in range(80)]
    host_of_row = np.tile(np.arange(80), 2)
    ion = np.repeat(["Li", "Mg"], 80)
    share = np.array([(h.atomic_numbers == 26).mean() for h in hosts])[host_of_row]
    group = np.array([f"{len(hosts[h])}-{h % 10}" for h in host_of_row])
    fold = host_of_row % 2
    return LabelledElectrodes(
        hosts, host_of_row, ion, 1.5 + 4 * share - (ion == "Mg"), group, np.full(160, np.nan),
        {"grouped": fold, "random": np.arange(160) % 2},
    )  # fmt: skip


@pytest.fixture(scope="module")
def features(electrodes) -> Features:
    return Features.of(electrodes)


@pytest.fixture(autouse=True)
def one_seed(monkeypatch) -> None:
    monkeypatch.setattr(baselines, "N_SEEDS", 1)


def mae(predicted: np.ndarray, data: LabelledElectrodes) -> float:
    return float(np.nanmean(np.abs(predicted - data.voltage)))


def crystal(numbers: list[int]) -> PackedStructure:
    packed = random_crystal(0, len(numbers))
    return PackedStructure.from_arrays(packed.lattice, packed.frac_coords, numbers)


def test_features_are_finite_and_named(electrodes, features) -> None:
    assert features.everything.shape == (len(electrodes), len(features.names))
    assert len(set(features.names)) == len(features.names)
    assert np.isfinite(features.everything).all()
    assert np.array_equal(features.everything[:, : len(composition_names())], features.composition)


def test_every_element_has_a_finite_row() -> None:
    table = element_properties()
    assert np.isfinite(table).all()
    exotic = composition_features([crystal([z, 8]) for z in range(1, 119)])
    assert np.isfinite(exotic).all()


def test_valence_shells_are_those_of_the_ground_state() -> None:
    first = ELEMENT_PROPERTIES.index("valence_s")
    table = element_properties()[:, first:]
    assert table[26].tolist() == [2, 0, 6, 0, 8, 0, 0, 4, 0, 4]  # Fe: 4s2 3d6
    assert table[8].tolist() == [2, 4, 0, 0, 6, 0, 2, 0, 0, 2]  # O: 2s2 2p4
    assert table[92, :5].tolist() == [2, 0, 1, 3, 6]  # U: 7s2 6d1 5f3


def test_composition_statistics_are_weighted_by_the_shares() -> None:
    (row,) = composition_features([crystal([26, 26, 8, 8, 8])])
    found = dict(zip(composition_names(), row, strict=True))
    mean = 0.4 * 26 + 0.6 * 8
    assert found["atomic_number_mean"] == pytest.approx(mean)
    assert found["atomic_number_range"] == 18
    assert found["atomic_number_mode"] == 8
    assert found["atomic_number_deviation"] == pytest.approx(0.4 * (26 - mean) + 0.6 * (mean - 8))
    assert found["norm_0"] == 2
    assert found["norm_2"] == pytest.approx(np.sqrt(0.4**2 + 0.6**2))


def test_composition_features_do_not_depend_on_the_size_or_order_of_the_cell() -> None:
    one, other = composition_features([crystal([26, 8, 8]), crystal([8, 8, 26, 8, 26, 8])])
    assert np.allclose(one, other)


def test_structure_features_of_rock_salt() -> None:
    half = 4.446 / 2
    host = PackedStructure.from_arrays(
        [0, half, half, half, 0, half, half, half, 0], [0, 0, 0, 0.5, 0.5, 0.5], [25, 8]
    )
    (row,), names = structure_features([host])
    found = dict(zip(names, row, strict=True))
    assert found["first_mean"] == pytest.approx(half, abs=1e-5)
    assert found["coordination_mean"] == 6
    assert found["n_atoms"] == 2
    assert found["volume_per_atom"] == pytest.approx(4.446**3 / 8)
    assert found["density"] == pytest.approx(5.36, abs=0.02)  # MnO, g/cm3
    assert found["void_distance"] == pytest.approx(half * np.sqrt(3) / 2, abs=1e-3)


def test_the_charge_of_metals_balances_the_other_elements() -> None:
    hosts = [crystal([25, 8, 8]), crystal([3, 27, 8, 8]), crystal([26] + [15] + [8] * 4),
             crystal([26] * 2 + [16] * 3 + [8] * 12), crystal([8, 8])]  # fmt: skip
    n = len(hosts)
    data = LabelledElectrodes(
        hosts, np.arange(n), np.array(["Li"] * n), np.ones(n), np.array(["g"] * n), np.ones(n), {}
    )
    rows, names = ion_features(data)
    # MnO2, LiCoO2, FePO4, Fe2(SO4)3, and oxygen without a metal
    assert rows[:, names.index("metal_charge")] == pytest.approx([4, 3, 3, 3, 0])
    assert rows[:, names.index("metal_charge_of_frame")] == pytest.approx([4, 4, 3, 3, 0])


@pytest.mark.parametrize("name", LEARNING)
def test_a_recipe_learns_and_predicts_only_tested_rows(name, electrodes, features) -> None:
    split = ladder(electrodes)["grouped"]
    predicted = BASELINES[name].out_of_fold(electrodes, split, features)
    mean = BASELINES["mean"].out_of_fold(electrodes, split, features)
    assert mae(predicted, electrodes) < 0.6 * mae(mean, electrodes)
    half = Split("half", "", np.where(split.fold == 0, 0, -1), ["0"])
    assert np.array_equal(
        np.isnan(BASELINES["mean"].out_of_fold(electrodes, half, features)), split.fold == 1
    )


@pytest.mark.parametrize("name", LEARNING)
def test_on_shuffled_labels_no_recipe_beats_the_mean(name, electrodes, features) -> None:
    rng = np.random.default_rng(0)
    voltage = electrodes.voltage.copy()
    for ion in ("Li", "Mg"):
        rows = electrodes.rows_of(ion)
        voltage[rows] = rng.permutation(voltage[rows])
    shuffled = LabelledElectrodes(
        electrodes.hosts, electrodes.host_of_row, electrodes.ion, voltage, electrodes.group,
        electrodes.paper_prediction, electrodes.folds,
    )  # fmt: skip
    split = ladder(shuffled)["grouped"]
    mean = BASELINES["mean"].out_of_fold(shuffled, split, features)
    assert mae(BASELINES[name].out_of_fold(shuffled, split, features), shuffled) > 0.95 * mae(
        mean, shuffled
    )


@pytest.mark.parametrize("name", BASELINES)
def test_a_test_rows_label_changes_nothing(name, electrodes, features) -> None:
    split = ladder(electrodes)["grouped"]
    test = split.test_rows(0)
    first = BASELINES[name].fit_predict(electrodes, features, split.train_rows(0), test)
    voltage = electrodes.voltage.copy()
    voltage[test] = 99.0
    changed = LabelledElectrodes(
        electrodes.hosts, electrodes.host_of_row, electrodes.ion, voltage, electrodes.group,
        electrodes.paper_prediction, electrodes.folds,
    )  # fmt: skip
    again = BASELINES[name].fit_predict(changed, features, split.train_rows(0), test)
    assert np.array_equal(first, again)


@pytest.mark.parametrize("name", BASELINES)
def test_an_ion_without_training_rows_still_gets_a_voltage(name, electrodes, features) -> None:
    predicted = BASELINES[name].out_of_fold(electrodes, ladder(electrodes)["ion-Mg"], features)
    assert np.array_equal(np.isfinite(predicted), electrodes.ion == "Mg")


def test_features_of_the_shared_data_are_finite(shared_data) -> None:
    assert np.isfinite(Features.of(load_electrodes(shared_data)).everything).all()
