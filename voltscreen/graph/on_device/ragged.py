"""Arrays of groups of unequal size: expanding them, cutting them, searching in them.

A group is a run of consecutive elements; sizes (g,) or offsets (g + 1,) int64 say where. Nothing
here loops over groups in Python.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

_AT_ONCE = {"cpu": 1 << 17, "cuda": 1 << 22}
"""Elements of a temporary array, each with a few hundred bytes in all of its kind."""


def at_once(device: torch.device) -> int:
    """Elements that a computation should hold at one time on a device."""
    return _AT_ONCE.get(device.type, _AT_ONCE["cuda"])


def offsets_of(sizes: Tensor) -> Tensor:
    """(g + 1,) int64: first element of each group, of sizes (g,)."""
    offsets = sizes.new_zeros(len(sizes) + 1)
    torch.cumsum(sizes, 0, out=offsets[1:])
    return offsets


def owners(sizes: Tensor) -> Tensor:
    """(n,) int64: the group of each element, of sizes (g,)."""
    return torch.repeat_interleave(torch.arange(len(sizes), device=sizes.device), sizes)


def spans(starts: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
    """The members of ranges that begin at `starts` (g,) and have `sizes` (g,).

    Returns:
        Of each member the range (n,) and the number (n,), int64.
    """
    owner = owners(sizes)
    first = starts - (offsets_of(sizes)[:-1])
    return owner, torch.arange(len(owner), device=sizes.device) + first[owner]


def runs(sizes: Tensor, limit: int) -> Iterator[tuple[int, int]]:
    """Runs (first, last) of consecutive groups of at most `limit` elements, or of one group."""
    if not len(sizes):
        return
    ends = sizes.cumsum(0)
    if int(ends[-1]) <= limit:
        yield 0, len(sizes)
        return
    ends, first, done = ends.cpu(), 0, 0
    while first < len(ends):
        last = int(torch.searchsorted(ends, done + limit, right=True))
        last = max(last, first + 1)
        yield first, last
        first, done = last, int(ends[last - 1])


def largest(values: Tensor, owner: Tensor, n: int) -> Tensor:
    """(n,): the largest value of each group, -inf without any; values, owner: (k,)."""
    found = values.new_full((n,), -torch.inf)
    return found.scatter_reduce_(0, owner, values, "amax")


def sums(values: Tensor, owner: Tensor, n: int) -> Tensor:
    """(n,): the sum of each group; values, owner: (k,)."""
    return values.new_zeros(n).index_add_(0, owner, values)


def are_repeated(keys: Tensor) -> Tensor:
    """(k,) bool: whether another of the keys (k,) int64 equals each."""
    ordered, index = keys.sort()
    equal = ordered[1:] == ordered[:-1]
    repeated = torch.zeros_like(keys, dtype=torch.bool)
    repeated[1:] = equal
    repeated[:-1] |= equal
    return torch.empty_like(repeated).scatter_(0, index, repeated)


def first_of_equals(keys: Tensor) -> Tensor:
    """Indices (u,), ascending, of those keys (k,) that no earlier one equals."""
    ordered, index = keys.sort(stable=True)
    is_first = torch.ones_like(ordered, dtype=torch.bool)
    is_first[1:] = ordered[1:] != ordered[:-1]
    return index[is_first].sort().values


def representatives(later: Tensor, earlier: Tensor, n: int) -> Tensor:
    """Who stands for each of n elements when they are taken in, one after another, unless they
    are like one that was taken in before, which then stands for them: the first such.

    Args:
        later, earlier: (p,) int64, all pairs of elements that are alike, earlier < later.
        n: elements.

    Returns:
        (n,) int64; an element that was taken in stands for itself.
    """
    own = torch.arange(n, device=later.device)
    open_, taken = (
        torch.ones(n, dtype=torch.bool, device=later.device),
        torch.zeros_like(own).bool(),
    )
    while True:
        # An element is decided once all before it that are like it are.
        waits = torch.zeros_like(open_)
        waits[later[open_[earlier]]] = True
        covered = torch.zeros_like(open_)
        covered[later[taken[earlier]]] = True
        now = open_ & (covered | ~waits)
        if not bool(now.any()):
            break
        taken |= now & ~covered
        open_ &= ~now
    known = taken[earlier] & ~taken[later]
    return own.scatter_reduce(0, later[known], earlier[known], "amin")
