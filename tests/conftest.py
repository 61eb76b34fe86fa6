"""Fixtures: a voltscreen home with a real embedded server, and the shared data where present."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import settings as hypothesis_settings

# Tests run side by side, one a core: more threads of theirs would wait for each other. For
# subprocesses too, and before numpy reads it.
os.environ.setdefault("OMP_NUM_THREADS", "1")

REPOSITORY = Path(__file__).resolve().parents[1]
ROOM_IN_MEMORY = 8e9
"""Bytes."""

# The same examples in every run, so that a red test is the fault of a change; others are looked for
# with HYPOTHESIS_PROFILE=search.
hypothesis_settings.register_profile("search")
hypothesis_settings.register_profile("same", derandomize=True, database=None)
hypothesis_settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))


def pytest_xdist_auto_num_workers() -> int:
    """For `-n auto`: one more than cores, because the tests of tests/cluster mostly wait."""
    return (os.cpu_count() or 1) + 1


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests on the one SLURM come one after another: they begin first, the others run beside."""
    items.sort(key=lambda item: "cluster" not in item.path.parts)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real structures and labels beside the repository; tests that need them are left out."""
    folder = REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the shared data are not beside this checkout")
    return folder


def in_memory() -> str | None:
    """A folder where the syncs of a database cost nothing; None where memory lends none."""
    memory = Path("/dev/shm")
    roomy = memory.is_dir() and shutil.disk_usage(memory).free > ROOM_IN_MEMORY
    return str(memory) if roomy and os.access(memory, os.W_OK) else None


@pytest.fixture(scope="session")
def server_home() -> Iterator[Path]:
    """A home whose embedded server serves all tests of this process, and is stopped at the end."""
    from voltscreen.store import embedded

    with tempfile.TemporaryDirectory(prefix="voltscreen-", dir=in_memory()) as folder:
        home = Path(folder)
        yield home
        embedded.stop(home)


@pytest.fixture
def voltscreen_home(server_home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The settings of a test: that home, and a database of its own; for subprocesses too."""
    from voltscreen.settings import settings

    for name in [name for name in os.environ if name.startswith("VOLTSCREEN_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("VOLTSCREEN_HOME", str(server_home))
    monkeypatch.setenv("VOLTSCREEN_DATABASE", f"test-{uuid.uuid4().hex[:12]}")
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    settings.cache_clear()
    yield server_home
    settings.cache_clear()


@pytest.fixture
def store(voltscreen_home: Path):
    """A connection to the test's database, which is dropped afterwards."""
    from voltscreen.store import connect

    with connect() as opened:
        yield opened
        opened.database.client.drop_database(opened.database.name)


@pytest.fixture
def launchpad(store):
    """FireWorks' LaunchPad on the test's database."""
    from voltscreen.campaign.launchpad import open_launchpad

    opened = open_launchpad()
    yield opened
    opened.close()


@pytest.fixture
def materials_project(monkeypatch: pytest.MonkeyPatch):
    """A stand-in for the Materials Project; the environment points to it, for subprocesses too."""
    from tests.mp_stand_in.server import KEY, StandIn

    monkeypatch.delenv("PMG_MAPI_KEY", raising=False)
    monkeypatch.setenv("MP_API_KEY", KEY)
    with StandIn() as served:
        monkeypatch.setenv("MP_API_ENDPOINT", served.endpoint)
        yield served


@pytest.fixture(scope="session")
def potential():
    """CHGNet, loaded once for all tests of a process."""
    pytest.importorskip("chgnet")
    import torch

    from voltscreen.potentials.chgnet import ChgnetPotential

    torch.set_num_threads(1)
    return ChgnetPotential("cpu")


Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(voltscreen_home: Path) -> Command:
    """Run `voltscreen ...` as a user would."""

    def call(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "voltscreen", *map(str, arguments)],
            capture_output=True, text=True, check=False, **options,
        )  # fmt: skip

    return call


@contextmanager
def _environment(home: Path, database: str) -> Iterator[None]:
    """The settings of a home and a database, for subprocesses too; no keys of any service."""
    from voltscreen.settings import settings

    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("VOLTSCREEN_")]:
            patch.delenv(name)
        for name in ("MP_API_KEY", "PMG_MAPI_KEY"):
            patch.delenv(name, raising=False)
        patch.setenv("VOLTSCREEN_HOME", str(home))
        patch.setenv("VOLTSCREEN_DATABASE", database)
        patch.setenv("PYTHONPATH", str(REPOSITORY))
        settings.cache_clear()
        yield
    settings.cache_clear()


@pytest.fixture(scope="session")
def campaign_database(server_home: Path) -> Iterator[str]:
    """Name of a database with a small finished campaign, filled once for all that only read it."""
    from tests.web.small_campaign import make_campaign
    from voltscreen.store import connect

    database = f"test-{uuid.uuid4().hex[:12]}"
    with _environment(server_home, database), connect() as store:
        make_campaign(store)
    yield database
    with _environment(server_home, database), connect() as store:
        store.database.client.drop_database(database)


@pytest.fixture(scope="module")
def filled(server_home: Path, campaign_database: str):
    """An open store with the campaign `hosts`; what a test adds it takes away again."""
    from voltscreen.store import connect

    with _environment(server_home, campaign_database), connect() as store:
        yield store
