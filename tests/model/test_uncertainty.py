from __future__ import annotations

import numpy as np
import pytest

from voltscreen.model.uncertainty import (
    Domain,
    conformal_half_width,
    find_neighborhood,
    fit_intervals,
    fit_weights,
)


@pytest.mark.parametrize("n", [40, 200])
def test_conformal_width_covers_new_rows_as_often_as_it_says(n: int) -> None:
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(2000):
        errors = rng.standard_t(3, n + 1)
        covered.append(abs(errors[-1]) <= conformal_half_width(errors[:-1], 0.9))
    assert 0.89 <= np.mean(covered) <= 0.93


def test_conformal_width_of_few_rows_is_the_largest_error() -> None:
    assert conformal_half_width(np.array([0.1, -0.5, 0.2]), 0.9) == 0.5


def made_up_neighborhood(rng: np.random.Generator, p: int = 2):
    """Hosts in p dimensions; labels that follow the first, and rough where the second is large."""
    hosts = rng.normal(size=(400, p))
    rough = np.where(hosts[:, 1] > 0, 1.0, 0.01)
    labels = np.stack([hosts[:, 0] + rough * rng.normal(size=400) for _ in range(2)])
    labels[1, 50:] = np.nan
    return find_neighborhood(hosts, labels, np.stack([hosts[:, 0]] * 2)), hosts


def test_the_percentile_grows_with_the_distance_and_knows_its_own() -> None:
    rng = np.random.default_rng(0)
    neighborhood, hosts = made_up_neighborhood(rng, 64)
    domain = Domain.of(neighborhood, np.array([1.0, 0.0, 0.0]))
    direction = rng.normal(size=64)
    path = np.array([hosts.mean(axis=0) + scale * direction for scale in (0.2, 1, 3, 30)])
    difficulty = domain.difficulty(path)
    percentiles = domain.percentile(difficulty)
    assert percentiles.shape == (2, 4)
    assert (np.diff(percentiles, axis=1) >= 0).all()
    assert (percentiles[:, -1] == 100).all()
    assert (np.diff(difficulty, axis=1) > 0).all()
    fresh = rng.normal(size=(500, 64))
    assert 30 < np.median(domain.percentile(domain.difficulty(fresh))[0]) < 70


def test_a_host_among_rough_labels_and_bad_fits_is_harder() -> None:
    rng = np.random.default_rng(1)
    neighborhood, _ = made_up_neighborhood(rng)
    points = np.array([[0.0, -1.0], [0.0, 1.0]])
    _, rough, misfit = neighborhood.signs(points)
    assert rough[0, 1] > rough[0, 0] + 0.5
    assert misfit[0, 1] > misfit[0, 0] + 1
    easy, hard = Domain.of(neighborhood, np.array([0.2, 0.3, 0.2])).difficulty(points)[0]
    assert hard > 1.3 * easy


def test_a_training_host_does_not_count_as_its_own_neighbor() -> None:
    rng = np.random.default_rng(2)
    neighborhood, hosts = made_up_neighborhood(rng)
    own = neighborhood.own_signs
    assert [signs.shape for signs in own] == [(3, 400), (3, 50)]
    assert own[0][0].min() > neighborhood.signs(hosts)[0, 0].min()


def test_a_domain_is_stored_whole() -> None:
    neighborhood, hosts = made_up_neighborhood(np.random.default_rng(3))
    domain = Domain.of(neighborhood, np.array([0.2, 0.3, 0.2]))
    again = Domain.from_arrays(domain.arrays())
    np.testing.assert_array_equal(again.difficulty(hosts[:5]), domain.difficulty(hosts[:5]))


def test_weights_are_those_of_the_signs_that_errors_follow() -> None:
    rng = np.random.default_rng(0)
    signs, ion = rng.normal(size=(3, 20000)), rng.integers(0, 3, 20000)
    size = np.array([0.2, 0.5, 1.0])[ion] * np.exp(0.6 * signs[0] - 0.4 * signs[2])
    weights = fit_weights(rng.normal(size=20000) * size, signs, ion)
    assert weights[0] == pytest.approx(0.6, abs=0.15)
    assert weights[1] == pytest.approx(0.0, abs=0.05)
    assert weights[2] == 0.0


def test_intervals_widen_where_errors_do_and_cover_what_they_say() -> None:
    rng = np.random.default_rng(0)

    def rows(n: int):
        difficulty, ion = rng.uniform(0.5, 3, n), rng.integers(0, 3, n)
        return rng.normal(size=n) * np.array([0.2, 0.5, 1.0])[ion] * difficulty, difficulty, ion

    errors, difficulty, ion = rows(6000)
    intervals = fit_intervals(errors, difficulty, ion, 3)
    errors, difficulty, ion = rows(20000)
    bounds = intervals.around(np.zeros((3, 20000)), np.tile(difficulty, (3, 1)))
    assert (bounds[1] < 0).all()
    half = bounds[4, ion, np.arange(20000)]
    for x in range(3):
        for near in (difficulty < 1, difficulty > 2):
            assert np.mean(np.abs(errors) <= half, where=(ion == x) & near) == pytest.approx(
                0.9, abs=0.03
            )
