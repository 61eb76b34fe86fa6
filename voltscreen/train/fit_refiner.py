"""Fitting a refiner: held-out predictions of every tier, then the fit to all rows."""

from __future__ import annotations

import datetime as dt
import importlib.metadata
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from voltscreen.ions import ION_SYMBOLS, working_ion
from voltscreen.model.refiner import Refiner, RefinerCard, TierError, mixed
from voltscreen.train.baselines import Features
from voltscreen.train.dataset import ATTRIBUTION, LabelledElectrodes
from voltscreen.train.evaluate import POOLED, coverage, rounded
from voltscreen.train.out_of_fold import HeldOut, OutOfFold
from voltscreen.train.refined import (
    PotentialColumns,
    fit_process,
    fit_trees,
    fit_uncertainty,
    interval_bounds,
    like_columns,
    refined_features,
    signs_of,
)

Array = NDArray[np.float64]

RECIPE = "refined"
SPLITS = ("grouped", "random")
TIERS = {
    "fast": "the network alone",
    "unrelaxed": "and the insertion energy of one ion in the largest void, nothing relaxed",
    RECIPE: "and the first steps of its relaxation, where they were computed",
    "relaxed": "CHGNet's energies of both known ends as it relaxes them, nothing fitted",
    "both-ends": "CHGNet's energies of both known ends as DFT relaxed them, nothing fitted",
}
"""Of the store of held-out predictions, by rising cost."""


@dataclass(frozen=True, eq=False)
class RefinerRun:
    """What a refiner is fitted to. r rows.

    oof: held-out predictions of the network. recipe: the network's name there. columns: of the
    potential. ends: (r,) volt by tier, of samples of which the potential knew both ends; NaN
    elsewhere.
    """

    data: LabelledElectrodes
    oof: OutOfFold
    recipe: str
    model_id: str
    potential: str
    columns: PotentialColumns
    ends: Mapping[str, Array]


def fit_refiner(
    run: RefinerRun, command: str, progress: Callable[[str], None]
) -> tuple[Refiner, OutOfFold]:
    """The refiner of all rows, and what each tier says of rows held out.

    The network's predictions are held out by the same folds as those that the trees are tested
    on, so that no test row's label reaches its own prediction; the trees' options are fixed.

    Args:
        progress: called with what is done next.
    """
    store = OutOfFold.of(run.data, RECIPE)
    for name, description in TIERS.items():
        store.describe(name, description)
    hosts = Features.of(run.data)
    errors: list[TierError] = []
    for split in SPLITS:
        fast = run.oof.get(run.recipe, split, run.data)
        _add(store, "fast", split, run.data, fast.fold, fast.prediction)
        for tier in ("unrelaxed", RECIPE):
            progress(f"{tier}, {split} folds")
            predicted = _held_out(run, hosts, fast, tier)
            bounds = _held_out_bounds(run, fast, predicted)
            _add(store, tier, split, run.data, fast.fold, predicted, bounds)
            errors += _errors(run.data, tier, split, predicted, bounds)
        errors += _errors(run.data, "fast", split, fast.prediction, None)
        for tier, voltage in run.ends.items():
            if np.isfinite(voltage).any():
                _add(store, tier, split, run.data, fast.fold, voltage)
                errors += _errors(run.data, tier, split, voltage, None)
    progress("all rows")
    return _final(run, hosts, store, errors, command), store


def _features(
    run: RefinerRun, hosts: Features, fast: Array, tier: str
) -> tuple[tuple[Array, list[str]], tuple[Array, list[str]]]:
    """Those of the trees and those of the process, with their names."""
    columns = run.columns if tier == RECIPE else run.columns.without_short()
    given = hosts, run.data.ion, fast, columns
    return refined_features(*given), like_columns(*given)


def _held_out(run: RefinerRun, hosts: Features, fast: HeldOut, tier: str) -> Array:
    features, like = (part for part, _ in _features(run, hosts, fast.prediction, tier))
    predicted = np.full(len(run.data), np.nan)
    for fold in np.unique(fast.fold[fast.fold >= 0]):
        train, test = np.flatnonzero(fast.fold != fold), np.flatnonzero(fast.fold == fold)
        missed = run.data.voltage[train] - fast.prediction[train]
        trees = fit_trees(features[train], missed).predict(features[test])
        process = fit_process(like[train], missed).predict(like[test])
        predicted[test] = fast.prediction[test] + mixed(trees, process)
    return predicted


