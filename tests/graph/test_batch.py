from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from voltscreen.graph import chunks_of_atoms

SIZES = st.lists(st.integers(1, 300), max_size=60).map(lambda sizes: np.array(sizes, np.int64))


@given(SIZES, st.integers(1, 400))
def test_chunks_hold_every_structure_once_and_no_more_atoms_than_the_limit(sizes, limit) -> None:
    chunks = list(chunks_of_atoms(sizes, limit))
    assert np.concatenate([np.zeros(0, int), *chunks]).tolist() == list(range(len(sizes)))
    for chunk in chunks:
        assert len(chunk) == 1 or sizes[chunk].sum() <= limit


@pytest.mark.parametrize("count", [101, 150, 199, 201])
def test_chunks_are_about_equal_so_that_none_is_a_small_rest(count) -> None:
    atoms = [20 * len(chunk) for chunk in chunks_of_atoms(np.full(count, 20), 2000)]
    assert len(atoms) == -(-count // 100)
    assert max(atoms) - min(atoms) <= 20
