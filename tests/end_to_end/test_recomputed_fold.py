"""A fold of the default model's card, computed again from the committed files."""

from __future__ import annotations

import numpy as np
import pytest

from tests.conftest import REPOSITORY
from voltscreen.model.catalog import model_path
from voltscreen.train.dataset import load_electrodes
from voltscreen.train.out_of_fold import OutOfFold, store_path
from voltscreen.train.parts import PartKey, ion_index, make_parts
from voltscreen.train.pretrained import load_pretrained
from voltscreen.train.recipe import MODEL_RECIPE, TrainingRun
from voltscreen.train.training_hosts import load_training_hosts

FOLD = 0
NOISE = 0.01
"""V, of the fold's mean error: other machines sum in another order."""


@pytest.mark.timeout(900)
def test_a_fold_trained_again_errs_as_the_card_says(shared_data, tmp_path) -> None:
    data = load_electrodes(shared_data)
    labels = REPOSITORY / "training"
    hosts = load_training_hosts(data, labels, None)
    start = load_pretrained(labels / "pretrained.safetensors")
    shop = TrainingRun(data, hosts, tmp_path, pretrained=start).workshop()
    key = PartKey(MODEL_RECIPE, "grouped", FOLD, 0)
    make_parts(shop, [key], workers=1)

    rows = shop.splits["grouped"].test_rows(FOLD)
    again = shop.read(key).voltages[data.host_of_row[rows], ion_index(data)[rows]]
    stored = OutOfFold.read(store_path(model_path("default"))).get("distilled-1", "grouped", data)
    found = np.abs(again - data.voltage[rows]).mean()
    assert found == pytest.approx(np.abs(stored.prediction - data.voltage)[rows].mean(), abs=NOISE)
    assert np.abs(again - stored.prediction[rows]).mean() < 5 * NOISE
    assert found < np.abs(data.voltage[rows] - np.delete(data.voltage, rows).mean()).mean() / 2
