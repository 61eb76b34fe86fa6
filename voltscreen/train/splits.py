"""The split ladder: from rows drawn at random to chemistry that training has never seen.

A figure on one rung says little; the fall from rung to rung says how far a model may be trusted
away from its training set.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voltscreen.ions import ION_SYMBOLS
from voltscreen.train.dataset import LabelledElectrodes

N_FOLDS = 5
SEED = 0
REDOX_ELEMENTS = ("Ti", "V", "Cr", "Mn", "Fe", "Co", "Ni", "Cu", "Mo", "W")


@dataclass(frozen=True, eq=False)
class Split:
    """Which rows are tested, and by a model fitted on which others.

    name: of the rung. description: what stays out of training.
    fold: (r,) int64, the fold that tests each row; -1 for rows that are never tested.
    labels: name of each fold, by its number. Fold k trains on every row of another fold, those
        of fold -1 included.
    """

    name: str
    description: str
    fold: NDArray[np.int64]
    labels: list[str]

    def test_rows(self, number: int) -> NDArray[np.int64]:
        """Indices of the rows that fold `number` tests."""
        return np.flatnonzero(self.fold == number)

    def train_rows(self, number: int) -> NDArray[np.int64]:
        """Indices of the rows that the model of fold `number` is fitted on."""
        return np.flatnonzero(self.fold != number)


def ladder(data: LabelledElectrodes) -> dict[str, Split]:
    """All rungs, easiest first, by name.

    - `random`: rows; the same host may be in training under another ion.
    - `formula`: reduced formula of the host without the row's working ion.
    - `grouped`: chemical system of the host without the row's working ion. Both keep a group in
      one fold for all ions. Folds that came with the data are used as they are.
    - `ion-Li` ...: every row of that ion is tested; the rows of all other ions stay in training,
      the same hosts among them, for that is what a user has who turns to a new ion.
    - `element-V` ...: every row whose host contains that redox element is tested, whatever else
      it contains.

    Rungs of an ion or element that no row has, or that every row has, are left out.
    """
    rungs = [
        _numbered_split("random", "rows drawn at random", data.folds["random"]),
        _numbered_split(
            "formula",
            "the host's formula without the working ion, under every ion",
            _shuffled_folds(framework_formulas(data)),
        ),
        _numbered_split(
            "grouped",
            "the host's chemical system without the working ion, under every ion",
            data.folds["grouped"],
        ),
    ]
    rungs.extend(
        _left_out("ion", ion, f"all rows of {ion}", data.ion == ion) for ion in ION_SYMBOLS
    )
    contained = [set(host.element_counts) for host in data.hosts]
    for element in REDOX_ELEMENTS:
        has = np.array([element in contained[host] for host in data.host_of_row])
        rungs.append(_left_out("element", element, f"all hosts that contain {element}", has))
    return {rung.name: rung for rung in rungs if len(np.unique(rung.fold)) > 1}


def _numbered_split(name: str, description: str, fold: NDArray[np.int64]) -> Split:
    """Folds named by their numbers."""
    return Split(name, description, fold, [str(number) for number in range(fold.max() + 1)])


def _left_out(kind: str, symbol: str, description: str, tested: NDArray[np.bool_]) -> Split:
    return Split(f"{kind}-{symbol}", description, np.where(tested, 0, -1), [symbol])


def framework_formulas(data: LabelledElectrodes) -> NDArray[np.str_]:
    """(r,) str: each row's host without its working ion, counts divided by their divisor."""
    formulas = []
    for host, ion in zip(data.host_of_row, data.ion, strict=True):
        counts = {e: n for e, n in data.hosts[host].element_counts.items() if e != ion}
        divisor = math.gcd(*counts.values())
        formulas.append("".join(f"{e}{counts[e] // divisor}" for e in sorted(counts)))
    return np.array(formulas)


def _shuffled_folds(group: NDArray[np.str_]) -> NDArray[np.int64]:
    from sklearn.model_selection import GroupKFold

    n_folds = min(N_FOLDS, len(np.unique(group)))
    if n_folds < 2:
        return np.zeros(len(group), np.int64)
    parts = GroupKFold(n_folds, shuffle=True, random_state=SEED)
    return _numbered(parts.split(group, groups=group), len(group))


def inner_folds(group: NDArray[np.str_], n_folds: int) -> NDArray[np.int64]:
    """Folds inside a training set, for choices that no test row may make.

    Args:
        group: (r,), rows of one group stay together. n_folds: at least 2.

    Returns:
        (r,) int64, 0 to n_folds - 1, or fewer folds where there are fewer groups; all 0 for a
        single group, which leaves nothing to choose by.
    """
    from sklearn.model_selection import GroupKFold

    n_folds = min(n_folds, len(np.unique(group)))
    if n_folds < 2:
        return np.zeros(len(group), np.int64)
    return _numbered(GroupKFold(n_folds).split(group, groups=group), len(group))


def _numbered(parts: Iterable[tuple[Any, Any]], n_rows: int) -> NDArray[np.int64]:
    fold = np.zeros(n_rows, np.int64)
    for number, (_, test) in enumerate(parts):
        fold[test] = number
    return fold
