"""Processes to be killed: forked from one that has everything imported, so that they start at once.

This module is imported there before the first fork, with all loaded that a campaign needs once:
numba's kernels, the network, the table of substitutions, the universal potential.
"""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
import signal
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import torch

import voltscreen.campaign.firetasks
import voltscreen.campaign.substitute  # noqa: F401
from voltscreen.graph import INSERTION, build_graphs
from voltscreen.structures import PackedStructure, refuse_overlap

torch.set_num_threads(1)

MARK = "CHAOS_MARK"
"""File that a process makes when it comes to its point."""
HAS_POTENTIAL = importlib.util.find_spec("chgnet") is not None
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload([f"{__name__.rpartition('.')[0]}.preload"])


def warm_up() -> None:
    """Load what every campaign needs; called in the process that the others are forked from."""
    from voltscreen.campaign.firetasks import _potential
    from voltscreen.screening.oxidation import substitution_probability

    crystal = PackedStructure.from_arrays(np.eye(3) * 4, [[0, 0, 0]], [8])
    refuse_overlap(crystal)
    build_graphs([crystal], INSERTION)
    substitution_probability("Mn", "Fe", 4, 4)
    if HAS_POTENTIAL:
        _potential()


def start(action: Callable[[], None], environment: dict[str, str]) -> BaseProcess:
    """Run a function of this module in a process of its own, with these variables added."""
    child: BaseProcess = _CONTEXT.Process(target=_run, args=(action, environment), daemon=True)
    child.start()
    return child


def _run(action: Callable[[], None], environment: dict[str, str]) -> None:
    from voltscreen import failpoints
    from voltscreen.settings import settings

    os.environ.update(environment)
    if mark := environment.get(MARK):
        fail = failpoints._fail

        def marked(point: str, fault: failpoints.Fault) -> None:
            Path(mark).touch()
            fail(point, fault)

        failpoints._fail = marked
    settings.cache_clear()
    failpoints._order.cache_clear()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nowhere, stream)
    action()


def worker() -> None:
    """What `voltscreen worker` does."""
    from voltscreen.campaign.worker import work

    work("c")


def substitute() -> None:
    """What `voltscreen substitute` does."""
    from voltscreen.campaign.substitute import substitute_campaign
    from voltscreen.model import load_model
    from voltscreen.screening import SubstituteSpec
    from voltscreen.store import connect

    wanted = SubstituteSpec(top=3, suggestions=2, min_sites=1, min_probability=0.0)
    with connect() as store:
        substitute_campaign(store, "c", "Mg", load_model("small"), wanted)
