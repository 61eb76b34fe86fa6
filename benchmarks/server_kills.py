"""The embedded server killed with -9 during writes: no acknowledged write lost, no id given twice.

    python benchmarks/server_kills.py --kills 50

Eight processes draw ids and insert documents, one after the other, and note what the server has
acknowledged. Meanwhile the server is killed and started again. In the end every acknowledged
document must be there, and no id may have been given twice.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from pymongo.errors import ConnectionFailure, DuplicateKeyError

from voltscreen.campaign.launchpad import VoltscreenLaunchPad
from voltscreen.store import embedded

DATABASE = "kills"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--processes", type=int, default=8)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report = run(Path(folder), options.kills, options.processes)
    for name, value in report.items():
        print(f"{name:<28} {value}")
    return 1 if report["acknowledged and lost"] or report["ids given twice"] else 0


def run(home: Path, kills: int, processes: int) -> dict[str, int | float]:
    """Kill the server of a home so often; what was acknowledged, lost and doubled."""
    begun = time.monotonic()
    state = embedded.start(home)
    # A port that stays the same, and a launchpad that exists before anybody draws.
    with contextlib.closing(launchpad(state.uri)) as pad:
        pad.initialise()
    stop = multiprocessing.Event()
    logs = [home / f"acknowledged-{index}" for index in range(processes)]
    workers = [
        multiprocessing.get_context("fork").Process(target=write, args=(home, log, stop))
        for log in logs
    ]
    for worker in workers:
        worker.start()
    try:
        for index in range(kills):
            before = sum(log.stat().st_size for log in logs if log.exists())
            deadline = time.monotonic() + 30
            # Never before something was written since the last kill.
            while (
                sum(log.stat().st_size for log in logs if log.exists()) <= before
                and time.monotonic() < deadline
            ):
                time.sleep(0.01)
            time.sleep(random.Random(index).uniform(0.0, 0.3))
            os.kill(state.pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(state.pid, 0)
            state = embedded.start(home)
    finally:
        stop.set()
        for worker in workers:
            worker.join(60)
        found = check(home, logs)
        embedded.stop(home)
    return {"kills": kills, **found, "seconds": round(time.monotonic() - begun, 1)}


def launchpad(uri: str) -> VoltscreenLaunchPad:
    return VoltscreenLaunchPad(
        host=uri, name=DATABASE, uri_mode=True,
        mongoclient_kwargs={"serverSelectionTimeoutMS": 500, "socketTimeoutMS": 5000},
    )  # fmt: skip


def write(home: Path, log: Path, stop: multiprocessing.synchronize.Event) -> None:
    """Draw ids and insert documents; note each as soon as it is acknowledged."""
    pad = None
    with log.open("a") as acknowledged:
        while not stop.is_set():
            try:
                if pad is None:
                    state = embedded.running(home)
                    if state is None:
                        time.sleep(0.02)
                        continue
                    pad = launchpad(state.uri)
                drawn = pad.get_new_launch_id()
                acknowledged.write(f"id {drawn}\n")
                pad.db.kept.insert_one({"_id": f"{os.getpid()}-{drawn}", "text": "x" * 200})
                acknowledged.write(f"document {os.getpid()}-{drawn}\n")
                acknowledged.flush()
            except DuplicateKeyError:
                pass  # acknowledged by the server's disk, not to us, and drawn by nobody else
            except ConnectionFailure:
                if pad is not None:
                    pad.close()
                pad = None


def check(home: Path, logs: list[Path]) -> dict[str, int | float]:
    """What the logs say against what the database has."""
    lines = [line.split() for log in logs for line in log.read_text().splitlines()]
    ids = Counter(word for kind, word in lines if kind == "id")
    documents = {word for kind, word in lines if kind == "document"}
    pad = launchpad(embedded.start(home).uri)
    there = {row["_id"] for row in pad.db.kept.find({}, {"_id": 1})}
    pad.close()
    return {
        "acknowledged documents": len(documents),
        "acknowledged and lost": len(documents - there),
        "ids drawn": len(ids),
        "ids given twice": sum(count > 1 for count in ids.values()),
    }


if __name__ == "__main__":
    sys.exit(main())
