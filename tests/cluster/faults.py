"""What a cluster does to a campaign, done to a small one on the real SLURM of slurm/test_cluster.

Used by tests/cluster/test_faults.py and by benchmarks/slurm_faults.py, which prints the table.
"""

from __future__ import annotations

import contextlib
import os
import queue
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.cluster.cluster import SITE, Cluster, Stall, until
from voltscreen.campaign import control
from voltscreen.campaign.launchpad import VoltscreenLaunchPad, open_launchpad
from voltscreen.campaign.spec import parse_spec
from voltscreen.campaign.status import campaign_status
from voltscreen.settings import load_settings
from voltscreen.store import Store, connect, embedded
from voltscreen.store.documents import CampaignState

NAME = "fault"
LONG = 600.0
"""Seconds; far longer than anything takes on a machine that has nothing else to do."""


@dataclass(frozen=True)
class Campaign:
    """A small campaign on a server of its own, which a fault may stop.

    home: voltscreen home of the server; uri: how workers reach it, who must not start it.
    """

    cluster: Cluster
    folder: Path
    home: Path
    uri: str
    store: Store
    launchpad: VoltscreenLaunchPad

    @property
    def environment(self) -> dict[str, str]:
        """Of commands and workers."""
        return {
            **{k: v for k, v in os.environ.items() if not k.startswith("VOLTSCREEN_")},
            **self.cluster.environment,
            "VOLTSCREEN_HOME": str(self.home / "workers"),
            "VOLTSCREEN_MONGO_URI": self.uri,
            "VOLTSCREEN_DATABASE": self.store.database.name,
            "VOLTSCREEN_CONNECT_TIMEOUT": "3",
            "PYTHONPATH": str(SITE.parents[2]),
        }

    def site(self, **changes: Any) -> Path:
        """A site profile: that of the test cluster, with changes."""
        content = {
            **yaml.safe_load(SITE.read_text()), "folder": str(self.folder / "jobs"), **changes,
        }  # fmt: skip
        path = self.folder / f"site-{len(list(self.folder.glob('site-*')))}.yaml"
        path.write_text(yaml.safe_dump(content))
        return path

    def run(self, *arguments: object, **environment: str) -> str:
        """`voltscreen ...`; what it says."""
        done = subprocess.run(
            [sys.executable, "-m", "voltscreen", *map(str, arguments)],
            env={**self.environment, **environment},
            capture_output=True, text=True, check=False, timeout=LONG,
        )  # fmt: skip
        assert done.returncode == 0, f"{shlex.join(map(str, arguments))}: {done.stderr}"
        return done.stdout + done.stderr

    def submit(self, jobs: int, environment: dict[str, str] | None = None, **site: Any) -> None:
        """`voltscreen slurm submit`."""
        self.run(
            "slurm", "submit", "--campaign", NAME, "--max-jobs", jobs, "--site", self.site(**site),
            **(environment or {}),
        )  # fmt: skip

    def held(self) -> dict[str, Any]:
        """The launch of the one batch that a worker has in hand."""
        (row,) = self.launchpad.fireworks.find({"state": "RUNNING"})
        launch = self.launchpad.launches.find_one(
            {"fw_id": row["fw_id"], "state": "RUNNING"}, sort=[("launch_id", -1)]
        )
        return {
            "batch": row["spec"]["batch"],
            "pid": int(launch["fworker"]["name"].split("|")[1]),
            "job": launch["fworker"]["env"]["job"]["name"],
            "node": launch["fworker"]["env"]["job"]["node"],
            "number": launch["fworker"]["env"]["job"]["id"],
        }

    def attempts(self, batch: str) -> list[dict[str, Any]]:
        """Attempts at a batch."""
        return list(self.store.batches.find_one({"_id": batch})["attempts"])

    def is_done(self) -> bool:
        """Whether it is ranked."""
        return campaign_status(self.store, NAME).state is CampaignState.DONE

    def situation(self) -> str:
        """What SLURM, its controller and the workers say, for one who asks why nothing goes on."""
        logs = sorted((self.folder / "jobs" / "logs").glob("*.log"))
        controller = self.cluster.folder / "log" / "slurmctld.log"
        return "\n".join(
            [
                self.cluster.ask("squeue", "--states=all", "--array", "--format=%i %T %r %N %S %e"),
                self.cluster.ask("sinfo", "--Node", "--long"),
                *(f"{path.name}:\n{path.read_text()[-3000:]}" for path in logs),
                *controller.read_text().splitlines()[-60:],
            ]
        )

    def end_jobs(self) -> None:
        """Cancel what still waits or runs: it would take the memory of a node from other jobs."""
        arrays = self.store.job_arrays.distinct("number")
        if arrays:
            self.cluster.ask("scancel", *arrays)
            _until_gone(self, ",".join(arrays))

    def voltages(self) -> dict[str, Any]:
        """All voltages without what depends on the time."""
        rows = self.store.voltages.find()
        return {row["_id"]: {k: v for k, v in row.items() if k != "written_at"} for row in rows}


