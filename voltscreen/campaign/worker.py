"""The worker: takes Fireworks, one after another, with the model kept loaded between them."""

from __future__ import annotations

import contextlib
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from types import FrameType

from fireworks import FWorker
from fireworks.core.rocket_launcher import launch_rocket

from voltscreen.campaign.launchpad import VoltscreenLaunchPad, open_launchpad, quiet_fireworks
from voltscreen.process import ProcessId

HEARTBEAT_SECONDS = 20.0
POLL_SECONDS = 0.3


@dataclass(frozen=True, slots=True)
class WorkerId:
    """A worker: its machine and its process there."""

    host: str
    process: ProcessId

    @property
    def name(self) -> str:
        """What FireWorks stores with every launch."""
        return f"{self.host}|{self.process.pid}|{self.process.started}"


def parse_worker_name(name: str) -> WorkerId | None:
    """The inverse of `WorkerId.name`; None for a worker that is not ours (`rlaunch`)."""
    parts = name.split("|")
    if len(parts) != 3 or not parts[1].isdigit():
        return None
    return WorkerId(parts[0], ProcessId(int(parts[1]), parts[2]))


@dataclass(frozen=True, slots=True)
class Worked:
    """What a worker did. launches: Fireworks it ran; stopped: by a signal or its limit."""

    launches: int
    stopped: bool


def work(campaign: str | None = None, max_launches: int | None = None) -> Worked:
    """Run Fireworks until none is ready and none runs that could make more ready.

    SIGTERM, SIGINT and SIGUSR1 let the Firework in hand finish, then stop.

    Args:
        campaign: only this campaign's Fireworks; those of all campaigns when None.
        max_launches: stop after so many.
    """
    quiet_fireworks()
    worker = FWorker(
        name=WorkerId(socket.gethostname(), ProcessId.current()).name,
        query={"spec.campaign": campaign or {"$exists": True}},
    )
    launches = 0
    launchpad = open_launchpad()
    with contextlib.closing(launchpad), _stop_on_signal() as stop, _scratch(), _heartbeat():
        while not stop.is_set() and (max_launches is None or launches < max_launches):
            if launchpad.run_exists(worker):
                launches += bool(launch_rocket(launchpad, worker))
            elif _others_run(launchpad, campaign):
                stop.wait(POLL_SECONDS)
            else:
                return Worked(launches, stopped=False)
    return Worked(launches, stopped=True)


def _others_run(launchpad: VoltscreenLaunchPad, campaign: str | None) -> bool:
    """Whether a Firework runs whose end may make others ready."""
    wanted = {
        "spec.campaign": campaign or {"$exists": True},
        "state": {"$in": ["RUNNING", "RESERVED"]},
    }
    from voltscreen.campaign.control import is_lost

    rows = launchpad.fireworks.find(wanted, {"fw_id": 1, "launches": 1})
    return any(not is_lost(launchpad, row) for row in rows)


@contextlib.contextmanager
def _stop_on_signal() -> Iterator[threading.Event]:
    stop = threading.Event()

    def ask(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    signals = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
    former = {number: signal.signal(number, ask) for number in signals}
    try:
        yield stop
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _scratch() -> Iterator[None]:
    """FireWorks writes FW.json into the current folder: give it one that nobody misses."""
    with tempfile.TemporaryDirectory(prefix="voltscreen-") as folder, contextlib.chdir(folder):
        yield


@contextlib.contextmanager
def _heartbeat() -> Iterator[None]:
    """Tell the database every few seconds that the launches of this process are alive."""
    stop = threading.Event()
    name = WorkerId(socket.gethostname(), ProcessId.current()).name

    def beat() -> None:
        launchpad = open_launchpad()
        with contextlib.closing(launchpad):
            while not stop.wait(HEARTBEAT_SECONDS):
                # A beat that is missed while the database is away is made up by the next.
                with contextlib.suppress(Exception):
                    for launch in launchpad.launches.find(
                        {"fworker.name": name, "state": "RUNNING"}, {"launch_id": 1}
                    ):
                        launchpad.ping_launch(launch["launch_id"])

    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


__all__ = ["HEARTBEAT_SECONDS", "Worked", "WorkerId", "parse_worker_name", "work"]
