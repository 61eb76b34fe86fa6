"""The refiner: trees as arrays, files, features and intervals."""

from __future__ import annotations

import numpy as np
import pytest

from voltscreen.errors import ModelError
from voltscreen.ions import ION_SYMBOLS
from voltscreen.model.likeness import fit_likeness
from voltscreen.model.refiner import Refiner, RefinerCard, load_refiner, save_refiner
from voltscreen.train.refined import (
    OPTIONS,
    as_trees,
    fit_trees,
    fit_uncertainty,
    interval_bounds,
    path_energies,
)


@pytest.fixture(scope="module")
def sample():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(400, 6))
    features[rng.random(features.shape) < 0.2] = np.nan
    missed = np.nan_to_num(features[:, 0]) * 0.3 + np.where(np.isnan(features[:, 1]), 0.4, 0.0)
    return features, missed + rng.normal(scale=0.05, size=400)


def test_trees_predict_as_scikit_learn_does_missing_values_too(sample) -> None:
    from sklearn.ensemble import HistGradientBoostingRegressor

    features, missed = sample
    models = [
        HistGradientBoostingRegressor(max_iter=10, random_state=seed).fit(features, missed)
        for seed in range(2)
    ]
    expected = np.mean([model.predict(features) for model in models], axis=0)
    assert as_trees(models).predict(features) == pytest.approx(expected, abs=1e-5)


def test_a_refiner_is_the_same_after_its_file(sample, tmp_path, monkeypatch) -> None:
    features, missed = sample
    monkeypatch.setitem(OPTIONS, "max_iter", 10)
    trees = fit_trees(features, missed)
    ion = np.arange(400) % len(ION_SYMBOLS)
    signs = np.log(np.abs(np.random.default_rng(1).normal(size=(3, 400))) + 0.05)
    intervals, weights, level = fit_uncertainty(missed - trees.predict(features), signs, ion)
    card = RefinerCard(
        description="", created="", model_id="m", potential="p", rows=400, with_short_look=0,
        attribution="", intervals="", errors=[], limits=[], command="", versions={},
    )  # fmt: skip
    like = fit_likeness(np.nan_to_num(features), np.ones(6), missed, 3.0, 0.1)
    made = Refiner(
        trees, like, tuple("abcdef"), tuple("abcdef"), ION_SYMBOLS, intervals, weights, level, card
    )
    path = tmp_path / "a.refiner"
    save_refiner(made, path)
    read = load_refiner(path)
    assert read.id == made.id
    assert read.names == made.names
    assert read.card == card
    given = features, np.nan_to_num(features)
    assert np.array_equal(read.correction(*given), made.correction(*given))
    assert np.array_equal(read.intervals.half90, intervals.half90)

    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ModelError, match="no refiner or is damaged"):
        load_refiner(path)


def test_the_process_meets_what_it_was_shown_and_knows_nothing_far_away() -> None:
    rng = np.random.default_rng(3)
    columns = rng.normal(size=(300, 4))
    missed = np.sin(columns[:, 0]) + 0.1
    process = fit_likeness(columns, np.array([1, 1, 1, 0.0]), missed, 3.0, 1e-3)
    assert process.predict(columns) == pytest.approx(missed, abs=0.05)
    new = rng.normal(size=(200, 4))
    error = np.abs(process.predict(new) - np.sin(new[:, 0]) - 0.1)
    assert error.mean() < 0.1
    # A column without weight changes nothing, and a column says no more beyond its limits.
    new[:, 3] += 5
    assert process.predict(new) == pytest.approx(process.predict(new - [0, 0, 0, 5]))
    assert process.predict(np.full((1, 4), 50.0)) == pytest.approx(
        process.predict(np.full((1, 4), 500.0))
    )


def test_the_shipped_refiner_is_of_the_shipped_default_and_knows_every_tier() -> None:
    from voltscreen.model import read_card
    from voltscreen.train.fit_refiner import TIERS

    card = load_refiner().card
    assert card.model_id == read_card("default")[0]
    errors = {(one.tier, one.split): one.mae for one in card.errors if one.ion == "all"}
    assert {tier for tier, _ in errors} == set(TIERS)
    for split in ("grouped", "random"):
        assert errors["refined", split] < errors["unrelaxed", split] < errors["fast", split]


def test_intervals_widen_with_difficulty_and_cover_as_they_say() -> None:
    rng = np.random.default_rng(2)
    scale = np.exp(rng.normal(scale=0.6, size=4000))
    errors = rng.normal(size=4000) * 0.3 * scale
    signs = np.stack((np.log(scale), rng.normal(size=4000), rng.normal(size=4000)))
    ion = np.arange(4000) % 2
    intervals, weights, level = fit_uncertainty(errors[:2000], signs[:, :2000], ion[:2000])
    assert weights[0] > 0.5
    bounds = interval_bounds(np.zeros(2000), signs[:, 2000:], ion[2000:], intervals, weights, level)
    inside = (bounds[3] <= errors[2000:]) & (errors[2000:] <= bounds[4])
    assert inside.mean() == pytest.approx(0.9, abs=0.03)
    wide = scale[2000:] > np.median(scale)
    assert inside[wide].mean() > 0.8  # 0.72 with one width for all


def test_the_path_of_energies_never_rises_and_is_filled_to_its_length() -> None:
    found = path_energies([-1.0, -1.5, -1.2, -1.6])
    assert found.tolist() == [-1.0, -1.5, -1.5, -1.6, -1.6, -1.6]
