"""The ground of the matrix: a server, a small model, and four scenes with their right ends."""

from __future__ import annotations

import contextlib
import os
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pandas as pd

from tests.chaos import children
from tests.chaos.ends import Collections, collections, unfinished
from tests.model.helpers import random_crystal, small_model
from tests.potentials.helpers import layered_host
from tests.screening.test_substitution import host
from voltscreen.campaign import control
from voltscreen.campaign.launchpad import VoltscreenLaunchPad, open_launchpad
from voltscreen.campaign.spec import parse_spec
from voltscreen.graph import INSERTION
from voltscreen.model.files import save_model
from voltscreen.settings import load_settings
from voltscreen.store import Store, connect, embedded
from voltscreen.structures import PackedStructure

NAME = "c"
PATIENCE = 90.0
"""Seconds for one process of a cell."""
GROWN_FROM = 20
"""Rows of the source before it grows."""
REFINE = {"top": 2, "sites": 1, "relax_steps": 2, "max_ions": 1}
"""The smallest second look: the matrix asks whether it is on record once, not how good it is."""


class Scene(StrEnum):
    """The campaign in which a point is met."""

    FIRST = "first"
    """From its submit to its ranking."""
    AGAIN = "again"
    """It is done, and its source has grown: a finished ranking is written anew."""
    REFINE = "refine"
    """Second looks at two of its structures, and the ranking after them."""
    SUBSTITUTE = "substitute"
    """It is done, and `voltscreen substitute` works on it."""


@dataclass
class Ground:
    """What all cells share. expected: of each scene the collections of an undisturbed run."""

    folder: Path
    expected: dict[Scene, Collections] = field(default_factory=dict)

    @property
    def home(self) -> Path:
        """Of the server and the model."""
        return self.folder / "home"


@dataclass
class Campaign:
    """One campaign in a database of its own.

    variables: of processes that work it; pool: its source.
    """

    scene: Scene
    store: Store
    launchpad: VoltscreenLaunchPad
    variables: dict[str, str]
    pool: Path

    @property
    def action(self) -> Callable[[], None]:
        """What the processes of the scene do."""
        return children.substitute if self.scene is Scene.SUBSTITUTE else children.worker

    def submit(self) -> None:
        """Submit it, or what its source has got since."""
        control.submit(self.store, self.launchpad, parse_spec(_spec(self.scene, self.pool)))

    def work(self, action: Callable[[], None] = children.worker) -> None:
        """Work what is ready, undisturbed."""
        end(children.start(action, self.variables))

    def grow(self) -> None:
        """Let the source grow, and submit what is new."""
        write_pool(self.pool, CRYSTALS)
        self.submit()

    def unfinished(self) -> str:
        """What is not at its end, in a sentence; empty for nothing."""
        return unfinished(self.store, self.launchpad, NAME)


def _crystals() -> list[PackedStructure]:
    made = [random_crystal(seed, 4 + seed % 9, (3, 8, 15, 25, 26)) for seed in range(33)]
    overlapping = made[7]
    made[7] = PackedStructure(
        overlapping.lattice, overlapping.frac_coords * 0, overlapping.atomic_numbers
    )
    made += [host(*metals.split()) for metals in ("Ti Ti Mn Mn", "V V Ni Ni", "Mn Mn Ni Ni")]
    return made + made[:3]


CRYSTALS = _crystals()
"""One of them cannot be predicted, three come twice."""


def write_pool(path: Path, crystals: Sequence[PackedStructure]) -> None:
    """A source that holds these, in the place of another."""
    rows = [
        {
            "material_id": f"mp-{index}",
            "lattice": crystal.lattice.ravel(),
            "atomic_numbers": crystal.atomic_numbers.astype(int),
            "frac_coords": crystal.frac_coords.ravel(),
        }
        for index, crystal in enumerate(crystals)
    ]
    part = path.with_suffix(".part")
    pd.DataFrame(rows).to_parquet(part)
    part.replace(path)


def _spec(scene: Scene, pool: Path) -> dict[str, Any]:
    second = {"ions": ["Li"], "refine": REFINE} if scene is Scene.REFINE else {}
    return {
        "name": NAME,
        "ions": ["Li", "Mg"],
        "source": {"parquet": str(pool)},
        "model": "small",
        "batch": {"max_atoms": 120},
        **second,
    }


@contextlib.contextmanager
def ground(folder: Path, scenes: Sequence[Scene] = tuple(Scene)) -> Iterator[Ground]:
    """Set up, with the right ends of these scenes."""
    made = Ground(folder)
    former = os.environ.get("VOLTSCREEN_HOME")
    os.environ["VOLTSCREEN_HOME"] = str(made.home)
    from voltscreen.settings import settings

    settings.cache_clear()
    embedded.start(made.home)
    try:
        save_model(small_model(spec=INSERTION), made.home / "models" / "small.safetensors")
        for scene in scenes:
            made.expected[scene] = _undisturbed(made, scene)
        yield made
    finally:
        embedded.stop(made.home)
        os.environ.pop("VOLTSCREEN_HOME")
        if former is not None:
            os.environ["VOLTSCREEN_HOME"] = former
        settings.cache_clear()


def _undisturbed(made: Ground, scene: Scene) -> Collections:
    with campaign(made, scene) as one:
        one.submit()
        one.work()
        if scene is Scene.AGAIN:
            one.grow()
            one.work()
        if scene is Scene.SUBSTITUTE:
            one.work(children.substitute)
        found, problem = collections(one.store), one.unfinished()
    assert not problem, f"{scene}: {problem}"
    if scene in (Scene.REFINE, Scene.SUBSTITUTE):
        assert found["refinements"] or found["substitutions"], f"{scene}: nothing came of it"
    return found


@contextlib.contextmanager
def campaign(made: Ground, scene: Scene) -> Iterator[Campaign]:
    """A campaign of the scene that is not submitted; its database is dropped afterwards."""
    key = uuid.uuid4().hex[:12]
    pool = made.folder / f"{key}.parquet"
    if scene is Scene.REFINE:
        write_pool(pool, [layered_host(22), layered_host(25), layered_host(28)])
    else:
        write_pool(pool, CRYSTALS[:GROWN_FROM] if scene is Scene.AGAIN else CRYSTALS)
    state = embedded.start(made.home)
    variables = {
        "VOLTSCREEN_HOME": str(made.home),
        "VOLTSCREEN_DATABASE": f"chaos-{key}",
        "VOLTSCREEN_MONGO_URI": state.uri,
        "VOLTSCREEN_CONNECT_TIMEOUT": "1",
    }
    config = load_settings(home=made.home, mongo_uri=state.uri, database=f"chaos-{key}")
    with connect(config) as store, contextlib.closing(open_launchpad(config)) as launchpad:
        try:
            yield Campaign(scene, store, launchpad, variables, pool)
        finally:
            store.database.client.drop_database(store.database.name)
            pool.unlink()


def end(child: BaseProcess, patience: float = PATIENCE) -> int | None:
    """Wait for the end of a process, and no longer than that; its exit code."""
    begun = time.monotonic()
    child.join(patience)
    if child.exitcode is None:
        child.kill()
        raise TimeoutError(f"a process did not end within {time.monotonic() - begun:.0f} s")
    return child.exitcode
