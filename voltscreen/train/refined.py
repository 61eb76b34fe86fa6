"""The refined voltage: features of a (host, ion) pair that a second look was taken at, and fits.

The features are the fast voltage (held out in training), insertion energies of one ion in the
largest void without relaxation and after each of its first steps, what the potential says of
forces, pressure and moments, and the composition, structure and ion features of the baselines.
Boosted trees see all of them. A Gaussian process sees few, and the vector that the potential has
of the host.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voltscreen.errors import FileFormatError
from voltscreen.ions import ION_SYMBOLS, working_ion
from voltscreen.model.likeness import Likeness, fit_likeness
from voltscreen.model.refiner import Refiner, Trees
from voltscreen.model.uncertainty import Intervals, fit_intervals, fit_weights
from voltscreen.potentials.insertion import INSERTION_NUMBERS
from voltscreen.potentials.short_look import SHORT_LOOK_NUMBERS, SHORT_STEPS
from voltscreen.structures import PackedStructure
from voltscreen.train.baselines import Features
from voltscreen.train.dataset import LabelledElectrodes

Array = NDArray[np.float64]

SHORT_LABELS = "short-looks-electrodes.parquet"
N_SEEDS = 2
OPTIONS: dict[str, Any] = {
    "loss": "absolute_error", "learning_rate": 0.06, "max_iter": 350, "max_leaf_nodes": 24,
    "min_samples_leaf": 10, "l2_regularization": 1.0, "max_features": 0.4, "early_stopping": False,
}  # fmt: skip
"""The same for every fold, set after trials on the grouped folds; not searched for."""
LENGTH, NOISE = 8.0, 0.1
"""Of the process. These two, its columns and its share were chosen on the grouped inner folds of
the training rows of the first grouped fold."""
CRYSTAL_SIZE = 64
"""Numbers in the potential's vector of a host."""
CRYSTAL_WEIGHT = 5 / 8
"""Of each of them in the process, against one of the other columns."""
LIKE_HOST = (
    "ion_charge", "ion_radius", "ion_electronegativity", "ion_left", "metal_charge",
    "metal_charge_of_frame", "charge_density",
)  # fmt: skip
"""What the process sees of the baselines' features."""
_LEAST = 0.05  # volt, in logarithms of differences


@dataclass(frozen=True, eq=False)
class PotentialColumns:
    """What a potential says of r rows; NaN where it was not asked.

    insertion: (r, 8), see `INSERTION_NUMBERS`. energies: (r, SHORT_STEPS) eV, least insertion
    energy up to each force evaluation of a short look. short: (r, 6), see `SHORT_LOOK_NUMBERS`.
    crystal: (r, CRYSTAL_SIZE), the potential's vector of the host.
    """

    insertion: Array
    energies: Array
    short: Array
    crystal: Array

    @property
    def has_short(self) -> NDArray[np.bool_]:
        """(r,) bool: rows with a short look."""
        return np.isfinite(self.energies[:, 0])

    def without_short(self) -> PotentialColumns:
        """The same as if no relaxation had been done, which columns of zeros say."""
        nothing = np.zeros_like(self.energies), np.zeros_like(self.short)
        return PotentialColumns(self.insertion, *nothing, self.crystal)


def path_energies(energies: Sequence[float]) -> Array:
    """(SHORT_STEPS,): the least energy up to each step; the last one stands for those not taken."""
    least = np.minimum.accumulate(np.asarray(energies, dtype=np.float64)[:SHORT_STEPS])
    return np.concatenate((least, np.full(SHORT_STEPS - len(least), least[-1])))


def read_columns(data: LabelledElectrodes, labels: Path) -> PotentialColumns:
    """The label files of labelled electrodes, by row.

    Raises:
        FileFormatError: a file is missing.
    """
    import pandas as pd

    from voltscreen.train.training_hosts import ELECTRODE_LABELS

    try:
        plain = pd.read_parquet(labels / ELECTRODE_LABELS)
        looks = pd.read_parquet(labels / SHORT_LABELS)
    except OSError as error:
        raise FileFormatError(f"cannot read the potential's labels in {labels}: {error}") from None
    insertion = dict(_insertion_rows(plain))
    short = dict(_short_rows(looks))
    sound = plain[plain["error"].isna()]
    crystal = dict(zip(sound["host_id"], sound["crystal"], strict=True))
    keys = [(data.host_ids[h], str(ion)) for h, ion in zip(data.host_of_row, data.ion, strict=True)]
    nothing = np.full(SHORT_STEPS + len(SHORT_LOOK_NUMBERS), np.nan)
    found = np.array([short.get(key, nothing) for key in keys])
    return PotentialColumns(
        np.array([insertion.get(key, [np.nan] * len(INSERTION_NUMBERS)) for key in keys]),
        found[:, :SHORT_STEPS],
        found[:, SHORT_STEPS:],
        np.array([crystal.get(host, [np.nan] * CRYSTAL_SIZE) for host, _ in keys]),
    )


