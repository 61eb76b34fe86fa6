"""Recipes on the frozen pre-trained trunk: one regressor an ion on its pooled features."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from voltscreen.ions import ION_SYMBOLS
from voltscreen.model.heads import IonHeads
from voltscreen.train.dataset import LabelledElectrodes
from voltscreen.train.heads import HeadOptions, fit_head
from voltscreen.train.splits import Split, inner_folds

Array = NDArray[np.float64]

MAX_GP_ROWS = 800
"""A Gaussian process on more rows than these is fitted to so many of them, drawn at random."""


@dataclass(frozen=True, slots=True)
class FrozenRecipe:
    """A regressor on pooled features.

    fit_predict: of training features (k, f), voltages (k,), groups (k,) and test features (t, f),
    the test voltages (t,).
    """

    description: str
    fit_predict: Callable[[Array, Array, NDArray[np.str_], Array], Array]

    def out_of_fold(
        self, data: LabelledElectrodes, pooled: NDArray[np.float32], split: Split
    ) -> Array:
        """(r,) volt, NaN for rows that the split never tests.

        Args:
            pooled: (h, f) of the labelled hosts by a trunk that has seen no voltage.
        """
        spread = pooled.std(axis=0) + 1e-6
        features = ((pooled - pooled.mean(axis=0)) / spread).astype(np.float64)[data.host_of_row]
        features = np.column_stack((features, 10.0 * data.ion_left))
        predicted = np.full(len(data), np.nan)
        for fold in np.unique(split.fold[split.fold >= 0]):
            for ion in ION_SYMBOLS:
                own = data.ion == ion
                train = np.flatnonzero(own & (split.fold != fold))
                test = np.flatnonzero(own & (split.fold == fold))
                if len(test) and len(train):
                    predicted[test] = self.fit_predict(
                        features[train], data.voltage[train], data.group[train], features[test]
                    )
        return predicted


def _ridge(train: Array, voltage: Array, group: NDArray[np.str_], test: Array) -> Array:
    from sklearn.linear_model import Ridge
    from sklearn.model_selection import GridSearchCV

    return _searched(
        GridSearchCV, Ridge(), {"alpha": [3.0, 30.0, 300.0, 3000.0]}, train, voltage, group, test
    )


def _searched(
    search: Any,
    model: Any,
    grid: dict[str, list[float]],
    train: Array,
    voltage: Array,
    group: NDArray[np.str_],
    test: Array,
) -> Array:
    """The model with the grid point that inner grouped folds choose."""
    fold = inner_folds(group, 5)
    if fold.max() == 0:
        return np.full(len(test), voltage.mean())
    parts = [(np.flatnonzero(fold != k), np.flatnonzero(fold == k)) for k in range(fold.max() + 1)]
    found = search(model, grid, cv=parts, scoring="neg_mean_absolute_error").fit(train, voltage)
    predicted: Array = found.predict(test)
    return predicted


def _gaussian_process(train: Array, voltage: Array, group: NDArray[np.str_], test: Array) -> Array:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

    del group
    if len(train) > MAX_GP_ROWS:
        chosen = np.random.default_rng(0).choice(len(train), MAX_GP_ROWS, replace=False)
        train, voltage = train[chosen], voltage[chosen]
    wide = (1e-2, 1e4)
    kernel = ConstantKernel(1.0, wide) * RBF(15.0, wide) + WhiteKernel(0.2, (1e-3, 10.0))
    process = GaussianProcessRegressor(kernel, normalize_y=True, random_state=0)
    with warnings.catch_warnings():
        # It warns when a parameter ends on its bound: the bound is as far as it need go.
        warnings.simplefilter("ignore", ConvergenceWarning)
        predicted: Array = process.fit(train, voltage).predict(test)
    return predicted


def _two_layers(train: Array, voltage: Array, group: NDArray[np.str_], test: Array) -> Array:
    torch.manual_seed(0)
    if len(set(group)) < 2:
        return np.full(len(test), voltage.mean())
    start = IonHeads(1, train.shape[1])
    head, _ = fit_head(train, voltage, group, start, HeadOptions(max_steps=300))
    with torch.inference_mode():
        predicted: Array = head(torch.from_numpy(test).float())[0].double().numpy()
    return predicted


FROZEN = {
    "frozen-ridge": FrozenRecipe("pre-trained trunk frozen; ridge by ion", _ridge),
    "frozen-gp": FrozenRecipe(
        "pre-trained trunk frozen; Gaussian process by ion", _gaussian_process
    ),
    "frozen-two-layer": FrozenRecipe(
        "pre-trained trunk frozen; two layers by ion, the paper's transfer", _two_layers
    ),
}
