"""What a recipe says of the rows of a split that it has not seen, and the parts that this takes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from voltscreen.errors import ModelError
from voltscreen.train.baselines import BASELINES
from voltscreen.train.frozen import FROZEN
from voltscreen.train.held_out import folds_of
from voltscreen.train.parts import Fitted, PartKey, Workshop, average_of, ion_index
from voltscreen.train.report import PAPER_RECIPE
from voltscreen.train.splits import Split
from voltscreen.train.two_branches import (
    MODEL_RECIPE,
    NETWORK_RECIPE,
    PROCESS_RECIPE,
    process_key,
)

SEEDS = (0, 1)
"""Fine-tunings of one pre-training, whose weights are averaged."""
OTHER_SEED = 10
"""A fine-tuning of another pre-training, for an ensemble of two trunks."""
MAIN_SPLITS = ("grouped", "random")
OTHER_NETWORKS = (PAPER_RECIPE, "pooled-ions", "pooled-ions-site")

_OTHER_TRUNK = "distilled-other"
_MEANS = {
    MODEL_RECIPE: (NETWORK_RECIPE, PROCESS_RECIPE),
    "distilled-ensemble": (NETWORK_RECIPE, _OTHER_TRUNK),
    "blend": (NETWORK_RECIPE, "boosting"),
}
"""Recipes that are means of two others."""

DESCRIPTIONS = {
    "pooled-ions": "one trunk trained on all ions at once, ion-conditioned head",
    "pooled-ions-site": "the same with the insertion sites as nodes",
    PAPER_RECIPE: "the paper's recipe: trunk on Li, frozen, the last two layers by ion",
    "distilled-1": "trunk pre-trained on a potential's insertion energies and topotactic voltages "
    "of pool hosts, then fine-tuned on all ions; one network",
    NETWORK_RECIPE: f"the same, weights averaged over {len(SEEDS)} fine-tunings: still one network "
    "(on other splits than grouped and random one fine-tuning stands for them)",
    PROCESS_RECIPE: "one Gaussian process for all ions on the pooled features of the pre-trained "
    "trunk, frozen",
    MODEL_RECIPE: "mean of the two: the network and the process",
    "distilled-ensemble": f"mean of {NETWORK_RECIPE} and of the same from another pre-training: "
    "two trunks, twice the cost",
    "blend": f"mean of {NETWORK_RECIPE} and boosting",
    **{name: baseline.description for name, baseline in BASELINES.items()},
    **{name: frozen.description for name, frozen in FROZEN.items()},
}
"""Of every recipe, by its name."""


def parts_of(recipe: str, split: Split) -> list[PartKey]:
    """The parts that a recipe's predictions on a split are made of.

    Raises:
        ModelError: no such recipe.
    """
    if recipe in _MEANS:
        return [key for part in _MEANS[recipe] for key in parts_of(part, split)]
    if recipe in BASELINES or recipe in FROZEN:
        return [PartKey(recipe, split.name, None)]
    return [key for fold in folds_of(split) for key in _parts_of_fold(recipe, split.name, fold)]


def _parts_of_fold(recipe: str, split: str, fold: int) -> list[PartKey]:
    if recipe == NETWORK_RECIPE:
        seeds = SEEDS if split in MAIN_SPLITS else SEEDS[:1]
        return [PartKey(NETWORK_RECIPE, split, fold, seed) for seed in seeds]
    if recipe == "distilled-1":
        return [PartKey(NETWORK_RECIPE, split, fold, SEEDS[0])]
    if recipe == _OTHER_TRUNK:
        return [PartKey(NETWORK_RECIPE, split, fold, OTHER_SEED)]
    if recipe == PROCESS_RECIPE:
        return [process_key(split, fold)]
    if recipe in OTHER_NETWORKS:
        return [PartKey(recipe, split, fold)]
    raise ModelError(f"no recipe {recipe!r}: there are {', '.join(DESCRIPTIONS)}")


def fitted_on(shop: Workshop, recipe: str, split: str, fold: int) -> Fitted:
    """What a network or process was fitted to for a fold; its parts have been made."""
    keys = _parts_of_fold(recipe, split, fold)
    return average_of(shop, keys) if recipe == NETWORK_RECIPE else shop.read(keys[0])


def held_out_rows(shop: Workshop, recipe: str, split: Split) -> NDArray[np.float64]:
    """(r,) volt: of each row by the part of its fold; NaN where none tests it.

    The parts have been made.
    """
    if recipe in _MEANS:
        both = [held_out_rows(shop, part, split) for part in _MEANS[recipe]]
        mean: NDArray[np.float64] = np.mean(both, axis=0)
        return mean
    if recipe in BASELINES or recipe in FROZEN:
        return shop.read_rows(PartKey(recipe, split.name, None))
    ion = ion_index(shop.data)
    predicted = np.full(len(shop.data), np.nan)
    for fold in folds_of(split):
        rows = split.test_rows(fold)
        said = fitted_on(shop, recipe, split.name, fold).voltages
        predicted[rows] = said[shop.data.host_of_row[rows], ion[rows]]
    return predicted
