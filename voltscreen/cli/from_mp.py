"""Training data from the Materials Project, with a progress bar."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from voltscreen.cli.output import say

if TYPE_CHECKING:
    import pandas as pd

POOL_LABELS = "insertion-labels-pool.parquet"
ELECTRODE_LABELS = "insertion-labels-electrodes.parquet"
POOL_LINES = "pool.jsonl"


def fetch_electrodes(labels: Path | None, beside: Path) -> Path:
    """Fetch the electrodes and their hosts into the voltscreen home.

    Args:
        labels: folder of insertion labels whose pool hosts are wanted too. beside: folder where
        the structures of these hosts are then written, and the labels that fit them.

    Returns:
        The folder for `write_dataset`.
    """
    from tqdm import tqdm

    from voltscreen.settings import settings
    from voltscreen.sources.mp import MPClient
    from voltscreen.sources.mp.download import download_electrodes, download_structures

    table = None if labels is None else _read(labels / POOL_LABELS)
    with MPClient(say=say) as client, tqdm(unit=" structures", disable=None) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        folder = download_electrodes(client, settings().home / "materials-project", progress)
        if table is not None:
            ids = [str(each) for each in table["host_id"][table["error"].isna()]]
            download_structures(client, ids, folder / POOL_LINES, progress)
    say(f"Electrodes of the Materials Project, release {folder.name}: {folder}")
    if labels is not None and table is not None:
        _write_pool(folder / POOL_LINES, labels, table, beside)
    return folder


def _write_pool(lines: Path, labels: Path, table: pd.DataFrame, beside: Path) -> None:
    """The pool hosts that came, and the labels whose host still has as many atoms as it had."""
    from voltscreen.cli.training import POOL_FILE
    from voltscreen.sources.mp.download import write_pool

    (beside / labels.name).mkdir(parents=True, exist_ok=True)
    counts = write_pool(lines, beside / POOL_FILE)
    fits = [
        sum(n for symbol, n in counts.get(row.host_id, {}).items() if symbol != row.removed)
        == row.n_atoms
        for row in table.itertuples()
    ]
    table[fits].to_parquet(beside / labels.name / POOL_LABELS, index=False)
    shutil.copyfile(labels / ELECTRODE_LABELS, beside / labels.name / ELECTRODE_LABELS)
    lost = sum(1 for ok, error in zip(fits, table["error"], strict=True) if not ok and not error)
    say(f"Wrote {len(counts)} pool hosts to {beside / POOL_FILE}; labels that fit them are in")
    say(f"{beside / labels.name}: {sum(fits)}, without {lost} whose host is gone or has changed.")


def _read(file: Path) -> pd.DataFrame:
    import pandas as pd

    from voltscreen.errors import FileFormatError

    try:
        return pd.read_parquet(file)
    except (OSError, ValueError) as error:
        raise FileFormatError(f"cannot read insertion labels from {file}: {error}") from None
