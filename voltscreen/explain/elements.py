"""What the trunk has learned of elements, and which of their properties matter.

The paper's Fig. 3a (element vectors on two principal components, and their correlation with the
covalent radius) and Fig. S1 (importance of composition features in a random forest).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from voltscreen.model import VoltageModel
from voltscreen.model.vectors import element_vectors
from voltscreen.structures.packed import element_symbol
from voltscreen.train.baselines import (
    ELEMENT_PROPERTIES,
    STATISTICS,
    composition_features,
    composition_names,
    element_properties,
)
from voltscreen.train.dataset import LabelledElectrodes

LAST_ELEMENT = 94
N_TREES = 200


@dataclass(frozen=True, eq=False)
class ElementMap:
    """Element vectors on their first two principal components. k elements.

    symbols: k. coordinates: (k, 2). explained: (2,) share of the variance, 0 to 1.
    """

    symbols: list[str]
    coordinates: NDArray[np.float64]
    explained: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Correlation:
    """Of a component and a property over n elements.

    pearson, spearman: -1 to 1; p_pearson, p_spearman: two-sided, for no correlation, as single
    tests; p_adjusted: that of Pearson after Holm's correction for all tests of the list.
    """

    component: str
    property: str
    n: int
    pearson: float
    p_pearson: float
    spearman: float
    p_spearman: float
    p_adjusted: float


@dataclass(frozen=True, slots=True)
class Importance:
    """Of an elemental property, all its statistics over the composition together.

    impurity: share of the forest's gain, 0 to 1 (the paper's). permutation: rise of the mean
    absolute error on chemical systems that were held out when the property's columns are
    shuffled together, V; sd: of that over the folds, V.
    """

    property: str
    impurity: float
    permutation: float
    sd: float


def known_elements(model: VoltageModel, data: LabelledElectrodes | None) -> list[int]:
    """Atomic numbers that the training hosts hold; without them all to Pu but noble gases."""
    if data is not None:
        present = {symbol for host in data.hosts for symbol in host.element_counts}
        return [z for z in range(1, LAST_ELEMENT + 1) if element_symbol(z) in present]
    noble = {2, 10, 18, 36, 54, 86}
    return [z for z in range(1, LAST_ELEMENT + 1) if z not in noble and model.table.known[z]]


def map_elements(model: VoltageModel, atomic_numbers: Sequence[int]) -> ElementMap:
    """Principal components of the trunk's element vectors; the larger end of each positive."""
    from sklearn.decomposition import PCA

    pca = PCA(n_components=2)
    coordinates = pca.fit_transform(element_vectors(model, np.array(atomic_numbers)))
    # The sign of a component is arbitrary: the heaviest tail points up.
    signs = np.sign(coordinates[np.abs(coordinates).argmax(axis=0), [0, 1]])
    return ElementMap(
        [element_symbol(z) for z in atomic_numbers],
        coordinates * signs,
        pca.explained_variance_ratio_,
    )


def property_of(label: str, symbols: Sequence[str]) -> NDArray[np.float64]:
    """(k,) values of an elemental property; NaN where it is not known."""
    column = element_properties(impute=False)[:, ELEMENT_PROPERTIES.index(label)]
    return column[[_number(symbol) for symbol in symbols]]


def correlations(
    symbols: Sequence[str], columns: dict[str, NDArray[np.float64]]
) -> list[Correlation]:
    """Of each column with each elemental property, over the elements that have it.

    Args:
        symbols: k elements. columns: (k,) values by name.
    """
    table = element_properties(impute=False)
    rows = table[[_number(symbol) for symbol in symbols]]
    found = []
    for name, values in columns.items():
        for index, label in enumerate(ELEMENT_PROPERTIES):
            usable = np.isfinite(rows[:, index]) & np.isfinite(values)
            if usable.sum() < 4 or np.ptp(rows[usable, index]) == 0:
                continue
            found.append(_correlation(name, label, values[usable], rows[usable, index]))
    return _holm(found)


def _correlation(
    component: str, label: str, x: NDArray[np.float64], y: NDArray[np.float64]
) -> Correlation:
    from scipy.stats import pearsonr, spearmanr

    straight, ranks = pearsonr(x, y), spearmanr(x, y)
    return Correlation(
        component, label, len(x), float(straight.statistic), float(straight.pvalue),
        float(ranks.statistic), float(ranks.pvalue), float(straight.pvalue),
    )  # fmt: skip


def _holm(found: list[Correlation]) -> list[Correlation]:
    """The same with adjusted p-values, in their order."""
    import dataclasses

    order = sorted(range(len(found)), key=lambda i: found[i].p_pearson)
    adjusted, largest = list(found), 0.0
    for place, index in enumerate(order):
        largest = max(largest, min(1.0, (len(found) - place) * found[index].p_pearson))
        adjusted[index] = dataclasses.replace(found[index], p_adjusted=largest)
    return adjusted


def importances(data: LabelledElectrodes, ion: str) -> list[Importance]:
    """Elemental properties by their importance for an ion's voltages, most important first.

    A random forest on composition statistics, as the paper's Fig. S1; norms and orbital shares
    are features, too, but of no single property.
    """
    from sklearn.ensemble import RandomForestRegressor

    rows = data.rows_of(ion)
    x = composition_features(data.hosts)[data.host_of_row[rows]]
    y, fold = data.voltage[rows], data.folds["grouped"][rows]
    columns = _columns_of_properties()
    rng = np.random.default_rng(0)
    gains, rises = [], []
    for number in np.unique(fold):
        train, test = fold != number, fold == number
        forest = RandomForestRegressor(N_TREES, max_features=1 / 3, random_state=0, n_jobs=1)
        forest.fit(x[train], y[train])
        gains.append(forest.feature_importances_)
        plain = np.abs(forest.predict(x[test]) - y[test]).mean()
        rise = []
        for own in columns.values():
            shuffled = x[test].copy()
            shuffled[:, own] = shuffled[:, own][rng.permutation(len(shuffled))]
            rise.append(np.abs(forest.predict(shuffled) - y[test]).mean() - plain)
        rises.append(rise)
    gain, spread = np.mean(gains, axis=0), np.array(rises)
    found = [
        Importance(
            name, float(gain[own].sum()), float(spread[:, i].mean()), float(spread[:, i].std())
        )
        for i, (name, own) in enumerate(columns.items())
    ]
    return sorted(found, key=lambda one: -one.impurity)


def _columns_of_properties() -> dict[str, list[int]]:
    names = composition_names()
    return {
        label: [names.index(f"{label}_{statistic}") for statistic in STATISTICS]
        for label in ELEMENT_PROPERTIES
    }


def _number(symbol: str) -> int:
    from pymatgen.core import Element

    return int(Element(symbol).Z)
