"""The model behind the page: loaded once, asked by one thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from voltscreen.structures import HostState, PackedStructure

if TYPE_CHECKING:
    from voltscreen.model import CandidatePrediction, VoltageModel

WAITING = 16
"""Predictions that may wait for the model; beyond, a request is turned away."""


class BusyError(Exception):
    """Too many predictions wait."""


class Predictor:
    """A model that is loaded in the background as soon as the server starts."""

    def __init__(
        self, name: str = "default", then: Callable[[VoltageModel], None] | None = None
    ) -> None:
        """Load a model; `then` is called with it before the first prediction."""
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="model")
        self._waiting = threading.BoundedSemaphore(WAITING)
        self._model = self._thread.submit(_load, name, then)

    @property
    def ready(self) -> bool:
        """Whether the model is loaded."""
        return self._model.done() and self._model.exception() is None

    def model(self) -> VoltageModel:
        """The model; waits until it is loaded."""
        return self._model.result()

    async def predict(
        self, structure: PackedStructure, ions: Sequence[str] | None, state: HostState
    ) -> CandidatePrediction:
        """Voltages of one structure.

        Raises:
            BusyError: too many others wait.
            ModelError: an ion that the model does not know.
        """
        if not self._waiting.acquire(blocking=False):
            raise BusyError
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._thread, self._run, structure, ions, state)
        finally:
            self._waiting.release()

    def _run(
        self, structure: PackedStructure, ions: Sequence[str] | None, state: HostState
    ) -> CandidatePrediction:
        from voltscreen.model import predict_candidates

        return predict_candidates(self.model(), [structure], ions, state)[0]

    def close(self) -> None:
        """Wait for the prediction at hand and stop."""
        self._thread.shutdown(wait=True, cancel_futures=True)


def _load(name: str, then: Callable[[VoltageModel], None] | None) -> VoltageModel:
    from voltscreen.model import load_model, predict_candidates
    from voltscreen.model.device import prepare

    model = prepare(load_model(name))
    # The first prediction of a process compiles and allocates; no person should wait for that.
    predict_candidates(model, [ROCK_SALT])
    if then:
        then(model)
    return model


ROCK_SALT = PackedStructure.from_arrays(
    [0.0, 2.1, 2.1, 2.1, 0.0, 2.1, 2.1, 2.1, 0.0], [0.0, 0.0, 0.0, 0.5, 0.5, 0.5], [25, 8]
)
"""MnO, to try things on."""
