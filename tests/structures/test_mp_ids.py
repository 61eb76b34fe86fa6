from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voltscreen.structures.mp_ids import LAST_NUMERIC_ID, is_material_id, plain_id


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("mp-149", "mp-149"),
        ("mp-aaaaaaft", "mp-149"),
        ("mp-ft", "mp-149"),
        ("mvc-00012", "mvc-12"),
        ("mp-a", "mp-0"),
        ("graphite", "graphite"),
        ("mp-149_Li", "mp-149_Li"),
        ("agm-12", "agm-12"),
        (f"mp-{LAST_NUMERIC_ID}", f"mp-{LAST_NUMERIC_ID}"),
        (f"mp-{LAST_NUMERIC_ID + 1}", "mp-hilze"),
        ("mp-aaahilze", "mp-hilze"),
    ],
)
def test_every_spelling_of_an_id_becomes_one(name, plain) -> None:
    assert plain_id(name) == plain


@given(st.integers(0, 10**9), st.sampled_from(["mp", "mvc"]), st.integers(0, 4))
def test_letters_and_numbers_name_the_same_material(number, prefix, padding) -> None:
    letters, rest = "", number
    while rest:
        rest, digit = divmod(rest, 26)
        letters = chr(ord("a") + digit) + letters
    spelled = f"{prefix}-{'a' * padding}{letters or 'a'}"
    assert plain_id(spelled) == plain_id(f"{prefix}-{number}")
    assert plain_id(plain_id(spelled)) == plain_id(spelled)
    assert is_material_id(spelled)
