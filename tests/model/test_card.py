from __future__ import annotations

import pytest
import yaml
from pydantic import BaseModel, ValidationError

from voltscreen.model.card import (
    Comparison,
    CoverageEntry,
    DomainDecile,
    LadderEntry,
    ModelCard,
    TrainingData,
)

OLD = {
    "name": "old", "description": "d", "created": "2026-01-01", "recipe": "r", "ions": ["Li"],
    "graph_spec": "nearest-1", "element_table_hash": "h", "host_state": "as labelled",
    "intervals": "none", "local_voltages": "none", "intended_use": "tests", "limits": [],
    "command": "none",
}  # fmt: skip


@pytest.fixture
def card() -> ModelCard:
    return ModelCard(
        **OLD,
        data=TrainingData(
            source="s", attribution="a", rows={"Li": 2}, hosts=2, filters=[], sha256="0"
        ),
        own_recipe="network",
        ladder=[
            LadderEntry(
                recipe="network", split="grouped", ion="Li", rows="paper-trimmed", n=2, mae=0.4,
                median=0.3, rmse=0.5, r2=None,
            )
        ],
        comparisons=[
            Comparison(
                split="grouped", recipe="network", against="paper", difference=-0.2, lo95=-0.3,
                hi95=-0.1, gain=True,
            )
        ],
        coverage=[
            CoverageEntry(split="grouped", ion="all", n=2, cover80=0.8, cover90=0.9, width90=1.5)
        ],
        domain_curve=[DomainDecile(split="grouped", decile=10, n=2, mae=0.7, highest=99.5)],
        potential="CHGNet 0.3.0: relaxations of the Materials Project, the pool hosts among them",
    )  # fmt: skip


def test_a_card_is_read_back_from_yaml_and_json(card) -> None:
    assert ModelCard.model_validate(yaml.safe_load(card.to_yaml())) == card
    assert ModelCard.model_validate_json(card.model_dump_json()) == card
    assert list(yaml.safe_load(card.to_yaml())) == list(ModelCard.model_fields)


def test_the_long_lists_can_be_left_out(card) -> None:
    short = yaml.safe_load(card.to_yaml(lists=False))
    assert set(card.model_dump()) - set(short) == {
        "ladder", "comparisons", "coverage", "domain_curve",
    }  # fmt: skip
    assert [entry.ion for entry in card.own_errors()] == ["Li"]


def test_a_card_without_a_ladder_still_loads() -> None:
    card = ModelCard.model_validate(OLD)
    assert card.ladder == card.comparisons == card.coverage == card.domain_curve == []
    assert card.potential is None


@pytest.mark.parametrize(
    ("part", "change"),
    [
        (None, {"mae": 0.3}),
        ("ladder", {"mape": 0.3}),
        ("ladder", {"rows": "trimmed"}),
        ("comparisons", {"p": 0.01}),
        ("coverage", {"cover95": 0.95}),
        ("domain_curve", {"decile": 11}),
        ("domain_curve", {"decile": 0}),
    ],
)
def test_what_is_not_in_the_schema_is_refused(card, part, change) -> None:
    data = yaml.safe_load(card.to_yaml())
    (data if part is None else data[part][0]).update(change)
    with pytest.raises(ValidationError):
        ModelCard.model_validate(data)


@pytest.mark.parametrize("part", ["ladder", "comparisons", "coverage", "domain_curve"])
def test_nothing_may_be_left_out_of_an_entry(card, part) -> None:
    for key in list(yaml.safe_load(card.to_yaml())[part][0]):
        data = yaml.safe_load(card.to_yaml())
        del data[part][0][key]
        with pytest.raises(ValidationError, match=key):
            ModelCard.model_validate(data)


@pytest.mark.parametrize("model", [LadderEntry, Comparison, CoverageEntry, DomainDecile])
def test_every_column_is_described(model: type[BaseModel]) -> None:
    assert all(field.description for field in model.model_fields.values())
