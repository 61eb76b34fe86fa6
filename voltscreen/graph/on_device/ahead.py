"""Insertion sites found by threads of the CPU, ahead of the device that works on the rest."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch

from voltscreen.graph.on_device.voids import Sites
from voltscreen.structures import PackedStructure
from voltscreen.structures.insertion_sites import InsertionSites, insertion_sites

_PIECE = 64
"""Hosts that one thread takes at a time."""


class SitesAhead:
    """The insertion sites of hosts, which threads find in their order from the start.

    The search in numba holds no lock, so that the threads share nothing but the list of work.
    """

    def __init__(self, structures: Sequence[PackedStructure], threads: int) -> None:
        self._pool = ThreadPoolExecutor(threads)
        self._pieces: list[Future[InsertionSites]] = [
            self._pool.submit(insertion_sites, structures[first : first + _PIECE])
            for first in range(0, len(structures), _PIECE)
        ]

    def of(self, which: Sequence[int], device: torch.device) -> Sites:
        """The sites of the hosts with these indices, ascending and at least one, on a device."""
        wanted = np.asarray(which)
        counts, rows = [], []
        for piece in np.unique(wanted // _PIECE):
            found = self._pieces[piece].result()
            sizes = np.diff(found.offsets)
            own = np.zeros(len(sizes), np.bool_)
            own[wanted[wanted // _PIECE == piece] - piece * _PIECE] = True
            columns = (found.frac_coords, found.clearance, found.distance, found.weight)
            counts.append(sizes[own])
            rows.append(np.column_stack(columns)[np.repeat(own, sizes)])
        table = torch.from_numpy(np.concatenate(rows)).to(device)
        return Sites(
            torch.from_numpy(np.concatenate(counts)).to(device),
            table[:, :3].contiguous(), *table[:, 3:].T.contiguous().unbind(0),
        )  # fmt: skip

    def close(self) -> None:
        """Let go of the threads; what nobody asked for is dropped."""
        self._pool.shutdown(cancel_futures=True)
