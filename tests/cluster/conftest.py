"""A real SLURM for the tests of this folder; where there is none they are left out, saying why."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.cluster import Cluster, Users, alone, up_cluster, why_not

LOCK = Path("/var/tmp/voltscreen-slurm-tests.lock")


@pytest.fixture(scope="session")
def _cluster() -> Iterator[Cluster]:
    if reason := why_not():
        pytest.skip(reason)
    users = Users(Path("/var/tmp/voltscreen-slurm-tests"))
    with alone(LOCK):
        cluster, started = up_cluster()
        users.enter(started=started)
    yield cluster
    with alone(LOCK):
        if users.leave():
            cluster.down()


@pytest.fixture
def slurm(_cluster: Cluster, voltscreen_home, monkeypatch) -> Iterator[Cluster]:
    """The cluster, for one test at a time, empty; commands of the test find it."""
    for name, value in _cluster.environment.items():
        monkeypatch.setenv(name, value)
    with alone(LOCK):
        _cluster.up()
        yield _cluster
        _cluster.clear()