@contextlib.contextmanager
def campaign(cluster: Cluster, folder: Path, pool: Path, structures: int) -> Iterator[Campaign]:
    """A campaign over the first rows of a Parquet table, read and planned: six batches."""
    folder.mkdir(parents=True)
    home = folder / "home"
    uri = embedded.start(home).uri
    config = load_settings(home=home, mongo_uri=uri, database=NAME, connect_timeout=3)
    try:
        with connect(config) as store, contextlib.closing(open_launchpad(config)) as launchpad:
            made = Campaign(cluster, folder, home, uri, store, launchpad)
            source = {"parquet": {"path": str(pool), "limit": structures}}
            # The smaller of the shipped models: what is tried is the cluster, not the model.
            spec = {"name": NAME, "ions": ["Mg"], "source": source, "model": "single"}
            atoms = made_of(pool, structures)
            spec["batch"] = {"max_atoms": atoms // 6 + 1}
            control.submit(store, launchpad, parse_spec(spec))
            made.run("worker", "--campaign", NAME, "--nlaunches", 1)
            yield made
            made.end_jobs()
    finally:
        embedded.stop(home)


def made_of(pool: Path, structures: int) -> int:
    """Atoms of the first rows of the table."""
    import pyarrow.parquet as pq

    column = pq.read_table(pool, columns=["atomic_numbers"]).column(0)
    return sum(len(row) for row in column.slice(0, structures))


@dataclass(frozen=True)
class Outcome:
    """What a fault did.

    observed: to the batch that was in hand; seconds: from the fault until the campaign was done;
    problems: what was not as after an undisturbed run.
    """

    fault: str
    observed: str
    seconds: float
    problems: tuple[str, ...]


def undisturbed(made: Campaign) -> dict[str, Any]:
    """The voltages that an undisturbed run on this machine gives."""
    made.run("worker", "--campaign", NAME)
    return made.voltages()


def disturbed(
    made: Campaign, fault: Callable[[Campaign, Stall], str], expected: dict[str, Any]
) -> Outcome:
    """Work the campaign on the cluster, with a fault while a worker is in the middle of a batch."""
    # Small enough that the jobs of several campaigns fit on a node at once.
    node = {"options": [f"--nodelist={NODES[fault.__name__]}"], "gpus": "0", "memory": "1000M"}
    site = {**SITES.get(fault.__name__, {}), **node}
    environment = ENVIRONMENTS.get(fault.__name__, {})
    with Stall() as stall:
        made.submit(1, {**stall.environment, **environment}, **site)
        stall.wait()
        began = time.monotonic()
        try:
            observed = fault(made, stall)
        except TimeoutError as error:
            error.add_note(made.situation())
            raise
        stall.let_go()
        # As a person would who comes back: what is lost is submitted again until all is done.
        made.run(
            "slurm", "submit", "--campaign", NAME, "--max-jobs", 2, "--site", made.site(**node),
            "--until-done", "--interval", 2,
        )  # fmt: skip
    seconds = time.monotonic() - began
    name = (fault.__doc__ or "").strip().rstrip(".")
    return Outcome(name, observed, seconds, tuple(_problems(made, fault.__name__, expected)))


def _problems(made: Campaign, fault: str, expected: dict[str, Any]) -> Iterator[str]:
    """What is not as it should be at the end."""
    batches = list(made.store.batches.find({"kind": "predict"}))
    tried = [one for row in batches for one in row["attempts"]]
    if not made.is_done():
        yield "the campaign is not done"
    if made.voltages() != expected:
        yield "other voltages"
    if {row["state"] for row in batches} != {"done"}:
        yield "a batch is not done"
    if sum(row["predicted"] + row["failed"] for row in batches) != len(expected):
        yield "the counts differ"
    if made.launchpad.fireworks.count_documents({"state": {"$ne": "COMPLETED"}}):
        yield "a Firework is not completed"
    if fault.startswith("database"):
        if len(tried) != len(batches):
            yield "a batch was computed twice"
        if [one.get("spooled") for one in tried].count(True) != 1:
            yield "no batch, or several, went through a spool file"


def all_faults(
    cluster: Cluster, folder: Path, pool: Path, structures: int, only: str | None = None
) -> Iterator[Outcome]:
    """Every fault, against an undisturbed run; several at once."""
    with campaign(cluster, folder / "calm", pool, structures) as made:
        expected = undisturbed(made)

    def one_after_another(faults: Iterable[Callable[[Campaign, Stall], str]]) -> None:
        try:
            for fault in faults:
                if only in (None, fault.__name__):
                    with campaign(cluster, folder / fault.__name__, pool, structures) as made:
                        done.put(disturbed(made, fault, expected))
        finally:
            done.put(None)

    done: queue.Queue[Outcome | None] = queue.Queue()
    rows = [row for rows in AT_ONCE.values() for row in rows]
    with ThreadPoolExecutor(len(rows)) as threads:
        runs = [threads.submit(one_after_another, faults) for faults in rows]
        for _ in runs:
            while (outcome := done.get()) is not None:
                yield outcome
        for run in runs:
            run.result()


def scancel(made: Campaign, stall: Stall) -> str:
    """scancel of a job."""
    held = made.held()
    made.cluster.ask("scancel", held["job"])
    time.sleep(1)
    stall.let_go()
    _until_gone(made, held["job"])
    return _what_became(made, held["batch"])


def kill_worker(made: Campaign, stall: Stall) -> str:
    """kill -9 of a worker."""
    held = made.held()
    os.kill(held["pid"], signal.SIGKILL)
    _until_gone(made, held["job"])
    return _what_became(made, held["batch"])


def kill_slurmd(made: Campaign, stall: Stall) -> str:
    """kill -9 of a slurmd."""
    held = made.held()
    made.cluster.kill_node(held["node"])
    try:
        # Asked of the job: sinfo may go on calling a node mixed that is down.
        until(lambda: "RUNNING" not in _states(made, held["job"]), 200)
    finally:
        made.cluster.up()
    stall.let_go()
    # The worker lived on, and ends its batch unless SLURM, whose node is back, kills it before.
    with contextlib.suppress(TimeoutError):
        until(lambda: made.attempts(held["batch"]), 15)
    return f"node down, {_what_became(made, held['batch'])}"


def preemption(made: Campaign, stall: Stall) -> str:
    """Requeue by preemption."""
    held = made.held()
    made.cluster.ask(
        "sbatch", "--partition=gpu", f"--nodelist={held['node']}", "--exclusive", "--time=1",
        "--output=/dev/null", "--wrap", "sleep 5",
    )  # fmt: skip
    until(lambda: "RUNNING" not in _states(made, held["job"]), 120)
    # Stopped as it is, it does not hear SIGTERM in time.
    until(lambda: "PENDING" in _states(made, held["job"]), 120)
    return f"job {held['job']} killed and requeued"


def time_limit(made: Campaign, stall: Stall) -> str:
    """Time limit reached."""
    held = made.held()
    _until_gone(made, held["job"], 200)
    state = _states(made, held["job"], "--states=all")
    return f"job ended: {state}; {_what_became(made, held['batch'])}"


def database_stops(made: Campaign, stall: Stall) -> str:
    """MongoDB stopped for 30 s."""
    held = made.held()
    embedded.stop(made.home)
    stopped = time.monotonic()
    stall.let_go()
    time.sleep(max(0.0, 30 - (time.monotonic() - stopped)))
    embedded.start(made.home)
    until(lambda: made.attempts(held["batch"]), LONG)
    return _what_became(made, held["batch"])


def database_away(made: Campaign, stall: Stall) -> str:
    """MongoDB away until the job ends."""
    held = made.held()
    embedded.stop(made.home)
    stall.let_go()
    _until_gone(made, held["job"])
    embedded.start(made.home)
    said = made.run("campaign", "recover", made.folder / "jobs" / "spool")
    again = made.run("campaign", "recover", made.folder / "jobs" / "spool")
    assert " 0 voltages are new" in again, again
    assert "0 batches ended" in again, again
    return f"spool file; {said.strip().splitlines()[-1]} {_what_became(made, held['batch'])}"


AT_ONCE: dict[str, tuple[tuple[Callable[[Campaign, Stall], str], ...], ...]] = {
    "vs1": ((preemption, kill_slurmd),),
    "vs2": ((time_limit,), (database_stops, database_away), (scancel, kill_worker)),
}
"""Faults one after another, and beside those of another row: what happens to a node itself happens
to all its jobs."""
NODES = {fault.__name__: node for node, rows in AT_ONCE.items() for row in rows for fault in row}
SITES: dict[str, dict[str, Any]] = {
    "preemption": {"partition": "scavenge"},
    "time_limit": {"wall_time": "00:01:00", "signal_seconds": 0},
}
ENVIRONMENTS = {"database_away": {"VOLTSCREEN_PATIENCE": "3"}}


def _until_gone(made: Campaign, job: str, seconds: float = 120) -> None:
    until(lambda: not _states(made, job), seconds)


def _states(made: Campaign, job: str, *options: str) -> str:
    """SLURM's words for a job, or for those of an array; empty when it has ended."""
    return made.cluster.ask(
        "squeue", "--noheader", "--array", f"--jobs={job}", "--format=%T", *options
    )


def _what_became(made: Campaign, batch: str) -> str:
    """Of the batch that was in hand."""
    tried = made.attempts(batch)
    if not tried:
        return "its batch had no end, it runs again"
    last = tried[-1]
    if last.get("spooled"):
        return f"its batch went through a spool file, {len(tried)} attempt"
    if last.get("handed_back"):
        return "its batch was handed back"
    return f"its batch was finished by job {last['job']}, {len(tried)} attempt"
