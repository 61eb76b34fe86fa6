"""Labelling in several processes of one machine."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence

from voltscreen.errors import VoltscreenError
from voltscreen.potentials.jobs import Job
from voltscreen.potentials.labelling import LabelFolder, label_batches

_POLL_SECONDS = 0.2


def label_in_processes(
    jobs: Sequence[Job],
    folder: LabelFolder,
    device: str,
    workers: int,
    progress: Callable[[int], None],
) -> None:
    """Label all open batches of a folder in so many processes, each on one CPU thread.

    When this process ends, however it ends, so do the workers; a batch in hand is lost.

    Args:
        progress: called several times a second with the number of finished batches, those of
            other processes on the folder included.

    Raises:
        VoltscreenError: a worker ended with an error.
    """
    count = min(workers, len(folder.open_batches()))
    # A fresh interpreter: torch and pyarrow have threads that a fork would not survive.
    context = multiprocessing.get_context("spawn")
    processes = [
        context.Process(target=_work, args=(jobs, folder, device), daemon=True)
        for _ in range(count)
    ]
    try:
        for process in processes:
            process.start()
        while any(process.is_alive() for process in processes):
            progress(folder.n_batches - len(folder.open_batches()))
            time.sleep(_POLL_SECONDS)
    finally:
        for process in processes:
            if process.is_alive():
                process.terminate()
    progress(folder.n_batches - len(folder.open_batches()))
    failed = sum(process.exitcode != 0 for process in processes)
    if failed:
        raise VoltscreenError(
            f"{failed} of {count} workers ended with an error: run the same command again for "
            f"the {len(folder.open_batches())} batches that are left"
        )


def _work(jobs: Sequence[Job], folder: LabelFolder, device: str) -> None:
    import torch

    from voltscreen.potentials.chgnet import ChgnetPotential

    # Ctrl-C reaches the whole group; the parent ends its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    label_batches(ChgnetPotential(device), jobs, folder)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
