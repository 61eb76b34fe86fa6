"""A Gaussian process on a few columns of second looks: what training rows like this one missed.

It stands beside a refiner's trees. With the columns standardised and clipped to z,

    f(z) = base + sum_r amounts_r k(|z - z_r|),   k(d) = (1 + sqrt(3) d / l) exp(-sqrt(3) d / l)

over the training rows r (C. Rasmussen and C. Williams, Gaussian Processes for Machine Learning,
MIT Press, 2006, eqs. 2.25 and 4.17).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

CLIP = 4.0
"""Standard deviations beyond which a column says no more."""
STEPS = 127
"""Training rows are kept as 8-bit numbers: `CLIP` in so many steps."""


@dataclass(frozen=True, eq=False)
class Likeness:
    """n training rows, g columns.

    center, spread, weight: (g,) float64, of the columns; a column counts as much as its weight.
    rows: (n, g) int8, the training rows in steps. amounts: (n,) float64, volt. base: (1,) float64,
    volt. length: (1,) float64, of the kernel.
    """

    center: Array
    spread: Array
    weight: Array
    rows: NDArray[np.int8]
    amounts: Array
    base: Array
    length: Array

    def predict(self, columns: Array) -> Array:
        """(r,) volt, of columns (r, g)."""
        z = steps_of(columns, self.center, self.spread) * self.weight
        likeness = kernel(z, self.rows * self.weight, float(self.length[0]))
        found: Array = self.base[0] + likeness @ self.amounts
        return found


def fit_likeness(
    columns: Array, weight: Array, missed: Array, length: float, noise: float
) -> Likeness:
    """The process that meets the training rows as far as their noise asks for.

    Args:
        columns: (n, g). weight: (g,). missed: (n,) volt. noise: variance over that of the process.
    """
    from scipy.linalg import cho_factor, cho_solve

    center = columns.mean(axis=0)
    spread = columns.std(axis=0) + 1e-9
    rows = steps_of(columns, center, spread)
    base = np.median(missed)
    likeness = kernel(rows * weight, rows * weight, length)
    likeness[np.diag_indices_from(likeness)] += noise
    amounts = cho_solve(cho_factor(likeness, lower=True), missed - base)
    return Likeness(
        center, spread, weight, rows.astype(np.int8), amounts, np.array([base]), np.array([length])
    )


def steps_of(columns: Array, center: Array, spread: Array) -> Array:
    """Columns in steps, whole numbers of float64."""
    z = np.clip((columns - center) / spread, -CLIP, CLIP)
    found: Array = np.round(z * (STEPS / CLIP))
    return found


def kernel(left: Array, right: Array, length: float) -> Array:
    """(l, r): Matern-3/2 of points in steps (l, g) and (r, g)."""
    squared = (left**2).sum(axis=1)[:, None] + (right**2).sum(axis=1) - 2 * left @ right.T
    scaled = np.sqrt(3 * np.maximum(squared, 0.0)) * (CLIP / STEPS / length)
    found: Array = (1 + scaled) * np.exp(-scaled)
    return found
