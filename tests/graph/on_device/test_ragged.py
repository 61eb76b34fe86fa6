"""Groups of unequal size, and hashes of sets of atoms, against loops."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from voltscreen.graph.on_device.ragged import (
    are_repeated,
    first_of_equals,
    representatives,
    runs,
    spans,
)
from voltscreen.graph.on_device.walk import images_of, keys_of
from voltscreen.structures.near_atoms import ATOM_BITS, image_code, name_of

SIZES = st.lists(st.integers(0, 5), max_size=8)


@given(SIZES)
def test_spans_are_the_members_of_ranges(sizes) -> None:
    starts = [100 * i for i in range(len(sizes))]
    owner, number = spans(torch.tensor(starts).long(), torch.tensor(sizes).long())
    expected = [(i, starts[i] + k) for i, size in enumerate(sizes) for k in range(size)]
    assert list(zip(owner.tolist(), number.tolist(), strict=True)) == expected


@given(SIZES, st.integers(1, 9))
def test_runs_hold_every_group_once_and_no_more_than_the_limit(sizes, limit) -> None:
    found = list(runs(torch.tensor(sizes).long(), limit))
    assert [i for first, last in found for i in range(first, last)] == list(range(len(sizes)))
    assert all(sum(sizes[i:j]) <= limit or j - i == 1 for i, j in found)


@given(st.lists(st.integers(0, 4), max_size=12))
def test_equal_keys_are_known(keys) -> None:
    tensor = torch.tensor(keys).long()
    assert are_repeated(tensor).tolist() == [keys.count(key) > 1 for key in keys]
    assert first_of_equals(tensor).tolist() == [
        i for i, key in enumerate(keys) if key not in keys[:i]
    ]


@given(st.integers(1, 9), st.sets(st.tuples(st.integers(0, 8), st.integers(0, 8))))
def test_the_first_like_it_stands_for_an_element(n, pairs) -> None:
    alike = sorted({(max(p), min(p)) for p in pairs if max(p) < n and p[0] != p[1]})
    expected: list[int] = []
    for i in range(n):
        taken = [j for j in range(i) if expected[j] == j and (i, j) in alike]
        expected.append(taken[0] if taken else i)
    later, earlier = torch.tensor(alike).long().view(-1, 2).unbind(1)
    assert representatives(later, earlier, n).tolist() == expected


def test_a_set_of_atoms_is_known_again_in_another_cell_and_order() -> None:
    def names(atoms, shift):
        codes = [image_code(*np.add(image, shift).tolist()) for _, image in atoms]
        return [name_of(atom, code) for (atom, _), code in zip(atoms, codes, strict=True)]

    face = [(3, (0, 0, 0)), (3, (1, 0, -2)), (7, (-1, 2, 0))]
    turned = face[1:] + face[:1]
    same = [names(face, (0, 0, 0)), names(face[::-1], (4, -3, 1)), names(turned, (0, 0, 5))]
    other = [
        names([(3, (0, 0, 0)), (3, (1, 0, -2)), (8, (-1, 2, 0))], (0, 0, 0)),
        names([(3, (0, 0, 0)), (3, (1, 0, -2)), (7, (-1, 2, 1))], (0, 0, 0)),
    ]
    keys = keys_of(torch.tensor(same + other), torch.zeros(5).long()).tolist()
    assert keys[0] == keys[1] == keys[2]
    assert len(set(keys)) == 3
    assert int(keys_of(torch.tensor(same[:1]), torch.ones(1).long())) != keys[0]
    assert images_of(torch.tensor(same[1])).tolist()[0] == [3.0, -1.0, 1.0]
    assert same[0][0] >> ATOM_BITS == 0
