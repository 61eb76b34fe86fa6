"""The whole pool as a campaign: Parquet to ranked tables of all ten ions, and where the time goes.

    python benchmarks/whole_pool.py [--pool FILE] [--limit N] [--workers 2] [--csv FILE]

Runs in a home of its own with an embedded database. Printed are wall time, the CPU time of workers
and server, and peak memory by stage, how long the workers waited for each kind of database call,
and how long the best 100 take to read.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

POOL = Path(__file__).resolve().parents[2] / "shared" / "data" / "mp_pool.parquet"
STAGES = ("ingest", "plan", "predict", "rank")
CALLS = Path(__file__).resolve().parent / "calls"
"""On their path workers time their database calls."""
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Stage:
    """Wall seconds from the first start to the last end of a stage's Fireworks; CPU seconds by
    process name and peak MiB of a worker while it lasted.
    """

    seconds: float = 0.0
    cpu: dict[str, float] = field(default_factory=dict)
    worker_memory: float = 0.0
    server_memory: float = 0.0


@dataclass(frozen=True)
class Process:
    """A process of the campaign: CPU seconds so far, resident MiB."""

    name: str
    cpu: float
    memory: float


def processes(server_pid: int) -> Iterator[tuple[int, Process]]:
    """The server and the workers, all of them children of this process."""
    workers = [(child, "worker") for child in _children() if child != server_pid]
    for pid, name in [(server_pid, "server"), *workers]:
        with contextlib.suppress(OSError, IndexError, ValueError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            cpu = (int(fields[11]) + int(fields[12])) / _TICKS
            yield pid, Process(name, cpu, int(fields[21]) * os.sysconf("SC_PAGE_SIZE") / 2**20)


def _children() -> list[int]:
    text = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text()
    return [int(pid) for pid in text.split()]


class Watch:
    """Books CPU and memory to the stage that the campaign is in."""

    def __init__(self, store: Any, name: str, server_pid: int) -> None:
        self.stages = {stage: Stage() for stage in STAGES}
        self._store, self._name, self._server = store, name, server_pid
        self._cpu: dict[int, float] = {}
        self._clock = time.monotonic()

    def look(self, status: Any) -> None:
        """Called a few times a second."""
        stage = self.stages[self._stage(status)]
        now = time.monotonic()
        stage.seconds += now - self._clock
        self._clock = now
        for pid, process in processes(self._server):
            gained = process.cpu - self._cpu.get(pid, 0.0)
            self._cpu[pid] = process.cpu
            stage.cpu[process.name] = stage.cpu.get(process.name, 0.0) + gained
            if process.name == "server":
                stage.server_memory = max(stage.server_memory, process.memory)
            else:
                stage.worker_memory = max(stage.worker_memory, process.memory)

    def _stage(self, status: Any) -> str:
        if not self._store.batches.count_documents({"campaign": self._name}, limit=1):
            return "ingest"
        batches = {state.value: count for state, count in status.batches.items()}
        if not sum(batches.values()):
            read = self._store.campaigns.find_one({"_id": self._name}, {"source_fingerprint": 1})
            return "plan" if read.get("source_fingerprint") else "ingest"
        return "rank" if batches["ready"] + batches["running"] == 0 else "predict"


def top_hundred(store: Any, name: str, ion: str) -> float:
    """Milliseconds for the best 100 with filters, best of five."""
    from voltscreen.store import ResultQuery, query_results

    query = ResultQuery(campaign=name, ion=ion, min_voltage=1.5, exclude_elements=("Pb",), top=100)
    taken = []
    for _ in range(5):
        start = time.perf_counter()
        query_results(store, query)
        taken.append(1000 * (time.perf_counter() - start))
    return min(taken)


def batch_memory(store: Any, name: str) -> list[float]:
    """Peak MiB of the worker after each batch, in the order in which they ended."""
    rows = store.batches.find({"campaign": name, "kind": "predict"}, {"attempts": 1})
    attempts = [attempt for row in rows for attempt in row.get("attempts", [])]
    return [a["peak_memory"] for a in sorted(attempts, key=lambda a: a["started_at"])]


@contextlib.contextmanager
def measured_calls() -> Iterator[dict[str, tuple[int, float]]]:
    """Processes started meanwhile time their database calls.

    Yields:
        Filled as it ends: number and seconds of calls by collection and command.
    """
    found: dict[str, tuple[int, float]] = {}
    before = os.environ.get("PYTHONPATH")
    with tempfile.TemporaryDirectory(prefix="voltscreen-calls-") as folder:
        os.environ["CALLS_FOLDER"] = folder
        os.environ["PYTHONPATH"] = os.pathsep.join([str(CALLS), *([before] if before else [])])
        try:
            yield found
        finally:
            del os.environ["CALLS_FOLDER"], os.environ["PYTHONPATH"]
            if before is not None:
                os.environ["PYTHONPATH"] = before
        for file in Path(folder).glob("*.json"):
            for name, (count, seconds) in json.loads(file.read_text()).items():
                counts, total = found.get(name, (0, 0.0))
                found[name] = counts + count, total + seconds


def print_calls(calls: dict[str, tuple[int, float]]) -> None:
    """The ten calls that workers waited for longest."""
    longest = sorted(calls.items(), key=lambda item: -item[1][1])[:10]
    print(f"{'database call of workers':>33}{'calls':>9}{'seconds':>9}{'ms a call':>11}")
    for name, (count, seconds) in longest:
        print(f"{name:>33}{count:>9}{seconds:>9.1f}{1000 * seconds / count:>11.2f}")


def run(pool: Path, limit: int | None, workers: int, max_atoms: int) -> list[dict[str, object]]:
    from voltscreen.campaign import control
    from voltscreen.campaign.launchpad import open_launchpad
    from voltscreen.campaign.run import run_campaign
    from voltscreen.campaign.spec import parse_spec
    from voltscreen.ions import WORKING_IONS
    from voltscreen.settings import settings
    from voltscreen.store import connect, embedded

    source = {"path": str(pool)} | ({"limit": limit} if limit else {})
    spec = parse_spec(
        {
            "name": "pool", "ions": list(WORKING_IONS), "source": {"parquet": source},
            "batch": {"max_atoms": max_atoms},
        }
    )  # fmt: skip
    with connect() as store, contextlib.closing(open_launchpad()) as launchpad:
        server = embedded.running(settings().home)
        if server is None:
            raise SystemExit("no embedded server runs: unset VOLTSCREEN_MONGO_URI")
        control.submit(store, launchpad, spec)
        watch = Watch(store, spec.name, server.pid)
        with measured_calls() as calls:
            end = run_campaign(store, spec.name, workers, watch.look)
        if end.open or end.worker_output:
            raise SystemExit(f"the campaign did not end: {end.worker_output}")
        rows: list[dict[str, object]] = []
        count = end.status.structures
        total = Stage()
        for name, stage in watch.stages.items():
            rows.append(_row(name, stage, count))
            total.seconds += stage.seconds
            for who, cpu in stage.cpu.items():
                total.cpu[who] = total.cpu.get(who, 0.0) + cpu
            total.worker_memory = max(total.worker_memory, stage.worker_memory)
            total.server_memory = max(total.server_memory, stage.server_memory)
        rows.append(_row("all", total, count))
        print(f"{count} structures, {end.status.predicted} predicted, ten ions, {workers} workers")
        _print(rows)
        print_calls(calls)
        memory = batch_memory(store, spec.name)
        tenth = memory[min(9, len(memory) - 1)]
        print(f"peak of a worker after batch 10: {tenth:.0f} MiB, after the last: {memory[-1]:.0f}")
        print(f"best 100 for Mg with filters: {top_hundred(store, spec.name, 'Mg'):.0f} ms")
        longest = max(rows[:-1], key=lambda row: float(str(row["seconds"])))
        print(f"The wall is {longest['stage']}: {longest['seconds']} s.")
    return rows


def _row(name: str, stage: Stage, count: int) -> dict[str, object]:
    return {
        "stage": name,
        "seconds": round(stage.seconds, 1),
        "structures_per_second": round(count / stage.seconds) if stage.seconds else 0,
        "worker_cpu_s": round(stage.cpu.get("worker", 0.0), 1),
        "server_cpu_s": round(stage.cpu.get("server", 0.0), 1),
        "worker_mib": round(stage.worker_memory),
        "server_mib": round(stage.server_memory),
    }


def _print(rows: list[dict[str, object]]) -> None:
    print("  ".join(f"{name:>21}" for name in rows[0]))
    for row in rows:
        print("  ".join(f"{value:>21}" for value in row.values()))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pool", type=Path, default=POOL)
    parser.add_argument("--limit", type=int, default=None)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--max-atoms", type=int, default=100_000)
    parser.add_argument("--csv", type=Path, default=None)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="voltscreen-pool-") as home:
        os.environ["VOLTSCREEN_HOME"] = home
        from voltscreen.store import embedded

        try:
            rows = run(
                arguments.pool.resolve(), arguments.limit, arguments.workers, arguments.max_atoms
            )
        finally:
            embedded.stop(Path(home))
    if arguments.csv:
        with arguments.csv.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
