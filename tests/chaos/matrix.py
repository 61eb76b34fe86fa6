"""The matrix: every fail point with every fault, and what the collections hold in the end.

A cell is one campaign in a database of its own. A worker meets its fault, whatever is left is
resumed and worked by others, and the collections are compared with those of a campaign that
nobody disturbed: equal, none missing, none double.
"""

from __future__ import annotations

import contextlib
import math
import os
import socket
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import StrEnum
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Self

import pandas as pd

from tests.chaos import children
from tests.chaos.proxy import Wire
from tests.model.helpers import random_crystal, small_model
from tests.screening.test_substitution import host
from voltscreen.campaign import control
from voltscreen.campaign.launchpad import VoltscreenLaunchPad, open_launchpad
from voltscreen.campaign.spec import CampaignSpec, parse_spec
from voltscreen.failpoints import CALL_VARIABLE, POINTS, VARIABLE
from voltscreen.graph import INSERTION
from voltscreen.model.files import save_model
from voltscreen.settings import Settings, load_settings
from voltscreen.store import Store, connect, embedded
from voltscreen.store.documents import BatchKind, CampaignState

PATIENCE = 90.0
"""Seconds for one process of a cell."""
OUTAGE = 1.0
"""Seconds that a cut wire stays cut."""
NAME = "c"


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


STEPS = tuple(point for point in POINTS if not point.startswith("refine."))
"""Second looks need a universal potential, too slow for so many campaigns: they have tests of
their own."""
CELLS = [(point, fault) for point in STEPS for fault in Fault]


@dataclass(frozen=True)
class Result:
    """How a cell ended. problem: empty when the collections are those of an undisturbed run."""

    point: str
    fault: Fault
    reached: bool
    resumes: int
    seconds: float
    problem: str


@dataclass
class Ground:
    """What all cells share: a home with a server and a small model, and the campaign's spec."""

    home: Path
    spec: CampaignSpec
    expected: dict[str, Any] = field(default_factory=dict)

    def variables(self, database: str, uri: str) -> dict[str, str]:
        return {
            "VOLTSCREEN_HOME": str(self.home),
            "VOLTSCREEN_DATABASE": database,
            "VOLTSCREEN_MONGO_URI": uri,
            "VOLTSCREEN_CONNECT_TIMEOUT": "1",
        }


def fast_folder() -> str | None:
    """Where the server's syncs cost nothing: these cells kill workers, never the server."""
    memory = Path("/dev/shm")
    return str(memory) if os.access(memory, os.W_OK) else None


@contextlib.contextmanager
def ground(folder: Path) -> Iterator[Ground]:
    """Set up, with the collections of an undisturbed run."""
    home = folder / "home"
    former = {name: os.environ.get(name) for name in ("VOLTSCREEN_HOME",)}
    os.environ["VOLTSCREEN_HOME"] = str(home)
    from voltscreen.settings import settings

    settings.cache_clear()
    embedded.start(home)
    try:
        save_model(small_model(spec=INSERTION), home / "models" / "small.safetensors")
        made = Ground(home, parse_spec(_spec(_pool(folder))))
        with _database(made, embedded.start(home).uri) as (_, store, launchpad, variables):
            control.submit(store, launchpad, made.spec)
            _end(children.start(children.worker, variables))
            _end(children.start(children.substitute, variables))
            made.expected = collections(store)
            problem = _unfinished(store, launchpad)
        assert not problem, problem
        assert made.expected["substitutions"], "the campaign has nothing to substitute"
        yield made
    finally:
        embedded.stop(home)
        for name, value in former.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})
        settings.cache_clear()


def _pool(folder: Path) -> Path:
    crystals = [random_crystal(seed, 4 + seed % 9, (3, 8, 15, 25, 26)) for seed in range(33)]
    crystals += [host(*metals.split()) for metals in ("Ti Ti Mn Mn", "V V Ni Ni", "Mn Mn Ni Ni")]
    rows = [
        {
            "material_id": f"mp-{index}",
            "lattice": crystal.lattice.ravel(),
            "atomic_numbers": crystal.atomic_numbers.astype(int),
            "frac_coords": crystal.frac_coords.ravel(),
        }
        for index, crystal in enumerate(crystals)
    ]
    rows[7]["frac_coords"] = rows[7]["frac_coords"] * 0
    rows += rows[:3]
    pd.DataFrame(rows).to_parquet(folder / "pool.parquet")
    return folder / "pool.parquet"


