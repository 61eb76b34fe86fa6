"""Fitting ion heads on a frozen trunk's pooled features."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.model_selection import GroupKFold
from torch import Tensor
from torch.nn import functional

from voltscreen.model.heads import IonHeads


@dataclass(frozen=True, slots=True)
class HeadOptions:
    """How a head is fitted.

    max_steps: full-batch AdamW steps at most; the number used is chosen, among every
    `check_every` steps, by the mean absolute error of `inner_folds` grouped folds inside the
    training rows.
    """

    max_steps: int = 600
    check_every: int = 10
    inner_folds: int = 5
    learning_rate: float = 3e-3
    weight_decay: float = 1e-2


def fit_head(
    pooled: NDArray[np.float64],
    voltages: NDArray[np.float64],
    group: NDArray[np.str_],
    start: IonHeads,
    options: HeadOptions,
) -> tuple[IonHeads, int]:
    """Fit the last two layers for one ion, starting from another ion's.

    Args:
        pooled: (r, 64); voltages: (r,), volt; group: (r,) rows of one group stay together in
        the inner folds; start: a one-ion head whose weights are the starting point.

    Returns:
        The head, and the number of steps that the inner folds chose.
    """
    features = torch.from_numpy(pooled).float()
    target = torch.from_numpy(voltages).float()
    inner = GroupKFold(min(options.inner_folds, len(set(group))))
    held_out = torch.zeros(inner.get_n_splits(), len(voltages), dtype=torch.bool)
    for fold, (_, test) in enumerate(inner.split(pooled, groups=group)):
        held_out[fold, test] = True

    trials = _copies(start, len(held_out), voltages)
    course = _descend(trials, features, target, ~held_out, options, options.max_steps)
    errors = [float((predicted - target).abs()[held_out].mean()) for predicted in course]
    steps = options.check_every * int(np.argmin(errors))

    head = _copies(start, 1, voltages)
    everything = torch.ones(1, len(voltages), dtype=torch.bool)
    _descend(head, features, target, everything, options, steps)
    return head, steps


def stack_heads(heads: list[IonHeads]) -> IonHeads:
    """One-ion heads as the heads of a model, in order."""
    stacked = IonHeads(len(heads), heads[0].n_pooled)
    state = {
        key: torch.cat([head.state_dict()[key] for head in heads]) for key in heads[0].state_dict()
    }
    stacked.load_state_dict(state)
    return stacked.requires_grad_(False)


def _copies(start: IonHeads, count: int, voltages: NDArray[np.float64]) -> IonHeads:
    heads = IonHeads(count, start.n_pooled)
    state = {
        key: value.expand(count, *value.shape[1:]) for key, value in start.state_dict().items()
    }
    heads.load_state_dict(state)
    heads.mean.fill_(float(voltages.mean()))
    heads.scale.fill_(float(voltages.std()))
    return heads


def _descend(
    heads: IonHeads,
    features: Tensor,
    target: Tensor,
    used: Tensor,
    options: HeadOptions,
    steps: int,
) -> list[Tensor]:
    """Train all heads side by side, head k on the rows used[k].

    Returns:
        Predictions (heads, r) in volt, before the first step and after every `check_every`.
    """
    optimizer = torch.optim.AdamW(
        heads.parameters(), options.learning_rate, weight_decay=options.weight_decay
    )
    share = used / used.sum(dim=1, keepdim=True)
    predictions = []
    for step in range(steps + 1):
        predicted = heads(features)
        if step % options.check_every == 0:
            predictions.append(predicted.detach())
        if step == steps:
            break
        loss = functional.smooth_l1_loss(
            predicted / heads.scale[:, None], target / heads.scale[:, None], reduction="none"
        )
        optimizer.zero_grad()
        (loss * share).sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return predictions
