from __future__ import annotations

import numpy as np
import pytest

from voltscreen.model.uncertainty import conformal_half_width, fit_domain, fit_intervals


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


def test_domain_percentile_grows_with_the_distance_and_knows_its_own() -> None:
    rng = np.random.default_rng(0)
    hosts = rng.normal(size=(400, 64))
    trained_on = np.ones((2, 400), bool)
    trained_on[1, 50:] = False
    domain = fit_domain(hosts, trained_on)
    direction = rng.normal(size=64)
    path = np.array([hosts.mean(axis=0) + scale * direction for scale in (0.2, 1, 3, 30)])
    percentiles = domain.percentile(domain.distance(path))
    assert percentiles.shape == (2, 4)
    assert (np.diff(percentiles, axis=1) >= 0).all()
    assert (percentiles[:, -1] == 100).all()
    fresh = domain.percentile(domain.distance(rng.normal(size=(500, 64))))
    assert 30 < np.median(fresh[0]) < 70


def test_intervals_widen_where_errors_do_and_cover_what_they_say() -> None:
    rng = np.random.default_rng(0)

    def rows(n: int):
        distances, ion = rng.uniform(0, 4, n), rng.integers(0, 3, n)
        sigma = np.array([0.2, 0.5, 1.0])[ion] * (1 + 0.8 * distances)
        return rng.normal(size=n) * sigma, distances, ion

    errors, distances, ion = rows(6000)
    intervals = fit_intervals(errors, distances, ion, 3)
    assert intervals.slope == pytest.approx(0.8, rel=0.4)
    errors, distances, ion = rows(20000)
    half = intervals.half90[ion] * intervals.widening(distances)
    for x in range(3):
        for near in (distances < 1, distances > 3):
            assert np.mean(np.abs(errors) <= half, where=(ion == x) & near) == pytest.approx(
                0.9, abs=0.04
            )


def test_an_interval_never_narrows_with_the_distance() -> None:
    rng = np.random.default_rng(0)
    distances = rng.uniform(0, 4, 500)
    errors = rng.normal(size=500) * (3 - 0.5 * distances)
    assert fit_intervals(errors, distances, np.zeros(500, int), 1).slope == 0