def _insertion_rows(table: Any) -> Any:
    for row in table[table["error"].isna()].itertuples():
        moments = np.asarray(row.moments, dtype=np.float64)
        host = [row.host_energy / row.n_atoms, moments.mean(), moments.max(), moments.std()]
        for place, ion in enumerate(row.ions):
            own = [getattr(row, name)[place] for name in INSERTION_NUMBERS[:4]]
            yield (row.host_id, ion), [*own, *host]


def _short_rows(table: Any) -> Any:
    for row in table[table["ions"].notna()].itertuples():
        for place, ion in enumerate(row.ions):
            numbers = [getattr(row, name)[place] for name in SHORT_LOOK_NUMBERS]
            yield (row.host_id, ion), np.concatenate((path_energies(row.energies[place]), numbers))


def refined_features(
    hosts: Features, ion: NDArray[np.str_], fast: Array, columns: PotentialColumns
) -> tuple[Array, list[str]]:
    """(r, f) and f names.

    Args:
        hosts: of the same rows. ion: (r,). fast: (r,) volt, NaN where there is none.
    """
    charge = np.array([working_ion(str(symbol)).charge for symbol in ion], dtype=np.float64)
    index = np.array([ION_SYMBOLS.index(str(symbol)) for symbol in ion], dtype=np.float64)
    unrelaxed = -columns.insertion[:, 0] / charge
    relaxed = -columns.energies / charge[:, None]
    steps = range(SHORT_STEPS)
    parts = [
        (hosts.everything, hosts.names),
        (columns.insertion, [f"insertion_{name}" for name in INSERTION_NUMBERS]),
        (
            np.column_stack((index, fast, unrelaxed, fast - unrelaxed)),
            ["ion", "fast", "unrelaxed", "fast_less_unrelaxed"],
        ),
        (relaxed, [f"relaxed_{k}" for k in steps]),
        (relaxed - fast[:, None], [f"relaxed_{k}_less_fast" for k in steps]),
        (columns.short, [f"short_{name}" for name in SHORT_LOOK_NUMBERS]),
    ]
    return np.concatenate([part for part, _ in parts], axis=1), [n for _, own in parts for n in own]


def like_columns(
    hosts: Features, ion: NDArray[np.str_], fast: Array, columns: PotentialColumns
) -> tuple[Array, list[str]]:
    """(r, g) and g names: what the process sees; nothing in them is NaN.

    Args:
        as for `refined_features`.
    """
    charge = np.array([working_ion(str(symbol)).charge for symbol in ion], dtype=np.float64)
    unrelaxed = -columns.insertion[:, 0] / charge
    looked = columns.has_short & np.any(columns.energies != 0, axis=1)
    first, last = (np.where(looked, -columns.energies[:, k] / charge, 0.0) for k in (1, -1))
    differences = np.column_stack(
        (
            fast,
            unrelaxed - fast,
            np.where(looked, first - fast, 0.0),
            np.where(looked, last - fast, 0.0),
            np.where(looked, last - unrelaxed, 0.0),
            looked,
        )
    )
    places = [hosts.names.index(name) for name in LIKE_HOST]
    parts = (hosts.everything[:, places], columns.insertion[:, 1:], differences, columns.short)
    plain = np.nan_to_num(np.concatenate(parts, axis=1))
    names = [
        *LIKE_HOST,
        *(f"insertion_{name}" for name in INSERTION_NUMBERS[1:]),
        "fast", "unrelaxed_less_fast", "relaxed_1_less_fast", "relaxed_last_less_fast",
        "relaxed_last_less_unrelaxed", "looked",
        *(f"short_{name}" for name in SHORT_LOOK_NUMBERS),
        *(f"crystal_{k}" for k in range(CRYSTAL_SIZE)),
    ]  # fmt: skip
    return np.hstack(
        (np.sign(plain) * np.log1p(np.abs(plain)), np.nan_to_num(columns.crystal))
    ), names


def fit_process(columns: Array, missed: Array) -> Likeness:
    """The process for what the fast voltage misses, on columns (r, g) of `like_columns`."""
    weight = np.ones(columns.shape[1])
    weight[-CRYSTAL_SIZE:] = CRYSTAL_WEIGHT
    return fit_likeness(columns, weight, missed, LENGTH, NOISE)


def fit_trees(features: Array, missed: Array) -> Trees:
    """Boosted trees for what the fast voltage misses, the mean of `N_SEEDS` draws of the columns.

    Args:
        features: (r, f). missed: (r,) volt, label less fast voltage.
    """
    from sklearn.ensemble import HistGradientBoostingRegressor

    models = [
        HistGradientBoostingRegressor(**OPTIONS, random_state=seed).fit(features, missed)
        for seed in range(N_SEEDS)
    ]
    return as_trees(models)


