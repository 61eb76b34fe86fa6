"""Choosing candidates for a second look by expected gain."""

from __future__ import annotations

import numpy as np
import pytest

from voltscreen.screening import Choice, RankedRow, choose_candidates
from voltscreen.screening.choice import expected_gain


def row(name: str, voltage: float, capacity: float | None, half: float) -> RankedRow:
    return RankedRow(
        structure_id=name, rank=1, score=None, formula="", voltage=voltage, sd=None,
        lo90=voltage - half, hi90=voltage + half, out_of_domain=None, capacity=capacity,
        energy_density=None, pareto=False,
    )  # fmt: skip


def test_expected_gain_is_the_mean_growth_of_the_area_under_the_front() -> None:
    rng = np.random.default_rng(0)
    voltage, capacity = np.array([3.0, 2.0, 2.4]), np.array([100.0, 300.0, 200.0])
    sd = np.array([0.2, 0.3, 0.5])
    gain = expected_gain(voltage, sd, capacity)
    grid = np.linspace(0, 400, 40_001)
    for i in range(3):
        others = np.delete(np.arange(3), i)
        level = np.max(np.where(grid <= capacity[others, None], voltage[others, None], 0), axis=0)
        drawn = rng.normal(voltage[i], sd[i], 400)
        grown = [
            np.where(grid <= capacity[i], np.maximum(v - level, 0), 0).sum() * 0.01 for v in drawn
        ]
        assert gain[i] == pytest.approx(np.mean(grown), abs=4 * np.std(grown) / 20)


def test_an_uncertain_candidate_behind_the_front_is_worth_more_than_a_certain_one() -> None:
    rows = [
        row("best", 3.5, 200, 0.4),
        row("sure", 3.3, 200, 0.05),
        row("open", 3.2, 200, 1.0),
        row("none", 3.9, None, 0.4),
    ]
    assert choose_candidates(rows, 2, Choice.RANK) == ["best", "sure"]
    assert choose_candidates(rows, 3, Choice.GAIN) == ["best", "open", "sure"]
