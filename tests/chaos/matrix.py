"""The matrix: every fail point with every fault, and what the collections hold in the end.

A cell is one campaign in a database of its own. A worker meets its fault, whatever is left is
resumed and worked by others, and the collections are compared with those of a campaign that
nobody disturbed: equal, none missing, none double.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from multiprocessing.process import BaseProcess
from typing import Self

from tests.chaos import children
from tests.chaos.ends import collections, compare
from tests.chaos.ground import NAME, PATIENCE, Campaign, Ground, Scene, campaign, end
from tests.chaos.proxy import Wire
from voltscreen.campaign import control
from voltscreen.campaign.launchpad import VoltscreenLaunchPad
from voltscreen.failpoints import CALL_VARIABLE, POINTS, VARIABLE
from voltscreen.store import embedded

OUTAGE = 1.0
"""Seconds that a cut wire stays cut."""


class Fault(StrEnum):
    """What a worker meets at a point."""

    KILL = "kill"
    TERM = "term"
    USR1 = "usr1"
    RAISE = "raise"
    CUT = "cut"
    """The database is gone for a second."""
    ZOMBIE = "zombie"
    """It stalls until it is given up and others have done its work, then goes on."""
    STALE = "stale"
    """As `zombie`, and the source has grown and is worked before it goes on: what it holds in
    memory is of a smaller campaign."""


@dataclass(frozen=True, slots=True)
class Step:
    """A point, and the campaign in which it is met."""

    point: str
    scene: Scene = Scene.FIRST

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.point} {self.scene}" if self.scene is Scene.AGAIN else self.point

    @property
    def faults(self) -> list[Fault]:
        """Those that the step is tried with."""
        return [f for f in Fault if f is not Fault.STALE or self.scene is Scene.AGAIN]


def _steps() -> Iterator[Step]:
    own = {"refine": Scene.REFINE, "substitute": Scene.SUBSTITUTE}
    for point in POINTS:
        scene = own.get(point.partition(".")[0], Scene.FIRST)
        if scene is not Scene.REFINE or children.HAS_POTENTIAL:
            yield Step(point, scene)
    yield from (Step(point, Scene.AGAIN) for point in POINTS if point.startswith("rank."))


Cell = tuple[Step, Fault]
STEPS = tuple(_steps())
"""Second looks only where a universal potential is installed."""
CELLS: list[Cell] = [(step, fault) for step in STEPS for fault in step.faults]


@dataclass(frozen=True)
class Result:
    """How a cell ended. problem: empty when the collections are those of an undisturbed run."""

    step: Step
    fault: Fault
    reached: bool
    resumes: int
    seconds: float
    problem: str


def run_matrix(made: Ground, cells: Sequence[Cell], parallel: int) -> Iterator[Result]:
    """The results of the cells, in their order."""
    with ThreadPoolExecutor(parallel) as pool:
        yield from pool.map(lambda cell: run_cell(made, *cell), cells)


def run_cell(made: Ground, step: Step, fault: Fault) -> Result:
    """One campaign with one fault, brought to its end."""
    begun = time.monotonic()
    reached, resumes, problem = False, 0, ""
    with campaign(made, step.scene) as one:
        try:
            _prepare(one, fault)
            reached, resumes = _meet(made, one, step.point, fault)
            problem = "" if reached else "the point was not reached"
            problem = problem or compare(made.expected[step.scene], collections(one.store))
            problem = problem or one.unfinished()
        except Exception as error:  # noqa: BLE001 - a cell that breaks is a red cell
            problem = f"{type(error).__name__}: {error}"
    return Result(step, fault, reached, resumes, time.monotonic() - begun, problem)


def _prepare(one: Campaign, fault: Fault) -> None:
    """Up to where the fault is to be met."""
    one.submit()
    if one.scene is Scene.SUBSTITUTE:
        one.work()
    elif one.scene is Scene.AGAIN and fault is not Fault.STALE:
        one.work()
        one.grow()


def _meet(made: Ground, one: Campaign, point: str, fault: Fault) -> tuple[bool, int]:
    """Let a process meet its fault and bring the campaign home; whether it did, and resumes."""
    port = embedded.start(made.home).port
    mark = made.folder / f"{one.store.database.name}.mark"
    stalls = fault in (Fault.ZOMBIE, Fault.STALE)
    order = "call" if stalls or fault is Fault.CUT else fault.value
    with Wire(port) as wire, _Line() as line:
        uri = one.variables["VOLTSCREEN_MONGO_URI"]
        child = children.start(
            one.action,
            {
                **one.variables,
                "VOLTSCREEN_MONGO_URI": uri.replace(f":{port}/", f":{wire.port}/"),
                VARIABLE: f"{point}:{order}",
                CALL_VARIABLE: f"127.0.0.1:{line.port}",
                children.MARK: str(mark),
            },
        )
        try:
            if order == "call" and not line.wait(child):
                return False, 0
            if stalls:
                return True, _others_go_on(one, fault, child, line)
            if fault is Fault.CUT:
                wire.cut()
                line.release()
                time.sleep(OUTAGE)
                wire.mend()
            end(child)
            return mark.exists(), _bring_home(one)
        finally:
            child.kill()


def _others_go_on(one: Campaign, fault: Fault, child: BaseProcess, line: _Line) -> int:
    """Others do the work of a process that stalls; then it goes on. Number of resumes."""
    _give_up(one.launchpad)
    resumes = _bring_home(one)
    if fault is Fault.STALE:
        one.grow()
        resumes += _bring_home(one)
    line.release()
    end(child)
    # What it did after its end must have changed nothing, also for a resume.
    return resumes + _bring_home(one)


def _bring_home(one: Campaign) -> int:
    """Resume and work until nothing is left, as a person would; number of resumes."""
    for resumes in range(6):
        if not one.unfinished():
            if one.action is children.substitute:
                one.work(children.substitute)
            return resumes
        control.resume(one.store, one.launchpad, NAME)
        one.work()
    return resumes


def _give_up(launchpad: VoltscreenLaunchPad) -> None:
    """Make the stalled worker look dead: its name becomes that of a process that is gone."""
    dead = f"{socket.gethostname()}|{os.getpid()}|1"
    launchpad.launches.update_many({}, {"$set": {"fworker.name": dead}})
    launchpad.fireworks.update_many({"claim": {"$exists": True}}, {"$set": {"claim.worker": dead}})


class _Line:
    """Where a process at its fail point calls, and waits until it is released."""

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(0.1)
        self.port: int = self._listener.getsockname()[1]
        self._caller: socket.socket | None = None
        return self

    def wait(self, child: BaseProcess) -> bool:
        """Whether the child came to its point before it ended."""
        deadline = time.monotonic() + PATIENCE
        while child.is_alive() and time.monotonic() < deadline:
            with contextlib.suppress(TimeoutError):
                self._caller, _ = self._listener.accept()
                return True
        return False

    def release(self) -> None:
        if self._caller is not None:
            self._caller.close()
            self._caller = None

    def __exit__(self, *_: object) -> None:
        self.release()
        self._listener.close()
