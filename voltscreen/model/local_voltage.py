"""The `linear` local voltages of the paper; the `additive` ones come from the readout."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True, eq=False)
class LinearLocal:
    """`linear` local voltages, V_i = w . v_i + b (eq. 2 of Zhang et al.).

    weights: (ions, 64) float64, volt per unit of feature; bias: (ions,) float64, volt;
    ridge: strength of the ridge on centred pooled features (part of the model card).
    """

    weights: NDArray[np.float64]
    bias: NDArray[np.float64]
    ridge: float

    def local_voltages(self, atoms: Tensor) -> Tensor:
        """(ions, n) float64, volt, from the last convolution's (n, 64) vectors."""
        weights, bias = (torch.from_numpy(a).to(atoms.device) for a in (self.weights, self.bias))
        return weights @ atoms.double().T + bias[:, None]


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
