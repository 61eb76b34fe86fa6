"""A worker's shift: how long it may work, what it was told, and how its last batch ended."""

from __future__ import annotations

import contextlib
import math
import signal
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from types import FrameType
from typing import Any

import pymongo
from pymongo.errors import PyMongoError

from voltscreen.cluster.job import Job, ends_at, kill_wait
from voltscreen.settings import settings

MARGIN = 2.0
"""Seconds kept for handing back what is in hand."""
PING_SECONDS = 1.0
PING_TIMEOUT = 5.0
ECHO_SECONDS = 2.0
"""A signal that comes again so soon is the same one, on another way: by the terminal and by the
parent, by SLURM and by the shell of the batch script."""


class BatchEnd(Enum):
    """How a batch ended."""

    DONE = "done"
    HANDED_BACK = "handed back"
    """The time did not suffice; what was predicted is in the database."""
    SPOOLED = "spooled"
    """The database stayed away; what was predicted is in a spool file."""


@dataclass
class Shift:
    """A worker's shift.

    job: the SLURM job that it runs in; end: when the process will be killed, seconds since 1970;
    grace: seconds between SIGTERM and SIGKILL, None where no SIGKILL follows; patience: seconds
    to wait for a database that went away; stop: set by a signal; last_end: of the last batch, None
    when the last Firework was none; lately: seconds of the last batches. The first one of a process
    loads the model and may compile, so that the longest of all would say too much.
    """

    job: Job | None = None
    end: float = math.inf
    grace: float | None = None
    patience: float = 900.0
    stop: threading.Event = field(default_factory=threading.Event)
    last_end: BatchEnd | None = None
    lately: deque[float] = field(default_factory=lambda: deque(maxlen=3))
    _told: dict[int, float] = field(default_factory=dict)

    @classmethod
    def begin(cls) -> Shift:
        """The shift of this process: as long as its job allows."""
        job = Job.current()
        patience = settings().patience
        if job is None:
            return cls(patience=patience)
        end = ends_at(job)
        return cls(job, math.inf if end is None else end, kill_wait(), patience)

    def begin_launch(self) -> None:
        """Forget how the last batch ended."""
        self.last_end = None

    def seconds_left(self) -> float:
        """Until the process is killed, less what handing back takes."""
        return self.end - time.time() - MARGIN

    def has_time_for(self, seconds: float) -> bool:
        """Whether something that takes so long would still end in time."""
        return self.seconds_left() > seconds

    def has_time_for_a_batch(self) -> bool:
        """Whether a batch as long as the longest of the last ones would still end in time."""
        return self.has_time_for(max(self.lately, default=0.0))

    def wait_for_database(self, client: pymongo.MongoClient[Any]) -> bool:
        """Wait until the database answers; False when patience, time or a signal ended it."""
        deadline = time.monotonic() + self.patience
        while True:
            seconds = max(min(PING_TIMEOUT, self.seconds_left()), 0.5)
            with contextlib.suppress(PyMongoError), pymongo.timeout(seconds):
                client.admin.command("ping")
                return True
            left = min(deadline - time.monotonic(), self.seconds_left())
            if left <= 0 or self.stop.wait(min(PING_SECONDS, left)):
                return False

    @contextlib.contextmanager
    def listen(self) -> Iterator[None]:
        """Let SIGUSR1, SIGTERM and SIGINT end the shift after the batch in hand.

        Outside of a job the same signal again, later, hands it back; not SIGUSR1.
        """
        signals = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
        former = {number: signal.signal(number, self._hear) for number in signals}
        try:
            yield
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)

    def _hear(self, number: int, _frame: FrameType | None) -> None:
        moment = time.time()
        first = self._told.setdefault(number, moment)
        if number == signal.SIGTERM and self.grace is not None:
            self.end = min(self.end, first + self.grace)
        elif number != signal.SIGUSR1 and moment - first > ECHO_SECONDS:
            self.end = min(self.end, moment)
        self.stop.set()