def _spec(pool: Path) -> dict[str, Any]:
    return {
        "name": NAME,
        "ions": ["Li", "Mg"],
        "source": {"parquet": str(pool)},
        "model": "small",
        "batch": {"max_atoms": 120},
    }


def run_matrix(made: Ground, cells: Sequence[tuple[str, Fault]], parallel: int) -> Iterator[Result]:
    """The results of the cells, in their order."""
    with ThreadPoolExecutor(parallel) as pool:
        yield from pool.map(lambda cell: run_cell(made, *cell), cells)


def run_cell(made: Ground, point: str, fault: Fault) -> Result:
    """One campaign with one fault, brought to its end."""
    begun = time.monotonic()
    state = embedded.start(made.home)
    mark = made.home / f"{point}-{fault}"
    reached, resumes, problem = False, 0, ""
    with contextlib.ExitStack() as stack:
        wire = stack.enter_context(Wire(state.port))
        uri = state.uri.replace(f":{state.port}/", f":{wire.port}/")
        _, store, launchpad, variables = stack.enter_context(_database(made, state.uri))
        control.submit(store, launchpad, made.spec)
        action = children.worker
        if point.startswith("substitute"):
            _end(children.start(children.worker, variables))
            action = children.substitute
        with _Line() as line:
            order = "call" if fault in (Fault.CUT, Fault.ZOMBIE) else fault.value
            child = children.start(
                action,
                {
                    **variables,
                    "VOLTSCREEN_MONGO_URI": uri,
                    VARIABLE: f"{point}:{order}",
                    CALL_VARIABLE: f"127.0.0.1:{line.port}",
                    children.MARK: str(mark),
                },
            )
            if order == "call":
                reached = line.wait(child)
            if reached and fault is Fault.CUT:
                wire.cut()
                line.release()
                time.sleep(OUTAGE)
                wire.mend()
            if not (reached and fault is Fault.ZOMBIE):
                _end(child)
                reached = mark.exists()
            else:
                _give_up(launchpad)
            try:
                resumes = _bring_home(store, launchpad, variables, action)
                if reached and fault is Fault.ZOMBIE:
                    line.release()
                    _end(child)
                    # What it did after its end must have changed nothing, also for a resume.
                    resumes += _bring_home(store, launchpad, variables, action)
                problem = compare(made.expected, collections(store), point)
                problem = problem or _unfinished(store, launchpad)
            except Exception as error:  # noqa: BLE001 - a cell that breaks is a red cell
                problem = f"{type(error).__name__}: {error}"
            finally:
                child.kill()
    if not reached:
        problem = problem or "the point was not reached"
    return Result(point, fault, reached, resumes, time.monotonic() - begun, problem)


def _bring_home(
    store: Store, launchpad: VoltscreenLaunchPad, variables: dict[str, str], action: Any
) -> int:
    """Resume and work until nothing is left, as a person would; number of resumes."""
    for resumes in range(6):
        if not _unfinished(store, launchpad):
            if action is children.substitute:
                _end(children.start(children.substitute, variables))
            return resumes
        control.resume(store, launchpad, NAME)
        _end(children.start(children.worker, variables))
    return resumes


def _give_up(launchpad: VoltscreenLaunchPad) -> None:
    """Make the stalled worker look dead: its name becomes that of a process that is gone."""
    dead = f"{socket.gethostname()}|{os.getpid()}|1"
    launchpad.launches.update_many({}, {"$set": {"fworker.name": dead}})
    launchpad.fireworks.update_many({"claim": {"$exists": True}}, {"$set": {"claim.worker": dead}})


