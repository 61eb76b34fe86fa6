"""The options of `results` are the filters of a query, no more and no fewer."""

from __future__ import annotations

import pytest

from voltscreen.cli.result_filters import OPTIONS, to_query
from voltscreen.errors import QueryError
from voltscreen.store import ResultFilters, ResultQuery

DEFAULTS = {name: default for name, (_, default) in OPTIONS.items()}


def test_every_filter_has_an_option() -> None:
    assert set(OPTIONS) == set(ResultFilters.model_fields) - {"descending", "top"}


def test_without_options_the_query_has_no_filter() -> None:
    assert to_query("c", "Mg", DEFAULTS, None) == ResultQuery(campaign="c", ion="Mg")


def test_a_minus_turns_the_order_round_and_commas_separate_elements() -> None:
    query = to_query("c", "Mg", {**DEFAULTS, "sort": "-capacity", "elements": ["Mn, O", "P"]}, 5)
    assert (query.sort, query.descending, query.top) == ("capacity", True, 5)
    assert query.elements == ("Mn", "O", "P")


@pytest.mark.parametrize(
    ("given", "sentence"),
    [({"sort": "colour"}, "cannot sort by 'colour'"), ({"skip": -1}, "skip: ")],
)
def test_impossible_options_say_why(given, sentence) -> None:
    with pytest.raises(QueryError, match=sentence):
        to_query("c", "Mg", {**DEFAULTS, **given}, None)
