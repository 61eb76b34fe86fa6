"""A third of the matrix in every run; `make chaos` runs all of it."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from tests.chaos.ground import Scene, ground
from tests.chaos.matrix import CELLS, STEPS, Fault, run_matrix
from tests.conftest import in_memory
from voltscreen import failpoints
from voltscreen.failpoints import POINTS

# Every point is killed at; the other faults go round, each meets a fifth of the points.
OTHERS = [fault for fault in Fault if fault not in (Fault.KILL, Fault.STALE)]
CHOSEN = [
    *((step, Fault.KILL) for step in STEPS),
    *((step, OTHERS[index % len(OTHERS)]) for index, step in enumerate(STEPS)),
    *((step, Fault.STALE) for step in STEPS if Fault.STALE in step.faults),
]


def test_a_third_of_the_cells_is_chosen() -> None:
    assert len(CELLS) >= 60
    assert len(set(CHOSEN)) >= len(CELLS) / 3
    assert {fault for _, fault in CHOSEN} == set(Fault)


@pytest.mark.timeout(1200)
def test_whatever_happens_the_end_is_that_of_an_undisturbed_run() -> None:
    scenes = sorted({step.scene for step in STEPS}, key=list(Scene).index)
    # These cells kill workers, never the server, so that nothing need be on a disk.
    with (
        tempfile.TemporaryDirectory(dir=in_memory()) as folder,
        ground(Path(folder), scenes) as made,
    ):
        results = list(run_matrix(made, CHOSEN, parallel=2))
    bad = [f"{one.step.name} {one.fault}: {one.problem}" for one in results if one.problem]
    assert not bad, "\n".join(bad)


def test_without_its_variable_a_point_does_nothing(monkeypatch) -> None:
    monkeypatch.delenv(failpoints.VARIABLE, raising=False)
    failpoints._order.cache_clear()
    for point in POINTS:
        failpoints.reach(point)


def test_a_fault_comes_at_the_time_that_was_ordered(monkeypatch) -> None:
    monkeypatch.setenv(failpoints.VARIABLE, "rank.begun:raise:2")
    failpoints._order.cache_clear()
    failpoints.reach("rank.begun")
    failpoints.reach("rank.part")
    with pytest.raises(failpoints.FailPointError, match=r"rank\.begun"):
        failpoints.reach("rank.begun")
    failpoints.reach("rank.begun")
    failpoints._order.cache_clear()


def test_an_unknown_point_is_refused(monkeypatch) -> None:
    monkeypatch.setenv(failpoints.VARIABLE, "nowhere:kill")
    failpoints._order.cache_clear()
    with pytest.raises(ValueError, match="no point 'nowhere'"):
        failpoints.reach("rank.begun")
    monkeypatch.undo()
    failpoints._order.cache_clear()
