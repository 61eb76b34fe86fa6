"""Many workers at one queue, and many documents: no double claim, no scan, and how fast.

    python benchmarks/load.py --processes 100 --fireworks 400 --documents 1000000
    python benchmarks/load.py --uri mongodb://localhost:27017

So many processes take Fireworks of one workflow until none is left; each must have been taken
once. Then so many `voltages` documents are written, and the documented queries are timed and
explained. Without an address this runs on an embedded server of its own, whose files are deleted in
the end; on another the database is called `voltscreen-load`, and dropped.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from fireworks import Firework, FWAction, FWorker, ScriptTask, Workflow

from voltscreen.campaign.launchpad import VoltscreenLaunchPad, open_launchpad
from voltscreen.campaign.worker_id import WorkerId
from voltscreen.settings import load_settings
from voltscreen.store import Store, connect, embedded
from voltscreen.store.documents import VoltageDocument, VoltageStatus
from voltscreen.store.indexes import INDEXES

CHUNK = 1000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=100, help="0 leaves the queue out")
    parser.add_argument("--fireworks", type=int, default=400)
    parser.add_argument("--documents", type=int, default=1_000_000)
    parser.add_argument("--uri", help="of a MongoDB server; an embedded one when left out")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"VOLTSCREEN_HOME": folder, "VOLTSCREEN_DATABASE": "voltscreen-load"}
        os.environ.pop("VOLTSCREEN_MONGO_URI", None)
        if options.uri:
            os.environ["VOLTSCREEN_MONGO_URI"] = options.uri
        try:
            with connect(load_settings()) as store:
                try:
                    doubled = queue(options.processes, options.fireworks)
                    scans = documents(store, options.documents)
                finally:
                    # The embedded server's files go as a whole: to drop a million takes minutes.
                    if options.uri:
                        store.database.client.drop_database(store.database.name)
        finally:
            embedded.stop(Path(folder))
    return 1 if doubled or scans else 0


def queue(processes: int, fireworks: int) -> int:
    """Print and return how many Fireworks were taken twice or never."""
    if not processes:
        return 0
    launchpad = open_launchpad()
    nodes = [
        Firework([ScriptTask(script="true")], spec={"campaign": "load", "n": n})
        for n in range(fireworks)
    ]
    launchpad.add_wf(Workflow(nodes, metadata={"voltscreen_campaign": "load"}))
    launchpad.close()
    # Forked from one process that has everything imported: a hundred imports would be the load.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["voltscreen.campaign.worker", "voltscreen.store"])
    taken: Any = context.Queue()
    begun = time.monotonic()
    workers = [context.Process(target=take_all, args=(taken,)) for _ in range(processes)]
    for worker in workers:
        worker.start()
    counts: Counter[int] = Counter()
    for _ in workers:
        counts.update(taken.get())
    for worker in workers:
        worker.join()
    launchpad = open_launchpad()
    done = launchpad.fireworks.count_documents({"state": "COMPLETED"})
    launches = [row["launch_id"] for row in launchpad.launches.find({}, {"launch_id": 1})]
    launchpad.close()
    wrong = sum(n > 1 for n in counts.values()) + fireworks - len(counts)
    wrong += len(launches) - len(set(launches)) + fireworks - done
    print(
        f"{processes} processes took {sum(counts.values())} of {fireworks} Fireworks in "
        f"{time.monotonic() - begun:.0f} s; taken twice or never, or a launch id twice: {wrong}"
    )
    return wrong


def take_all(taken: Any) -> None:
    """Take Fireworks until none is ready."""
    logging.disable(logging.WARNING)
    launchpad: VoltscreenLaunchPad = open_launchpad()
    worker = FWorker(name=WorkerId.current().name, query={"spec.campaign": "load"})
    mine = []
    while True:
        firework, launch = launchpad.checkout_fw(worker, os.curdir)
        if firework is None:
            break
        mine.append(firework.fw_id)
        launchpad.complete_launch(launch, FWAction())
    launchpad.close()
    taken.put(mine)


def documents(store: Store, count: int) -> list[str]:
    """Print the rate of writing and the plan of every documented query; those that scan."""
    begun = time.monotonic()
    for start in range(0, count, CHUNK):
        rows = [_document(n).to_mongo() for n in range(start, min(start + CHUNK, count))]
        store.voltages.insert_many(rows, ordered=False)
    took = time.monotonic() - begun
    print(f"{count:,} voltages documents in {took:.0f} s, {count / took:,.0f}/s", flush=True)
    queries = {
        "structure_id": {"structure_id": "7"},
        "model_id, status": {"model_id": "m", "status": "failed"},
        "formula": {"formula": "Mn7O8"},
        "chemsys": {"chemsys": "Mn-O-7"},
        "elements": {"elements": "E7"},
        "_id": {"_id": {"$in": ["7:m", "8:m"]}},
    }
    assert len(queries) == len(INDEXES["voltages"]) + 1
    scans = []
    for name, query in queries.items():
        clock = time.monotonic()
        found = len(list(store.voltages.find(query, {"_id": 1}).limit(100)))
        seconds = time.monotonic() - clock
        plan = str(store.voltages.find(query).explain())
        scan = "COLLSCAN" in plan
        scans += [name] if scan else []
        print(
            f"{name:<18} first {found:>3} in {1000 * seconds:6.1f} ms, "
            f"{'SCANS the collection' if scan else 'by an index'}"
        )
    return scans


def _document(n: int) -> VoltageDocument:
    return VoltageDocument(
        id=f"{n}:m", structure_id=str(n), model_id="m", formula=f"Mn{n % 500}O8",
        chemsys=f"Mn-O-{n % 5000}", elements=["Mn", "O", f"E{n % 90}"],
        element_counts={"Mn": 1, "O": 8}, nsites=9,
        status=VoltageStatus.FAILED if n % 1000 == 0 else VoltageStatus.OK,
        ions={"Mg": {"voltage": 2.5, "additive": bytes(36)}},  # type: ignore[dict-item]
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
