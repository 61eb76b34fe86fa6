"""Hashes of 64 bits in int64 tensors, whose sums and products wrap around."""

from __future__ import annotations

from torch import Tensor


def signed(bits: int) -> int:
    """64 bits as the int64 that has them."""
    return bits - (1 << 64) if bits >> 63 else bits


def mixed(x: Tensor) -> Tensor:
    """A hash of 64 bits (the finaliser of splitmix64, Steele et al., OOPSLA 2014); int64 has no
    logical shift of its own.
    """
    x = (x ^ ((x >> 30) & ((1 << 34) - 1))) * signed(0xBF58476D1CE4E5B9)
    x = (x ^ ((x >> 27) & ((1 << 37) - 1))) * signed(0x94D049BB133111EB)
    return x ^ ((x >> 31) & ((1 << 33) - 1))
