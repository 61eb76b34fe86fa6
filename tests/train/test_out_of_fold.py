from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.model.helpers import random_crystal
from voltscreen.errors import FileFormatError
from voltscreen.train.dataset import LabelledElectrodes
from voltscreen.train.out_of_fold import OPTIONAL, OutOfFold, store_path


@pytest.fixture
def data() -> LabelledElectrodes:
    hosts = [random_crystal(seed, 4) for seed in range(6)]
    return LabelledElectrodes(
        hosts=hosts,
        host_of_row=np.arange(6),
        ion=np.array(["Li", "Mg"] * 3),
        voltage=np.linspace(1, 4, 6),
        group=np.array([f"g{i}" for i in range(6)]),
        paper_prediction=np.full(6, np.nan),
        folds={"random": np.arange(6) % 2},
        row_id=np.array([f"mp-{i}_x" for i in range(6)]),
    )


@pytest.fixture
def store(data) -> OutOfFold:
    store = OutOfFold.of(data, "network")
    backwards = np.arange(6)[::-1]
    store.describe("network", "a network")
    store.add(
        "network", "random", data.row_id[backwards], data.folds["random"][backwards],
        data.voltage[backwards] + 0.1, lo90=data.voltage[backwards] - 1,
        hi90=data.voltage[backwards] + 1,
    )  # fmt: skip
    lithium = data.rows_of("Li")
    store.add("mean", "ion-Li", data.row_id[lithium], np.zeros(3, np.int64), data.voltage[lithium])
    return store


def test_predictions_are_aligned_to_the_rows_of_the_data(store, data) -> None:
    held = store.get("network", "random", data)
    assert np.allclose(held.prediction, data.voltage + 0.1, atol=1e-6)
    assert np.allclose(held.hi90 - held.lo90, 2, atol=1e-6)
    assert np.isnan(held.lo80).all()
    assert held.rows.all()
    assert (held.fold == data.folds["random"]).all()


def test_rows_outside_a_split_have_no_fold_and_no_prediction(store, data) -> None:
    held = store.get("mean", "ion-Li", data)
    assert held.rows.tolist() == [True, False] * 3
    assert held.fold.tolist() == [0, -1] * 3


def test_a_store_is_read_as_it_was_written(store, data, tmp_path) -> None:
    path = store_path(tmp_path / "x.safetensors")
    assert path.name == "x.out_of_fold.parquet"
    store.write(path)
    again = OutOfFold.read(path)
    assert again.recipes == ("network", "mean")
    assert again.splits("network") == ("random",)
    assert again.descriptions == {"network": "a network"}
    assert (again.model_recipe, again.data_sha256) == ("network", data.sha256)
    for recipe, split in (("network", "random"), ("mean", "ion-Li")):
        one, other = store.get(recipe, split, data), again.get(recipe, split, data)
        for name in ("fold", "prediction", *OPTIONAL):
            assert np.array_equal(getattr(one, name), getattr(other, name), equal_nan=True)
    table = pq.read_table(path)
    assert table.column_names == ["recipe", "split", "row_id", "fold", "prediction", *OPTIONAL]
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_the_same_store_is_the_same_file(store, tmp_path) -> None:
    for name in ("a", "b"):
        store.write(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_an_empty_store_is_read_back_empty(data, tmp_path) -> None:
    OutOfFold.of(data, "network").write(tmp_path / "empty")
    assert OutOfFold.read(tmp_path / "empty").recipes == ()


def test_adding_again_replaces(store, data) -> None:
    store.add("network", "random", data.row_id, np.zeros(6, np.int64), np.zeros(6))
    held = store.get("network", "random", data)
    assert (held.prediction == 0).all()
    assert np.isnan(held.lo90).all()


def test_other_data_are_refused(store, data) -> None:
    store.check(data)
    with pytest.raises(FileFormatError, match="not those of the out-of-fold predictions"):
        store.check(replace(data, voltage=data.voltage + 1e-9))
    fewer = replace(data, row_id=np.array([f"mp-{i}_y" for i in range(6)]))
    with pytest.raises(FileFormatError, match="6 rows of the out-of-fold predictions, mp-5_x"):
        store.get("network", "random", fewer)


def test_an_unknown_rung_is_refused_with_those_there_are(store, data) -> None:
    with pytest.raises(FileFormatError, match="network on random, mean on ion-Li"):
        store.get("mean", "random", data)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"prediction": np.full(6, np.nan)}, "not a number"),
        ({"prediction": np.zeros(5)}, "different lengths"),
        ({"row_id": np.array(["a"] * 6)}, "a row occurs twice"),
        ({"fold": np.full(6, 128)}, "outside 0 to 127"),
        ({"lo95": np.zeros(6)}, "unknown columns lo95"),
    ],
)
def test_wrong_predictions_are_refused(store, data, change, sentence) -> None:
    good = {"row_id": data.row_id, "fold": np.zeros(6, np.int64), "prediction": np.zeros(6)}
    with pytest.raises(FileFormatError, match=sentence):
        store.add("network", "grouped", **good | change)


def test_a_missing_or_damaged_file_is_one_sentence(tmp_path) -> None:
    with pytest.raises(FileFormatError, match="there are no out-of-fold predictions at"):
        OutOfFold.read(tmp_path / "none")
    (tmp_path / "damaged").write_bytes(b"PAR1 and nothing")
    with pytest.raises(FileFormatError, match="is not a store of out-of-fold predictions"):
        OutOfFold.read(tmp_path / "damaged")
