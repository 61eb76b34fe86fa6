"""Exponential and logarithm for loops that the compiler turns into vector instructions.

Kernels call them in a loop over contiguous float32 numbers; each is exact to about 1e-7.
"""

from __future__ import annotations

import numba
import numpy as np

MATH = {"nnan", "ninf", "nsz", "arcp", "contract"}
"""`fastmath` of the kernels. Everything but reassociation: the rounding trick in `exp` must stay as
it is written."""

ONE, ZERO = np.float32(1.0), np.float32(0.0)


@numba.njit(inline="always", fastmath=MATH, error_model="numpy")
def exp(x: np.float32) -> np.float32:
    """e^x to 3e-7 relative; x beyond 87 counts as 87."""
    x = min(max(x, np.float32(-87.0)), np.float32(87.0))
    # Adding and taking away 1.5 * 2^23 rounds to a whole number.
    n = (x * np.float32(1.4426950408889634) + np.float32(12582912.0)) - np.float32(12582912.0)
    r = x - n * np.float32(0.693359375) + n * np.float32(2.12194440e-4)
    p = np.float32(1.0 / 720.0)
    p = p * r + np.float32(1.0 / 120.0)
    p = p * r + np.float32(1.0 / 24.0)
    p = p * r + np.float32(1.0 / 6.0)
    p = p * r + np.float32(0.5)
    p = p * r + ONE
    p = p * r + ONE
    # 2^n by its bits.
    return p * np.int32((np.int32(n) + np.int32(127)) << np.int32(23)).view(np.float32)


@numba.njit(inline="always", fastmath=MATH, error_model="numpy")
def log_above_one(u: np.float32) -> np.float32:
    """log(u) for u >= 1, absolute error 1e-7: exponent by its bits, mantissa by a polynomial.

    The polynomial m q(m) was fitted to log(1 + m), 0 <= m <= 1, for the least largest error.
    """
    bits = np.float32(u).view(np.int32)
    exponent = np.float32((bits >> np.int32(23)) - np.int32(127))
    mantissa = np.int32((bits & np.int32(0x7FFFFF)) | np.int32(0x3F800000)).view(np.float32)
    m = mantissa - ONE
    p = np.float32(-0.0064526113)
    p = p * m + np.float32(0.036084514)
    p = p * m + np.float32(-0.0953224801)
    p = p * m + np.float32(0.167647844)
    p = p * m + np.float32(-0.240730748)
    p = p * m + np.float32(0.331798252)
    p = p * m + np.float32(-0.499874044)
    p = p * m + np.float32(0.999996424)
    return m * p + exponent * np.float32(0.6931471805599453)


@numba.njit(inline="always", fastmath=MATH, error_model="numpy")
def softplus(x: np.float32) -> np.float32:
    """log(1 + e^x)."""
    return max(x, ZERO) + log_above_one(ONE + exp(-abs(x)))
