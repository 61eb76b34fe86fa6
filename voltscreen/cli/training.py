"""What the commands that train or judge models share: their files, and a progress bar."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Self

import typer

from voltscreen.cli.output import say

if TYPE_CHECKING:
    from voltscreen.train.parts import Step
    from voltscreen.train.recipe import TrainingRun

POOL_FILE = "mp_pool.parquet"
EPOCHS_PER_LINE = 5
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
PretrainedOption = Annotated[
    Path | None,
    typer.Option(
        "--pretrained",
        help="Start from these networks, e.g. LABELS/pretrained.safetensors, instead of "
        "pre-training: no pool is needed.",
    ),
]
WorkersOption = Annotated[int, typer.Option("--workers", min=1, help="Processes, one core each.")]


def training_run(
    data: Path, labels: Path, pool: Path | None, pretrained: Path | None, workers: int
) -> TrainingRun:
    """Everything that training needs, read from its files."""
    from voltscreen.errors import VoltscreenError
    from voltscreen.settings import settings
    from voltscreen.train.dataset import load_electrodes
    from voltscreen.train.pretrained import load_pretrained
    from voltscreen.train.recipe import TrainingRun
    from voltscreen.train.training_hosts import load_training_hosts

    if pool and pretrained:
        raise VoltscreenError("give --pool to pre-train or --pretrained to start from, not both")
    start = load_pretrained(pretrained) if pretrained else None
    electrodes = load_electrodes(data)
    if start is None:
        pool = pool or (data if data.is_dir() else data.parent) / POOL_FILE
    hosts = load_training_hosts(electrodes, labels, pool)
    if start is None and not len(hosts.strange):
        raise VoltscreenError(
            f"the labels in {labels} are of no pool host whose chemical system the electrodes "
            "lack: choose some with `voltscreen refine hosts`, or give --pretrained"
        )
    folder = settings().home / "training"
    return TrainingRun(electrodes, hosts, folder, workers, pretrained=start)


class PartsBar:
    """A progress bar over parts; a line a part where standard error is no terminal."""

    def __enter__(self) -> Self:
        from tqdm import tqdm

        self._bar = tqdm(disable=None, unit="part")
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def update(self, step: Step) -> None:
        """One more part is done, or one more epoch of a part."""
        if step.epoch:
            what = f"{step.part} epoch {step.epoch} of {step.epochs}, loss {step.loss:.3f}"
            self._bar.set_description(what)
            if self._bar.disable and step.epoch % EPOCHS_PER_LINE == 0:
                say(what)
            return
        self._bar.total = step.total
        self._bar.set_description(step.part)
        self._bar.update(step.done - self._bar.n)
        if self._bar.disable:
            say(f"{step.part} done, {step.done} of {step.total}")
