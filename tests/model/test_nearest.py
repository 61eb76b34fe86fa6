from __future__ import annotations

import numpy as np
import pytest

from voltscreen.model.nearest import nearest_hosts


@pytest.fixture
def space():
    rng = np.random.default_rng(0)
    hosts = rng.normal(size=(300, 40)).astype(np.float32)
    hosts[120] = hosts[7]
    counted = rng.random((3, 300)) < np.array([[1.0], [0.3], [0.0]])
    counted[2, [4, 9]] = True
    return rng, hosts, counted


def by_sorting(points, hosts, counted, n):
    distances = np.linalg.norm(points[:, None].astype(float) - hosts[None].astype(float), axis=2)
    distances = np.where(counted[:, None], distances, np.inf)
    order = np.argsort(distances, axis=2, kind="stable")[:, :, :n]
    return order, np.take_along_axis(distances, order, axis=2)


def test_the_nearest_are_those_of_a_full_sort(space) -> None:
    rng, hosts, counted = space
    points = np.concatenate((rng.normal(size=(50, 40)).astype(np.float32), hosts[:20]))
    which, distances = nearest_hosts(points, hosts, counted[:2], 5)
    expected, lengths = by_sorting(points, hosts, counted[:2], 5)
    np.testing.assert_array_equal(which, expected)
    np.testing.assert_allclose(distances, lengths, rtol=1e-12, atol=1e-12)
    assert distances[0, 50:, 0].max() == 0.0


def test_squares_that_somebody_has_already_give_the_same(space) -> None:
    rng, hosts, counted = space
    points = np.concatenate((rng.normal(size=(50, 40)).astype(np.float32), hosts[:20]))
    squares = ((points[:, None] - hosts[None]) ** 2).sum(axis=2)
    known = nearest_hosts(points, hosts, counted, 5, squares=squares)
    for found, expected in zip(known, nearest_hosts(points, hosts, counted, 5), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_of_equal_hosts_the_first_counts(space) -> None:
    _, hosts, counted = space
    which, distances = nearest_hosts(hosts[[7]], hosts, counted, 5)
    assert which[0, 0, :2].tolist() == [7, 120]
    assert distances[0, 0, :2].tolist() == [0.0, 0.0]


def test_where_there_are_fewer_the_rest_is_missing(space) -> None:
    _, hosts, counted = space
    which, distances = nearest_hosts(hosts[:3], hosts, counted, 5)
    assert sorted(which[2, 0, :2].tolist()) == [4, 9]
    assert (which[2, :, 2:] == -1).all()
    assert np.isnan(distances[2, :, 2:]).all()


def test_hosts_apart_are_not_their_own_neighbors(space) -> None:
    _, hosts, counted = space
    which, distances = nearest_hosts(hosts, hosts, counted, 5, apart=True)
    assert not (which == np.arange(300)[None, :, None]).any()
    assert distances[0, 7, 0] == 0.0
    assert which[0, 7, 0] == 120
    assert sorted(which[2, 4].tolist()) == [-1, -1, -1, -1, 9]
