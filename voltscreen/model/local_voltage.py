"""Local voltages: how much of a predicted voltage each atom carries, by two definitions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from voltscreen.model.heads import IonHeads

QUADRATURE_NODES = 8


@dataclass(frozen=True, eq=False)
class LinearLocal:
    """`linear` local voltages, V_i = w . v_i + b (eq. 2 of Zhang et al.).

    weights: (ions, 64) float64, volt per unit of feature; bias: (ions,) float64, volt;
    ridge: strength of the ridge on centred pooled features (part of the model card).
    """

    weights: NDArray[np.float64]
    bias: NDArray[np.float64]
    ridge: float

    def local_voltages(self, atoms: NDArray[np.float32]) -> NDArray[np.float64]:
        """(ions, n) volt, from the last convolution's (n, 64) vectors."""
        return self.weights @ atoms.T.astype(np.float64) + self.bias[:, None]


def fit_linear_local(
    pooled: NDArray[np.float64], voltages: NDArray[np.float64], ridge: float
) -> tuple[NDArray[np.float64], float]:
    """Closed form of eq. 2: mean_i V_i fitted to the voltage by ridge on the pooled features.

    Because V_i is linear, mean_i V_i = w . (mean_i v_i) + b: an ordinary ridge regression.

    Args:
        pooled: (b, 64); voltages: (b,), volt; ridge: penalty on |w|^2, the bias is free.

    Returns:
        w (64,) and b.
    """
    center = pooled.mean(axis=0)
    shifted = pooled - center
    gram = shifted.T @ shifted + ridge * np.eye(pooled.shape[1])
    weights = np.linalg.solve(gram, shifted.T @ (voltages - voltages.mean()))
    return weights, float(voltages.mean() - weights @ center)


def additive_gradients(heads: IonHeads, pooled: Tensor, baseline: Tensor) -> tuple[Tensor, Tensor]:
    """The mean gradient of the voltage on the straight line from baseline to pooled vector.

    Integrated gradients (Sundararajan, Taly, Yan, ICML 2017) by Gauss-Legendre quadrature:
    V(p) = V(p0) + sum_k (p_k - p0_k) g_k, where g is what this returns. Since p is a mean over
    atoms, V_i = V(p0) + (v_i - p0) . g has mean V.

    Args:
        heads: in float64. pooled: (b, f) float64. baseline: (f,) float64.

    Returns:
        g (ions, b, f), volt per unit of feature, and V(p0) (ions,), volt.
    """
    nodes, weights = np.polynomial.legendre.leggauss(QUADRATURE_NODES)
    gradient = pooled.new_zeros(len(heads.mean), *pooled.shape)
    for node, weight in zip((nodes + 1) / 2, weights / 2, strict=True):
        gradient += weight * heads.gradient(baseline + node * (pooled - baseline))
    return gradient, heads(baseline[None, :])[:, 0]


def additive_local(
    atoms: Tensor,
    structure_of_atom: Tensor,
    n_atoms: Tensor,
    pooled: Tensor,
    voltages: Tensor,
    heads: IonHeads,
    baseline: Tensor,
) -> Tensor:
    """`additive` local voltages, whose mean over a structure is its voltage.

    Args:
        atoms: (n, f) float64; structure_of_atom: (n,); n_atoms: (b,); pooled: (b, f) float64;
        voltages: (ions, b) float64, volt; heads and baseline (f,): float64.

    Returns:
        (ions, n) float64, volt.
    """
    gradient, base = additive_gradients(heads, pooled, baseline)
    per_atom = torch.einsum("nf,xnf->xn", atoms - baseline, gradient[:, structure_of_atom])
    local = base[:, None] + per_atom
    # What the quadrature leaves (below 1e-6 V) is shared evenly, so that the sum is exact.
    mean = torch.zeros_like(voltages).index_add_(1, structure_of_atom, local) / n_atoms
    return local + (voltages - mean)[:, structure_of_atom]
