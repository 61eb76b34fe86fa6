from __future__ import annotations

import numpy as np
import pytest

from tests.model.helpers import random_crystal
from voltscreen.ions import ION_SYMBOLS
from voltscreen.train.dataset import LabelledElectrodes, load_electrodes
from voltscreen.train.splits import framework_formulas, inner_folds, ladder

SYSTEMS = [(8, 25), (8, 26), (8, 27), (9, 25), (9, 26), (16, 23), (16, 29), (8, 23), (9, 28)]


@pytest.fixture(scope="module")
def electrodes() -> LabelledElectrodes:
    """Hosts of nine chemical systems, each under three ions."""
    hosts = [random_crystal(seed, 6, SYSTEMS[seed % 9]) for seed in range(45)]
    host_of_row = np.tile(np.arange(45), 3)
    group = np.array(["-".join(sorted(hosts[h].element_counts)) for h in host_of_row])
    fold = np.unique(group, return_inverse=True)[1] % 5
    return LabelledElectrodes(
        hosts, host_of_row, np.repeat(["Li", "Mg", "Al"], 45), np.linspace(1, 4, 135), group,
        np.full(135, np.nan), {"grouped": fold, "random": np.arange(135) % 5},
    )  # fmt: skip


def folds_of(keys: np.ndarray, fold: np.ndarray) -> list[int]:
    return [len(set(fold[keys == key])) for key in np.unique(keys)]


def test_training_and_test_rows_are_all_rows_and_share_none(electrodes) -> None:
    for split in ladder(electrodes).values():
        for number in range(len(split.labels)):
            test, train = split.test_rows(number), split.train_rows(number)
            assert len(test) > 0
            assert len(train) > 0
            assert sorted([*test, *train]) == list(range(len(electrodes)))
        assert set(split.fold) <= {-1, *range(len(split.labels))}


def test_a_formula_and_a_chemical_system_are_in_one_fold_under_all_ions(electrodes) -> None:
    rungs = ladder(electrodes)
    assert set(folds_of(electrodes.group, rungs["grouped"].fold)) == {1}
    assert set(folds_of(framework_formulas(electrodes), rungs["formula"].fold)) == {1}
    assert max(folds_of(electrodes.group, rungs["random"].fold)) > 1
    by_host = [len(set(rungs["formula"].fold[electrodes.host_of_row == h])) for h in range(45)]
    assert set(by_host) == {1}


def test_leaving_out_an_ion_tests_its_rows_and_keeps_all_others(electrodes) -> None:
    rungs = ladder(electrodes)
    assert {name for name in rungs if name.startswith("ion-")} == {"ion-Li", "ion-Mg", "ion-Al"}
    split = rungs["ion-Mg"]
    assert set(electrodes.ion[split.test_rows(0)]) == {"Mg"}
    assert set(electrodes.ion[split.train_rows(0)]) == {"Li", "Al"}
    assert set(split.fold) == {0, -1}


def test_leaving_out_an_element_leaves_no_host_with_it_in_training(electrodes) -> None:
    rungs = ladder(electrodes)
    names = {name for name in rungs if name.startswith("element-")}
    assert names == {f"element-{e}" for e in ("V", "Mn", "Fe", "Co", "Ni", "Cu")}
    for name in names:
        split, element = rungs[name], name.removeprefix("element-")
        hosts = electrodes.host_of_row
        train = {e for row in split.train_rows(0) for e in electrodes.hosts[hosts[row]].symbols}
        assert element not in train
        assert all(element in electrodes.hosts[hosts[r]].symbols for r in split.test_rows(0))


def test_the_formula_of_a_framework_is_reduced_and_without_the_ion() -> None:
    big = random_crystal(0, 8, (3,))
    numbers = np.array([3, 3, 25, 25, 8, 8, 8, 8], np.uint8)
    host = type(big)(big.lattice, big.frac_coords, numbers)
    row = np.ones(2)
    data = LabelledElectrodes(
        [host], np.array([0, 0]), np.array(["Li", "Mg"]), row, row.astype(str), row, {}
    )
    assert framework_formulas(data).tolist() == ["Mn1O2", "Li1Mn1O2"]


def test_inner_folds_keep_groups_together_and_repeat() -> None:
    group = np.array([f"g{i % 7}" for i in range(50)])
    fold = inner_folds(group, 3)
    assert set(fold) == {0, 1, 2}
    assert set(folds_of(group, fold)) == {1}
    assert np.array_equal(fold, inner_folds(group, 3))
    assert set(inner_folds(np.array(["a", "b", "a"]), 3)) == {0, 1}
    assert inner_folds(np.array(["a", "a"]), 3).tolist() == [0, 0]


def test_the_ladder_repeats(electrodes) -> None:
    one, other = ladder(electrodes), ladder(electrodes)
    assert one.keys() == other.keys()
    assert all(np.array_equal(one[name].fold, other[name].fold) for name in one)


def test_the_shared_data_keep_their_stored_folds_and_have_every_rung(shared_data) -> None:
    data = load_electrodes(shared_data)
    rungs = ladder(data)
    assert {f"ion-{ion}" for ion in ION_SYMBOLS} <= set(rungs)
    assert len([name for name in rungs if name.startswith("element-")]) == 10
    for name in ("grouped", "random"):
        assert np.array_equal(rungs[name].fold, data.folds[name])
    assert set(folds_of(data.group, rungs["grouped"].fold)) == {1}
    assert set(folds_of(framework_formulas(data), rungs["formula"].fold)) == {1}
    sizes = np.bincount(rungs["formula"].fold)
    assert len(sizes) == 5
    assert sizes.min() > 0.7 * sizes.max()
