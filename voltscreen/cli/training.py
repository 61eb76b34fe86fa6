"""What the commands that train or judge models share: their files, and a progress bar."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Self

import typer

from voltscreen.cli.output import say

if TYPE_CHECKING:
    from voltscreen.train.recipe import TrainingRun

POOL_FILE = "mp_pool.parquet"
DEFAULT_DATA = Path("../shared/data")
DEFAULT_LABELS = Path("training")

DataOption = Annotated[
    Path,
    typer.Option(
        "--data",
        envvar="VOLTSCREEN_DATA",
        help="Labelled electrodes: folder with electrodes.csv, electrode_hosts.parquet, "
        "folds.csv, or a training set of `model dataset`.",
    ),
]
LabelsOption = Annotated[
    Path,
    typer.Option("--labels", help="Folder of the insertion labels, made by `refine label`."),
]
PoolOption = Annotated[
    Path | None,
    typer.Option(
        "--pool", help=f"Structures of the labelled pool hosts [default: DATA/{POOL_FILE}]."
    ),
]
WorkersOption = Annotated[int, typer.Option("--workers", min=1, help="Processes, one core each.")]


def training_run(data: Path, labels: Path, pool: Path | None, workers: int) -> TrainingRun:
    """Everything that training needs, read from its files."""
    from voltscreen.settings import settings
    from voltscreen.train.dataset import load_electrodes
    from voltscreen.train.insertion_labels import load_training_hosts
    from voltscreen.train.recipe import TrainingRun

    electrodes = load_electrodes(data)
    folder = data if data.is_dir() else data.parent
    hosts = load_training_hosts(electrodes, labels, pool or folder / POOL_FILE)
    return TrainingRun(electrodes, hosts, settings().home / "training", workers)


class PartsBar:
    """A progress bar over parts; a line a part where standard error is no terminal."""

    def __enter__(self) -> Self:
        from tqdm import tqdm

        self._bar = tqdm(disable=None, unit="part")
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def update(self, part: str, done: int, total: int) -> None:
        """One more part is done."""
        self._bar.total = total
        self._bar.set_description(part)
        self._bar.update(done - self._bar.n)
        if self._bar.disable:
            say(f"{part} done, {done} of {total}")
