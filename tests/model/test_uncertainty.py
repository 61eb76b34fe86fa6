from __future__ import annotations

import numpy as np
import pytest

from voltscreen.model.uncertainty import conformal_half_width, fit_domain


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
    percentiles = domain.percentile(path)
    assert percentiles.shape == (2, 4)
    assert (np.diff(percentiles, axis=1) >= 0).all()
    assert (percentiles[:, -1] == 100).all()
    fresh = domain.percentile(rng.normal(size=(500, 64)))
    assert 30 < np.median(fresh[0]) < 70
