"""Held-out errors of out-of-fold predictions, beside the predictors anybody has for free."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from voltscreen.ions import ION_SYMBOLS
from voltscreen.model.card import HeldOutError
from voltscreen.train.dataset import LabelledElectrodes

POOLED = "all"


def held_out_errors(
    data: LabelledElectrodes,
    predicted: NDArray[np.float64],
    fold: NDArray[np.int64],
    split: str,
) -> list[HeldOutError]:
    """Errors by ion and over all rows.

    Args:
        data: r rows. predicted: (r,) volt, each by a model that saw no row of its fold.
        fold: (r,). split: what to call the split.
    """
    mean_predictor = np.empty(len(data))
    for number in np.unique(fold):
        for ion in ION_SYMBOLS:
            of_ion = data.ion == ion
            mean_predictor[of_ion & (fold == number)] = data.voltage[
                of_ion & (fold != number)
            ].mean()
    errors = []
    for ion in (POOLED, *ION_SYMBOLS):
        rows = np.ones(len(data), bool) if ion == POOLED else data.ion == ion
        target, residual = data.voltage[rows], (predicted - data.voltage)[rows]
        paper = np.abs(data.paper_prediction - data.voltage)[rows]
        errors.append(
            HeldOutError(
                split=split,
                ion=ion,
                n=int(rows.sum()),
                mae=_round(np.abs(residual).mean()),
                rmse=_round(np.sqrt((residual**2).mean())),
                r2=_round(1 - (residual**2).sum() / ((target - target.mean()) ** 2).sum()),
                mae_mean_predictor=_round(np.abs(mean_predictor - data.voltage)[rows].mean()),
                mae_paper_published=(
                    _round(np.nanmean(paper)) if np.isfinite(paper).any() else None
                ),
            )
        )
    return errors


def _round(value: float) -> float:
    return round(float(value), 4)
