"""docs/mongodb.md: its questions are answered, by an index, and its table tells the truth."""

from __future__ import annotations

import re

import pytest

from tests.conftest import REPOSITORY
from voltscreen.store import get_structure
from voltscreen.store.documents import DOCUMENTS
from voltscreen.store.indexes import INDEXES

PAGE = (REPOSITORY / "docs" / "mongodb.md").read_text()
QUESTIONS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
NOTHING = ('"failed"',)
"""Questions whose answer is empty when all went well."""


def test_there_are_at_least_ten() -> None:
    assert len(QUESTIONS) >= 10


@pytest.mark.parametrize("question", QUESTIONS, ids=range(len(QUESTIONS)))
def test_every_question_is_answered_by_an_index(filled, question) -> None:
    db = filled.database
    values = {
        "db": db,
        "structure_id": get_structure(filled, "mno2-lambda").id,
        "model_id": filled.models.find_one({})["_id"],
    }
    cursor = eval(question, values)
    rows = list(cursor)
    assert rows or any(word in question for word in NOTHING)
    if "aggregate" not in question:
        plan = str(eval(question, values).explain()["queryPlanner"]["winningPlan"])
        assert "IXSCAN" in plan
        assert "COLLSCAN" not in plan


def test_the_table_names_every_collection_its_indexes_and_real_fields() -> None:
    lines = {
        match[1]: match[0]
        for match in re.finditer(r"^\| `(\w+)` \|.*$", PAGE, re.MULTILINE)
    }  # fmt: skip
    for document in DOCUMENTS:
        name = document.collection
        if name not in INDEXES:
            continue
        cells = [cell.strip() for cell in lines[name].strip("|").split("|")]
        listed = {tuple(part.strip(" `").split(", ")) for part in cells[3].split(";")}
        indexed = {tuple(index.document["key"]) for index in INDEXES[name]}
        assert listed == indexed, name
        own = set(document.model_fields)
        for field in re.findall(r"`(\w+)`", re.sub(r"\[\{.*?\}\]|\([^)]*\)", "", cells[2])):
            if name != "voltages":
                assert field in own or field in {"refused", "weights"}, f"{name}.{field}"
