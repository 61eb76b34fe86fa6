"""Named points at which a test makes a process fail; without its environment variable, nothing.

`VOLTSCREEN_FAILPOINT=rank.cleared:kill` kills the process the first time it comes to that point,
`rank.cleared:kill:3` the third time. Every point stands between two steps that a machine can die
between.
"""

from __future__ import annotations

import os
import signal
import socket
from enum import StrEnum
from functools import cache

VARIABLE = "VOLTSCREEN_FAILPOINT"
CALL_VARIABLE = "VOLTSCREEN_FAILPOINT_CALL"
"""host:port that `call` connects to."""

POINTS = (
    "ingest.begun",  # the campaign is marked as running, nothing is read
    "ingest.stored",  # a chunk is in `structures`, its ids are noted nowhere
    "ingest.noted",  # and noted
    "ingest.read",  # all is read, the source's fingerprint is not noted
    "plan.begun",
    "plan.written",  # batches are written, the notes of the ingest are still there
    "plan.done",  # and gone; no Firework of a batch exists
    "claim.reserved",  # the Firework is reserved, no launch exists
    "claim.launched",  # the launch exists, the Firework does not know it
    "claim.begun",  # the launch runs, its batch is untouched
    "predict.begun",  # the batch is marked as running
    "predict.chunk",  # a chunk is predicted, not written
    "write.chunk",  # a chunk is written, not counted
    "write.batch",  # all is written, the batch is not marked as done
    "finish.batch",  # the batch is done, its Firework still runs
    "finish.launch",  # the launch has ended, its Firework does not know
    "finish.firework",  # it does, the workflow does not
    "finish.detours",  # new Fireworks are written, their workflow does not name them
    "finish.waiting",  # it does, they are not ready
    "rank.begun",
    "rank.cleared",  # the former ranking of an ion is gone
    "rank.part",  # an ion is ranked, others are not
    "rank.written",  # all ions are, the campaign is not done
    "refine.looked",  # a second look is taken, not on record
    "refine.written",  # a second look is on record, its Firework still runs
    "substitute.scored",  # a suggestion is scored, its new structure stored, itself not
    "substitute.written",
)


class Fault(StrEnum):
    """What happens at a point."""

    KILL = "kill"
    """SIGKILL: nothing more runs."""
    TERM = "term"
    """SIGTERM, as a batch system sends before its time is over."""
    USR1 = "usr1"
    RAISE = "raise"
    """An exception that nobody expects."""
    CALL = "call"
    """Connects to `CALL_VARIABLE` and goes on when the other side closes: a stall for as long as
    a test wants, or time for it to cut the database off."""


class FailPointError(Exception):
    """What `raise` raises."""


def reach(point: str) -> None:
    """Come to a point; the test's fault happens here if it was ordered."""
    order = _order()
    if order is not None and order.point == point:
        order.countdown -= 1
        if order.countdown == 0:
            _fail(point, order.fault)


class _Order:
    """The fault of this process, and how often its point must still be reached."""

    def __init__(self, text: str) -> None:
        self.point, fault, *times = text.split(":")
        if self.point not in POINTS:
            raise ValueError(f"{VARIABLE}: there is no point {self.point!r}")
        self.fault = Fault(fault)
        self.countdown = int(times[0]) if times else 1


@cache
def _order() -> _Order | None:
    text = os.environ.get(VARIABLE)
    return _Order(text) if text else None


def _fail(point: str, fault: Fault) -> None:
    if fault is Fault.RAISE:
        raise FailPointError(f"ordered at {point}")
    if fault is Fault.CALL:
        host, _, port = os.environ[CALL_VARIABLE].rpartition(":")
        with socket.create_connection((host, int(port))) as line:
            line.recv(1)
        return
    number = {Fault.KILL: signal.SIGKILL, Fault.TERM: signal.SIGTERM, Fault.USR1: signal.SIGUSR1}
    os.kill(os.getpid(), number[fault])
