"""Work that goes on in halves where the memory does not hold the whole."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import TypeVar

import torch

Item = TypeVar("Item")

_SAYINGS = (
    "out of memory", "can't allocate memory", "cannot allocate memory", "not enough memory",
    "cublas_status_alloc_failed", "cudnn_status_alloc_failed",
)  # fmt: skip
"""How torch's CPU allocator and CUDA's libraries say it, in a RuntimeError. CUDA's own allocator
raises `torch.OutOfMemoryError`."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception of Python, numpy, torch or CUDA means that memory ran out."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(
        saying in str(error).lower() for saying in _SAYINGS
    )


def in_halves(
    work: Callable[[list[Item]], None],
    items: list[Item],
    too_large: Callable[[Item], None],
) -> None:
    """Do the work on all items; where memory runs out, on one half and then on the other.

    Args:
        work: must be able to do the same items again.
        too_large: called with an item that alone runs out of memory.
    """
    try:
        work(items)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
    else:
        return
    # Outside of the handler: its traceback keeps the tensors of the failed attempt alive.
    _free()
    if len(items) == 1:
        too_large(items[0])
        return
    middle = len(items) // 2
    in_halves(work, items[:middle], too_large)
    in_halves(work, items[middle:], too_large)


def _free() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
