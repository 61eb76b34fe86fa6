"""A fold of the default model's card, computed again from the committed files."""

from __future__ import annotations

import numpy as np
import pytest

from tests.conftest import REPOSITORY
from voltscreen.model.catalog import model_path, read_card
from voltscreen.train.dataset import load_electrodes
from voltscreen.train.out_of_fold import OutOfFold, store_path
from voltscreen.train.parts import PartKey, ion_index, make_parts
from voltscreen.train.pretrained import load_pretrained
from voltscreen.train.recipe import TrainingRun
from voltscreen.train.training_hosts import load_training_hosts
from voltscreen.train.two_branches import MODEL_RECIPE, NETWORK_RECIPE, process_key

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
    network, process = PartKey(NETWORK_RECIPE, "grouped", FOLD, 0), process_key("grouped", FOLD)
    make_parts(shop, [process, network], workers=1)

    rows, ion = shop.splits["grouped"].test_rows(FOLD), ion_index(data)
    store = OutOfFold.read(store_path(model_path("default")))
    for recipe, key in (("distilled-1", network), ("process", process)):
        again = shop.read(key).voltages[data.host_of_row[rows], ion[rows]]
        stored = store.get(recipe, "grouped", data).prediction[rows]
        found, expected = (np.abs(v - data.voltage[rows]).mean() for v in (again, stored))
        assert found == pytest.approx(expected, abs=NOISE)
        assert np.abs(again - stored).mean() < 5 * NOISE
        spread = np.abs(data.voltage[rows] - np.delete(data.voltage, rows).mean()).mean()
        assert found < spread / 2


def test_the_card_says_what_the_stored_predictions_say(shared_data) -> None:
    data = load_electrodes(shared_data)
    store = OutOfFold.read(store_path(model_path("default")))
    both = store.get(MODEL_RECIPE, "grouped", data).prediction
    halves = [store.get(r, "grouped", data).prediction for r in (NETWORK_RECIPE, "process")]
    np.testing.assert_allclose(both, np.mean(halves, axis=0), atol=1e-3)
    card = next(
        e for e in read_card("default")[1].own_errors()
        if (e.split, e.ion, e.rows) == ("grouped", "all", "all")
    )  # fmt: skip
    assert card.mae == pytest.approx(np.abs(both - data.voltage).mean(), abs=1e-4)