def _signs(run: RefinerRun, fast: HeldOut, refined: Array) -> Array:
    charge = np.array([working_ion(str(ion)).charge for ion in run.data.ion])
    half = (fast.hi90 - fast.lo90) / 2
    return signs_of(refined, fast.prediction, half, -run.columns.insertion[:, 0] / charge)


def _ion(data: LabelledElectrodes) -> NDArray[np.int64]:
    return np.array([ION_SYMBOLS.index(str(ion)) for ion in data.ion])


def _held_out_bounds(run: RefinerRun, fast: HeldOut, refined: Array) -> Array:
    """(5, r): intervals of each fold by the errors of the others."""
    signs, ion = _signs(run, fast, refined), _ion(run.data)
    errors = run.data.voltage - refined
    bounds = np.full((5, len(refined)), np.nan)
    for fold in np.unique(fast.fold):
        others, own = fast.fold != fold, fast.fold == fold
        fitted = fit_uncertainty(errors[others], signs[:, others], ion[others])
        bounds[:, own] = interval_bounds(refined[own], signs[:, own], ion[own], *fitted)
    return bounds


def _add(
    store: OutOfFold, tier: str, split: str, data: LabelledElectrodes,
    fold: NDArray[np.int64], predicted: Array, bounds: Array | None = None,
) -> None:  # fmt: skip
    known = np.isfinite(predicted)
    names = ("lo80", "hi80", "lo90", "hi90")
    optional = {} if bounds is None else dict(zip(names, bounds[1:, known], strict=True))
    store.add(tier, split, data.row_id[known], fold[known], predicted[known], **optional)


def _errors(
    data: LabelledElectrodes, tier: str, split: str, predicted: Array, bounds: Array | None
) -> list[TierError]:
    found = []
    for ion in (POOLED, *ION_SYMBOLS):
        rows = np.isfinite(predicted) & ((data.ion == ion) | (ion == POOLED))
        if not rows.any():
            continue
        cover = None
        if bounds is not None:
            cover = rounded(coverage(data.voltage[rows], bounds[3, rows], bounds[4, rows]))
        error = float(np.abs(data.voltage - predicted)[rows].mean())
        found.append(
            TierError(
                tier=tier, split=split, ion=ion, n=int(rows.sum()), mae=rounded(error),
                cover90=cover,
            )
        )  # fmt: skip
    return found


def _final(
    run: RefinerRun, hosts: Features, store: OutOfFold, errors: list[TierError], command: str
) -> Refiner:
    fast = run.oof.get(run.recipe, "grouped", run.data)
    (features, names), (like, like_names) = _features(run, hosts, fast.prediction, RECIPE)
    held_out = store.get(RECIPE, "grouped", run.data).prediction
    signs = _signs(run, fast, held_out)
    intervals, weights, level = fit_uncertainty(run.data.voltage - held_out, signs, _ion(run.data))
    lacking = len(run.data) - int(run.columns.has_short.sum())
    card = RefinerCard(
        description="refined voltage: boosted trees and a Gaussian process on the network's "
        "voltage and on what CHGNet says of the host and of one ion in its largest void, before "
        "and after the first steps of its relaxation",
        created=dt.datetime.now(dt.UTC).date().isoformat(),
        model_id=run.model_id,
        potential=run.potential,
        rows=len(run.data),
        with_short_look=int(run.columns.has_short.sum()),
        attribution=ATTRIBUTION,
        intervals="conformal by ion on the grouped folds' held-out errors; wider where the "
        "network's interval is, and where network, insertion energy and refined voltage disagree",
        errors=errors,
        limits=[
            (
                "the potential was trained on Materials Project relaxations: the labelled hosts "
                "are not new to it"
            ),
            (
                "the network's held-out predictions of the trees' training rows come from networks "
                "that saw the test rows, though never their own row"
            ),
            (
                "columns, length, noise and share of the process were chosen on inner folds of the "
                "training rows of grouped fold 0: the other folds' rows were among these"
            ),
            (
                f"{lacking} of {len(run.data)} rows, the largest cells, have no relaxation steps: "
                "fitted and tested without"
            ),
        ],
        command=command,
        versions={
            name: importlib.metadata.version(name) for name in ("scikit-learn", "numpy", "chgnet")
        },
    )
    missed = run.data.voltage - fast.prediction
    return Refiner(
        trees=fit_trees(features, missed),
        likeness=fit_process(like, missed),
        names=tuple(names),
        like_names=tuple(like_names),
        ions=ION_SYMBOLS,
        intervals=intervals,
        weights=weights,
        level=level,
        card=card,
    )
