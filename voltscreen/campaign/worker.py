"""The worker: takes Fireworks, one after another, with the model kept loaded between them."""

from __future__ import annotations

import contextlib
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

from fireworks import FWorker
from fireworks.core.rocket_launcher import launch_rocket
from pymongo.errors import ConnectionFailure

from voltscreen.campaign.launchpad import (
    DatabaseGone,
    VoltscreenLaunchPad,
    open_launchpad,
    quiet_fireworks,
)
from voltscreen.campaign.liveness import Liveness
from voltscreen.campaign.offline import work_offline
from voltscreen.campaign.reconcile import reclaim, reconcile
from voltscreen.campaign.shift import BatchEnd, Shift
from voltscreen.campaign.worker_id import HEARTBEAT_SECONDS, WorkerId
from voltscreen.logs import log, log_to
from voltscreen.settings import settings

POLL_SECONDS = 0.3
SLURM_POLL_SECONDS = 5.0


class WorkerEnd(IntEnum):
    """Why a worker left; also its exit code."""

    NOTHING_READY = 0
    DATABASE_AWAY = 3
    OUT_OF_TIME = 4
    STOPPED = 5
    HANDED_BACK = 6
    SPOOLED = 7

    @property
    def sentence(self) -> str:
        """For people."""
        return {
            WorkerEnd.NOTHING_READY: "nothing more is ready",
            WorkerEnd.DATABASE_AWAY: "MongoDB stays away; nothing was in hand",
            WorkerEnd.OUT_OF_TIME: "the wall time does not suffice for another batch",
            WorkerEnd.STOPPED: "stopped as asked, the batch in hand is finished",
            WorkerEnd.HANDED_BACK: "stopped as asked, the batch in hand is handed back",
            WorkerEnd.SPOOLED: "MongoDB stays away, the batch in hand is in a spool file",
        }[self]


@dataclass(frozen=True, slots=True)
class Worked:
    """What a worker did. launches: Fireworks it ran; end: why it left."""

    launches: int
    end: WorkerEnd


def work(campaign: str | None = None, max_launches: int | None = None) -> Worked:
    """Run Fireworks until none is ready and none runs that could make more ready.

    SIGTERM, SIGINT and SIGUSR1 let the Firework in hand finish, then stop. In a SLURM job it does
    not wait for what others run, and leaves when the wall time does not suffice for another batch.

    Args:
        campaign: only this campaign's Fireworks; those of all campaigns when None.
        max_launches: stop after so many.
    """
    quiet_fireworks()
    shift = Shift.begin()
    with (
        log_to(settings().logs or settings().home / "logs"),
        shift.listen(),
        contextlib.closing(open_launchpad()) as launchpad,
        _scratch(),
    ):
        launchpad.shift = shift
        log("worker begins", campaign=campaign, job=shift.job.name if shift.job else None)
        with _heartbeat():
            worked = _Work(launchpad, shift, campaign, max_launches).run()
        log("worker ends", launches=worked.launches, why=worked.end.sentence)
        return worked


def offline_work(folder: Path) -> Worked:
    """Work exported batch files until none is left; signals and wall time as for `work`.

    Raises:
        CampaignError: there is no such folder.
    """
    shift = Shift.begin()
    with shift.listen():
        count, last = work_offline(folder, shift)
    if last is BatchEnd.HANDED_BACK:
        return Worked(count, WorkerEnd.HANDED_BACK)
    if shift.stop.is_set():
        return Worked(count, WorkerEnd.STOPPED)
    if not shift.has_time_for_a_batch():
        return Worked(count, WorkerEnd.OUT_OF_TIME)
    return Worked(count, WorkerEnd.NOTHING_READY)


class _Work:
    """The loop of a worker."""

    def __init__(
        self,
        launchpad: VoltscreenLaunchPad,
        shift: Shift,
        campaign: str | None,
        max_launches: int | None,
    ) -> None:
        self._launchpad, self._shift = launchpad, shift
        self._wanted: dict[str, Any] = {"spec.campaign": campaign or {"$exists": True}}
        self._campaign, self._max_launches = campaign, max_launches
        self._launches = 0
        job = shift.job
        self._worker = FWorker(
            name=WorkerId.current().name,
            query=self._wanted,
            env={"job": job.to_plain()} if job else {},
        )

    def run(self) -> Worked:
        """Until it leaves."""
        first: list[int] = []
        reclaimed = False
        while True:
            end = self._must_leave()
            if end is not None:
                return Worked(self._launches, end)
            try:
                if not reclaimed:
                    # What this job had in hand before it was requeued, or lost by a dead sibling.
                    first = reclaim(self._launchpad, self._worker.name, self._shift.job)
                    reclaimed = True
                end = self._take_one(first.pop(0) if first else None)
            except ConnectionFailure:
                reclaimed = False
                if not self._shift.wait_for_database(self._launchpad.connection):
                    end = WorkerEnd.DATABASE_AWAY
            except DatabaseGone:
                spooled = self._shift.last_end is BatchEnd.SPOOLED
                end = WorkerEnd.SPOOLED if spooled else WorkerEnd.DATABASE_AWAY
            if end is not None:
                return Worked(self._launches, end)

    def _must_leave(self) -> WorkerEnd | None:
        if self._shift.last_end is BatchEnd.HANDED_BACK:
            return WorkerEnd.HANDED_BACK
        if self._shift.stop.is_set():
            return WorkerEnd.STOPPED
        if self._max_launches is not None and self._launches >= self._max_launches:
            return WorkerEnd.NOTHING_READY
        if not self._shift.has_time_for_a_batch():
            return WorkerEnd.OUT_OF_TIME
        return None

    def _take_one(self, fw_id: int | None) -> WorkerEnd | None:
        """Run one Firework; why to leave when there is none."""
        if fw_id is None and not self._launchpad.run_exists(self._worker):
            return self._nothing_ready()
        clock = time.monotonic()
        self._shift.begin_launch()
        if launch_rocket(self._launchpad, self._worker, fw_id):
            self._launches += 1
        if self._shift.last_end is BatchEnd.DONE:
            self._shift.lately.append(time.monotonic() - clock)
        return None

    def _nothing_ready(self) -> WorkerEnd | None:
        """Whether something may become ready: what others run, or what others lost."""
        if self._shift.job is not None:
            # An allocation does not idle; but what its dead neighbours left it can still do.
            freed = reconcile(self._launchpad, self._campaign).freed
            return None if freed else WorkerEnd.NOTHING_READY
        rows = list(
            self._launchpad.fireworks.find(
                {**self._wanted, "state": {"$in": ["RUNNING", "RESERVED"]}},
                {"fw_id": 1, "claim": 1},
            )
        )
        verdicts = Liveness(self._launchpad).judge(rows).values()
        living = [found for found in verdicts if not found.lost and not found.exported]
        if not living:
            return WorkerEnd.NOTHING_READY
        # Each look at a job asks SLURM's controller.
        asks_slurm = any(verdict.job for verdict in living)
        self._shift.stop.wait(SLURM_POLL_SECONDS if asks_slurm else POLL_SECONDS)
        return None


@contextlib.contextmanager
def _scratch() -> Iterator[None]:
    """FireWorks writes FW.json into the current folder: give it one that nobody misses."""
    with tempfile.TemporaryDirectory(prefix="voltscreen-") as folder, contextlib.chdir(folder):
        yield


@contextlib.contextmanager
def _heartbeat() -> Iterator[None]:
    """Tell the database every few seconds that the launches of this process are alive."""
    stop = threading.Event()
    name = WorkerId.current().name

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