def _end(child: BaseProcess) -> int | None:
    child.join(PATIENCE)
    if child.exitcode is None:
        child.kill()
        raise TimeoutError(f"a process did not end within {PATIENCE:g} s")
    return child.exitcode


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


@contextlib.contextmanager
def _database(
    made: Ground, uri: str
) -> Iterator[tuple[Settings, Store, VoltscreenLaunchPad, dict[str, str]]]:
    """A database of its own, dropped afterwards."""
    database = f"chaos-{uuid.uuid4().hex[:12]}"
    config = load_settings(home=made.home, mongo_uri=uri, database=database)
    with connect(config) as store, contextlib.closing(open_launchpad(config)) as launchpad:
        try:
            yield config, store, launchpad, made.variables(database, uri)
        finally:
            store.database.client.drop_database(database)


# --- what the collections hold ----------------------------------------------------------------

_OF_THE_TIME = {
    "written_at", "fetched_at", "attempts", "fw_id", "claim", "errors", "submitted_at",
    "started_at", "finished_at", "workflow_id", "weights", "ranked_at", "stages",
    "environments", "sha256",
}  # fmt: skip
"""What two undisturbed runs differ in."""
COLLECTIONS = (
    "structures", "campaigns", "batches", "voltages", "rankings", "ranking_columns",
    "substitutions", "models",
)  # fmt: skip


def collections(store: Store) -> dict[str, dict[str, Any]]:
    """Every document of every collection by its id, without what depends on the time."""
    return {
        name: {str(row["_id"]): _timeless(row) for row in store.database[name].find()}
        for name in COLLECTIONS
    }


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _timeless(v) for key, v in value.items() if key not in _OF_THE_TIME}
    return [_timeless(each) for each in value] if isinstance(value, list) else value


def compare(expected: dict[str, Any], found: dict[str, Any], point: str) -> str:
    """The first difference in a sentence; empty for none."""
    for name in COLLECTIONS:
        if name == "substitutions" and not point.startswith("substitute"):
            continue
        want, have = expected[name], found[name]
        if name == "structures" and not point.startswith("substitute"):
            want = {key: row for key, row in want.items() if not _is_made(row)}
        if missing := want.keys() - have.keys():
            return f"{name}: {len(missing)} missing, such as {min(missing)}"
        if extra := have.keys() - want.keys():
            return f"{name}: {len(extra)} too many, such as {min(extra)}"
        for key, row in want.items():
            fields = [f for f in {*row, *have[key]} if not _same(row.get(f), have[key].get(f))]
            if fields:
                return f"{name} {key}: differs in {', '.join(sorted(fields))}"
    return ""


def _same(one: Any, other: Any) -> bool:
    """Equal; numbers within what float32 makes of other structures in the same pass."""
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, abs_tol=1e-5)
    return bool(one == other)


def _is_made(row: dict[str, Any]) -> bool:
    return any(entry["source"] == "substitution" for entry in row["sources"])


def _unfinished(store: Store, launchpad: VoltscreenLaunchPad) -> str:
    """What is not at its end, or was done twice, in a sentence; empty for nothing."""
    campaign = store.campaigns.find_one({"_id": NAME}) or {}
    batches = list(store.batches.find({"kind": {"$ne": BatchKind.INGESTED}}))
    states = Counter(row["state"] for row in batches)
    launches = [row["launch_id"] for row in launchpad.launches.find({}, {"launch_id": 1})]
    members = [key for row in batches for key in row["structure_ids"]]
    locked = launchpad.workflows.count_documents({"locked": {"$exists": True}})
    problems = {
        f"the campaign is {campaign.get('state')}": campaign.get("state") != CampaignState.DONE,
        "Fireworks are open": bool(control.open_fireworks(launchpad, NAME)),
        f"batches are {dict(states)}": set(states) != {"done"},
        "a Firework is fizzled": launchpad.fireworks.count_documents({"state": "FIZZLED"}) > 0,
        "a workflow is locked": locked > 0,
        "a launch id was given twice": len(launches) != len(set(launches)),
        "a structure is in two batches": len(members) != len(set(members)),
    }
    return "; ".join(problem for problem, is_so in problems.items() if is_so)
