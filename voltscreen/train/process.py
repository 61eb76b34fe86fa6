"""Fitting the Gaussian process on the pooled features of the frozen pre-trained trunk.

One process for all ions. Its numbers are those of largest marginal likelihood on some of the
training rows, its kernel the one that does best on folds inside them; the test rows choose
nothing.

Index letters: h labelled hosts, p pooled features, x ions, r training rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from voltscreen.ions import ION_SYMBOLS
from voltscreen.model.conditioned import N_SCALARS, ion_descriptors
from voltscreen.model.process import (
    KERNELS,
    N_SHARES,
    N_STEPS,
    Kernel,
    ProcessReadout,
    code_of,
)
from voltscreen.model.trunk import N_FEATURES
from voltscreen.train.distill import centers
from voltscreen.train.splits import inner_folds

BLOCKS = (N_FEATURES, N_FEATURES, N_FEATURES, N_SCALARS)
"""Pooled features with one length scale each: two means over atoms, the sites' mean, the rest."""
_LEAST_SPREAD = 1e-6
_JITTER = 1e-4


@dataclass(frozen=True, slots=True)
class ProcessOptions:
    """How the process is fitted; fixed beforehand.

    kernels: names, of which inner folds choose. rows: as many of the training rows, drawn at
    random, give the marginal likelihood. steps, learning_rate: Adam's. clip: labels beyond so
    many robust standard deviations from their ion's median are pulled to there.
    """

    kernels: tuple[str, ...] = tuple(KERNELS)
    rows: int = 800
    steps: int = 25
    learning_rate: float = 0.15
    inner_folds: int = 3
    clip: float = 5.0
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Rows:
    """Training rows. host: (r,) index of each row's host; ion: (r,); voltage: (r,) volt;
    group: (r,), rows of one group stay together in inner folds.
    """

    host: NDArray[np.int64]
    ion: NDArray[np.int64]
    voltage: NDArray[np.float64]
    group: NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.host)

    def of(self, which: NDArray[np.int64]) -> Rows:
        """Some of them."""
        return Rows(self.host[which], self.ion[which], self.voltage[which], self.group[which])


def fit_process(
    pooled: NDArray[np.float64],
    shares: NDArray[np.float64],
    widen: nn.Linear,
    rows: Rows,
    options: ProcessOptions,
    report: Callable[[int, float], None] | None = None,
) -> tuple[ProcessReadout, NDArray[np.float64]]:
    """The process of these rows.

    Args:
        pooled: (h, p) of all labelled hosts, by the frozen trunk. shares: (h, x, 2), contexts.
        widen: the map in the pooling of the frozen trunk, for the readout. rows: of training.
        report: called after each kernel tried with its number and inner mean absolute error (V).

    Returns:
        The readout, and (r,) volt: what it would say of each training row without that row.
    """
    best, kept = np.inf, None
    for number, name in enumerate(options.kernels):
        # What is learned and chosen needs no more digits.
        process = _Process(_standard(pooled, rows), shares, KERNELS[name], options.seed).float()
        process.learn(rows, options)
        error = process.inner_error(rows, options) if len(options.kernels) > 1 else 0.0
        if report:
            report(number + 1, error)
        if error < best:
            best, kept, chosen = error, process, name
    if kept is None:
        raise ValueError("no kernel gave a finite error: are there labels that are not numbers?")
    amounts, alone = kept.double().solve(rows, options.clip)
    return _readout(kept, chosen, widen, rows, amounts, options.clip), alone


@dataclass(frozen=True, eq=False)
class _Standard:
    """Features (h, p) float64 less center, by spread (p,), of the training hosts.

    steps: (t, p) int8, the t training hosts as the readout keeps them, in steps (p,) of step; so
    their features are rounded here, too.
    """

    features: Tensor
    center: NDArray[np.float64]
    spread: NDArray[np.float64]
    steps: NDArray[np.int8]
    step: NDArray[np.float64]


def _standard(pooled: NDArray[np.float64], rows: Rows) -> _Standard:
    hosts = np.unique(rows.host)
    own = pooled[hosts]
    center, spread = own.mean(axis=0), own.std(axis=0) + _LEAST_SPREAD
    features = (pooled - center) / spread
    step = np.maximum(np.abs(features[hosts]).max(axis=0), _LEAST_SPREAD) / N_STEPS
    steps = np.round(features[hosts] / step).astype(np.int8)
    features[hosts] = steps * step
    return _Standard(torch.from_numpy(features), center, spread, steps, step)


