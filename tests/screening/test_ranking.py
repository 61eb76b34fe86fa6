from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydantic import ValidationError

from voltscreen.screening import Objective, RankInput, RankSpec, rank_candidates, uptake
from voltscreen.screening.ranking import pareto_front


def row(name: str, voltage: float, counts: dict[str, int], width: float = 1.0, ood: float = 10.0):
    return RankInput(
        structure_id=name, formula=name, uptake=uptake(counts), voltage=voltage, sd=width / 4,
        lo90=voltage - width / 2, hi90=voltage + width / 2, out_of_domain=ood,
    )  # fmt: skip


MNO2, V2O5, FEPO4, CARBON = (
    {"Mn": 1, "O": 2}, {"V": 2, "O": 5}, {"Fe": 1, "P": 1, "O": 4}, {"C": 2},
)  # fmt: skip


def test_one_objective_orders_by_its_value() -> None:
    rows = [row("a", 1.0, MNO2), row("b", 3.0, MNO2), row("c", 2.0, MNO2)]
    ranked = rank_candidates(rows, "Mg", RankSpec())
    assert [r.structure_id for r in ranked] == ["b", "c", "a"]
    assert [r.rank for r in ranked] == [1, 2, 3]
    assert ranked[0].energy_density == pytest.approx(3.0 * ranked[0].capacity)
    assert ranked[0].score == ranked[0].energy_density


def test_filters_drop_what_is_outside() -> None:
    rows = [
        row("kept", 3.0, MNO2), row("low", 1.9, MNO2), row("high", 4.1, MNO2),
        row("unsure", 3.0, MNO2, width=2.5), row("far", 3.0, MNO2, ood=99.5),
    ]  # fmt: skip
    options = RankSpec(voltage=(2, 4), max_interval_width=2.0, max_out_of_domain=99)
    assert [r.structure_id for r in rank_candidates(rows, "Mg", options)] == ["kept"]


def test_a_model_without_intervals_passes_no_interval_filter() -> None:
    bare = RankInput("x", "x", uptake(MNO2), 3.0, None, None, None, None)
    assert rank_candidates([bare], "Mg", RankSpec()) != []
    assert rank_candidates([bare], "Mg", RankSpec(max_interval_width=2)) == []
    assert rank_candidates([bare], "Mg", RankSpec(max_out_of_domain=99)) == []


def test_candidates_without_capacity_come_last_by_voltage() -> None:
    rows = [row("c1", 1.0, CARBON), row("c2", 2.0, CARBON), row("a", 0.5, FEPO4)]
    ranked = rank_candidates(rows, "Li", RankSpec())
    assert [r.structure_id for r in ranked] == ["a", "c2", "c1"]
    assert ranked[1].score is None
    assert ranked[1].capacity is None
    assert not ranked[1].pareto


def test_several_objectives_rank_by_the_mean_share_beaten() -> None:
    rows = [row("both", 3.0, V2O5), row("voltage", 4.0, FEPO4), row("neither", 1.0, FEPO4)]
    options = RankSpec(objectives=(Objective.VOLTAGE, Objective.CAPACITY))
    ranked = rank_candidates(rows, "Li", options)
    assert [r.structure_id for r in ranked] == ["both", "voltage", "neither"]
    assert [r.pareto for r in ranked] == [True, True, False]


def test_top_cuts_and_equal_scores_repeat() -> None:
    rows = [row(name, 2.0, MNO2) for name in "dbca"]
    ranked = rank_candidates(rows, "Mg", RankSpec(top=2))
    assert [r.structure_id for r in ranked] == ["a", "b"]


def test_nothing_gives_nothing() -> None:
    assert rank_candidates([], "Mg", RankSpec()) == []


@given(
    arrays(
        np.float64,
        st.tuples(st.integers(1, 30), st.integers(1, 3)),
        elements=st.integers(0, 5).map(float),
    )
)
def test_pareto_front_equals_its_definition(values) -> None:
    front = pareto_front(values)
    for i, candidate in enumerate(values):
        dominated = any((o >= candidate).all() and (o > candidate).any() for o in values)
        assert front[i] == (not dominated)


@pytest.mark.parametrize(
    "spec",
    [{"voltage": [4, 2]}, {"top": 0}, {"objectives": []}, {"objectives": ["beauty"]},
     {"max_out_of_domain": 120}, {"volltage": [2, 4]}],
)  # fmt: skip
def test_impossible_rank_specs_are_refused(spec) -> None:
    with pytest.raises(ValidationError):
        RankSpec.model_validate(spec)