def as_trees(models: Sequence[Any]) -> Trees:
    """The arrays of scikit-learn's histogram boosting, of several models side by side."""
    nodes = [tree.nodes for model in models for (tree,) in model._predictors]  # noqa: SLF001
    starts = np.cumsum([0, *(len(tree) for tree in nodes)])[:-1]
    every = np.concatenate(nodes)
    shift = np.repeat(starts, [len(tree) for tree in nodes])
    leaf = every["is_leaf"] == 1
    return Trees(
        roots=starts.astype(np.int32),
        feature=np.where(leaf, -1, every["feature_idx"]).astype(np.int16),
        threshold=every["num_threshold"].astype(np.float64),
        left=np.where(leaf, 0, every["left"] + shift).astype(np.int32),
        right=np.where(leaf, 0, every["right"] + shift).astype(np.int32),
        missing_left=every["missing_go_to_left"].astype(np.uint8),
        value=np.where(leaf, every["value"], 0.0).astype(np.float32),
        base=np.array([float(model._baseline_prediction.ravel()[0]) for model in models]),  # noqa: SLF001
    )


def signs_of(refined: Array, fast: Array, half: Array, unrelaxed: Array) -> Array:
    """(3, r): by which the error of a refined voltage is told.

    Logarithms of the fast interval's half width, of the difference from the fast voltage, and of
    that from the voltage by the unrelaxed insertion energy; all (r,) volt.
    """
    return np.log(
        np.stack(
            (np.nan_to_num(half, nan=0.7), np.abs(refined - fast), np.abs(refined - unrelaxed))
        )
        + _LEAST
    )


def fit_uncertainty(
    errors: Array, signs: Array, ion: NDArray[np.int64]
) -> tuple[Intervals, Array, Array]:
    """Intervals by ion, weights (3,) of the signs, and their medians (3,)."""
    weights = fit_weights(errors, signs, ion)
    level = np.median(signs, axis=1)
    difficulty = np.exp(weights @ (signs - level[:, None]))
    return fit_intervals(errors, difficulty, ion, len(ION_SYMBOLS)), weights, level


def interval_bounds(
    refined: Array, signs: Array, ion: NDArray[np.int64], intervals: Intervals,
    weights: Array, level: Array,
) -> Array:  # fmt: skip
    """(5, r): sd, lo80, hi80, lo90, hi90."""
    difficulty = np.exp(weights @ (signs - level[:, None]))
    sd, half80, half90 = (
        half[ion] * difficulty for half in (intervals.sd, intervals.half80, intervals.half90)
    )
    return np.stack((sd, refined - half80, refined + half80, refined - half90, refined + half90))


@dataclass(frozen=True, eq=False)
class RefinedVoltage:
    """A refined voltage with its intervals, volt."""

    voltage: float
    sd: float
    lo80: float
    hi80: float
    lo90: float
    hi90: float


@dataclass(frozen=True, eq=False)
class SecondLook:
    """What is known of a candidate after a second look.

    fast, half90: volt, of the network. insertion: by `INSERTION_NUMBERS`. energies: eV, of the
    short look. short: by `SHORT_LOOK_NUMBERS`. crystal: (CRYSTAL_SIZE,) the potential's vector of
    the host.
    """

    host: PackedStructure
    ion: str
    fast: float
    half90: float
    insertion: Mapping[str, float]
    energies: Sequence[float]
    short: Mapping[str, float]
    crystal: Sequence[float]


def refine_voltages(refiner: Refiner, looks: Sequence[SecondLook]) -> list[RefinedVoltage]:
    """Refined voltages, in the order of the looks."""
    if not looks:
        return []
    count = len(looks)
    data = LabelledElectrodes(
        hosts=[one.host for one in looks],
        host_of_row=np.arange(count),
        ion=np.array([one.ion for one in looks]),
        voltage=np.zeros(count),
        group=np.full(count, ""),
        paper_prediction=np.full(count, np.nan),
        folds={},
    )
    columns = PotentialColumns(
        np.array([[one.insertion.get(n, np.nan) for n in INSERTION_NUMBERS] for one in looks]),
        np.array([path_energies(one.energies) for one in looks]),
        np.array([[one.short.get(n, np.nan) for n in SHORT_LOOK_NUMBERS] for one in looks]),
        np.array([one.crystal for one in looks], dtype=np.float64),
    )
    fast = np.array([one.fast for one in looks])
    hosts = Features.of(data)
    features, names = refined_features(hosts, data.ion, fast, columns)
    like, like_names = like_columns(hosts, data.ion, fast, columns)
    if (tuple(names), tuple(like_names)) != (refiner.names, refiner.like_names):
        raise FileFormatError("the refiner was made for other features: train it anew")
    refined = fast + refiner.correction(features, like)
    charge = np.array([working_ion(one.ion).charge for one in looks])
    half = np.array([one.half90 for one in looks])
    signs = signs_of(refined, fast, half, -columns.insertion[:, 0] / charge)
    ion = np.array([refiner.ions.index(one.ion) for one in looks])
    bounds = interval_bounds(refined, signs, ion, refiner.intervals, refiner.weights, refiner.level)
    return [
        RefinedVoltage(float(v), *(float(x) for x in row))
        for v, row in zip(refined, bounds.T, strict=True)
    ]