class _Process(nn.Module):
    """Kernel numbers, as logarithms, and what follows from them."""

    features: Tensor
    contexts: Tensor
    descriptors: Tensor

    def __init__(
        self, standard: _Standard, shares: NDArray[np.float64], kernel: Kernel, seed: int
    ) -> None:
        super().__init__()
        self.standard, self.kernel, self.seed = standard, kernel, seed
        self.register_buffer("features", standard.features)
        self.register_buffer("contexts", torch.from_numpy(shares))
        self.register_buffer("descriptors", ion_descriptors(ION_SYMBOLS))
        lengths = 4.0 * np.sqrt(len(BLOCKS) * np.array(BLOCKS) / 4)
        self.log_length = nn.Parameter(torch.from_numpy(np.log(lengths)))
        names = ("size", "offset", "noise", "ion_length", "common")
        start = np.log([0.5, 0.3, 0.3, 2.0, 1.0])
        self.numbers = nn.ParameterDict(
            {n: nn.Parameter(torch.tensor(v)) for n, v in zip(names, start, strict=True)}
        )
        self.log_weight = nn.Parameter(torch.full((N_SHARES,), 0.7, dtype=torch.float64))

    @property
    def factor(self) -> Tensor:
        """(p,): by which standardised features are multiplied."""
        return torch.exp(-self.log_length).repeat_interleave(torch.tensor(BLOCKS))

    @property
    def between_ions(self) -> Tensor:
        """(x, x): likeness of ions by their descriptors, and what all have in common."""
        apart = _smooth_distances(self.descriptors, self.descriptors) / self["ion_length"]
        common = torch.sigmoid(self.numbers["common"])
        return common + (1.0 - common) * torch.exp(-0.5 * apart.square())

    def __getitem__(self, name: str) -> Tensor:
        return torch.exp(self.numbers[name])

    def learn(self, rows: Rows, options: ProcessOptions) -> None:
        """Raise the marginal likelihood of some of the rows."""
        order = np.random.default_rng(self.seed).permutation(len(rows))[: options.rows]
        _, residual = _residuals(rows, options.clip)
        some, target = rows.of(order), self.contexts.new_tensor(residual[order])
        optimizer = torch.optim.Adam(self.parameters(), options.learning_rate)
        for step in range(options.steps):
            optimizer.param_groups[0]["lr"] = options.learning_rate * (1.05 - step / options.steps)
            factor = torch.linalg.cholesky(self._covariance(some))
            solved = torch.cholesky_solve(target[:, None], factor)[:, 0]
            loss = 0.5 * (target @ solved) + torch.log(torch.diag(factor)).sum()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        self.requires_grad_(False)

    def inner_error(self, rows: Rows, options: ProcessOptions) -> float:
        """Mean absolute error (V) over folds inside the rows that keep groups together."""
        fold = inner_folds(rows.group, options.inner_folds)
        errors = []
        for number in range(fold.max() + 1):
            train, test = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
            if not len(train):
                return 0.0
            kept, held = rows.of(train), rows.of(test)
            center, _ = _residuals(kept, options.clip)
            amounts, _ = self.solve(kept, options.clip, alone=False)
            found = self._between(held, kept) @ self.contexts.new_tensor(amounts)
            errors.append(np.abs(found.numpy() + center[held.ion] - held.voltage))
        return float(np.concatenate(errors).mean())

    def solve(
        self, rows: Rows, clip: float, *, alone: bool = True
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(r,) the amounts a, and (r,) volt, each row predicted without itself.

        With K the covariance of the rows, a = K^-1 y, and the prediction without the row is
        y_r - a_r / (K^-1)_rr (Rasmussen and Williams, eq. 5.12).
        """
        center, residual = _residuals(rows, clip)
        factor = torch.linalg.cholesky(self._covariance(rows))
        target = self.contexts.new_tensor(residual)
        amounts = torch.cholesky_solve(target[:, None], factor)[:, 0].numpy()
        if not alone:
            return amounts, residual
        inverse = torch.diag(torch.cholesky_inverse(factor)).numpy()
        return amounts, center[rows.ion] + residual - amounts / inverse

    def _covariance(self, rows: Rows) -> Tensor:
        noise = self["noise"] + _JITTER
        return self._between(rows, rows) + noise * torch.eye(len(rows), dtype=noise.dtype)

    def _between(self, rows: Rows, others: Rows) -> Tensor:
        """(r, r') covariance of voltages."""
        hosts, place = np.unique(rows.host, return_inverse=True)
        columns, column = np.unique(others.host, return_inverse=True)
        scaled = self.features * self.factor
        apart = _smooth_distances(scaled[hosts], scaled[columns])
        alike = self.kernel.of(apart)[place][:, column]
        code, other = (
            code_of(self.contexts[r.host, r.ion], self.log_weight.exp()) for r in (rows, others)
        )
        ions = self.between_ions[rows.ion][:, others.ion]
        return ions * (self["size"] * alike * (code @ other.T) + self["offset"])


def _smooth_distances(points: Tensor, others: Tensor) -> Tensor:
    """(b, h) of (b, p) and (h, p), with a gradient where points coincide."""
    squares = points.square().sum(1)[:, None] + others.square().sum(1) - 2.0 * points @ others.T
    return (squares.clamp_min(0.0) + 1e-12).sqrt()


def _residuals(rows: Rows, clip: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(x,) centers of the ions, and (r,) clipped labels less those; volt."""
    center, clipped = centers(rows.ion, rows.voltage, clip)
    return center, clipped - center[rows.ion]


def _readout(
    process: _Process,
    kernel: str,
    widen: nn.Linear,
    rows: Rows,
    amounts: NDArray[np.float64],
    clip: float,
) -> ProcessReadout:
    hosts, place = np.unique(rows.host, return_inverse=True)
    center, _ = _residuals(rows, clip)
    standard = process.standard
    own = torch.from_numpy(amounts)
    offsets = process["offset"] * (process.between_ions[:, rows.ion] @ own)
    readout = ProcessReadout(ION_SYMBOLS, len(hosts), len(rows)).double()
    readout.load_state_dict(
        {
            "widen.weight": widen.weight.detach(),
            "widen.bias": widen.bias.detach(),
            "kernel": torch.tensor([list(KERNELS).index(kernel)], dtype=torch.int16),
            "center": torch.from_numpy(standard.center),
            "factor": process.factor / torch.from_numpy(standard.spread),
            "step": torch.from_numpy(standard.step) * process.factor,
            "hosts": torch.from_numpy(standard.steps),
            "host_of_row": torch.from_numpy(place.astype(np.int16)),
            "ion_of_row": torch.from_numpy(rows.ion.astype(np.uint8)),
            "shares_of_row": process.contexts[rows.host, rows.ion],
            "amounts": process["size"] * own,
            "between_ions": process.between_ions,
            "shares_weight": process.log_weight.exp(),
            "constant": torch.from_numpy(center) + offsets,
        }
    )
    return readout.eval().requires_grad_(False)
