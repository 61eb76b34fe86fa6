"""Training data from the Materials Project, with a progress bar."""

from __future__ import annotations

from pathlib import Path

from voltscreen.cli.output import say


def fetch_electrodes(labels: Path | None, pool_folder: Path) -> Path:
    """Fetch the electrodes and their hosts into the voltscreen home.

    Args:
        labels: folder of insertion labels whose pool hosts are wanted too. pool_folder: where
        `mp_pool.parquet` with their structures is written.

    Returns:
        The folder for `write_dataset`.
    """
    from tqdm import tqdm

    from voltscreen.cli.training import POOL_FILE
    from voltscreen.settings import settings
    from voltscreen.sources.mp import MPClient
    from voltscreen.sources.mp.download import (
        download_electrodes,
        download_structures,
        write_pool,
    )

    pool_ids = [] if labels is None else _pool_hosts(labels)
    with MPClient(say=say) as client, tqdm(unit=" structures", disable=None) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        folder = download_electrodes(client, settings().home / "materials-project", progress)
        if labels is not None:
            lines = folder / "pool.jsonl"
            missing = download_structures(client, pool_ids, lines, progress)
    say(f"Electrodes of the Materials Project, release {folder.name}: {folder}")
    if labels is not None:
        pool_folder.mkdir(parents=True, exist_ok=True)
        written = write_pool(lines, pool_folder / POOL_FILE)
        say(f"Wrote {written} pool hosts to {pool_folder / POOL_FILE}")
        if missing:
            say(
                f"The Materials Project no longer serves {len(missing)} of them "
                f"({', '.join(missing[:5])}): training needs labels without these."
            )
    return folder


def _pool_hosts(labels: Path) -> list[str]:
    import pandas as pd

    from voltscreen.errors import FileFormatError

    file = labels / "insertion-labels-pool.parquet"
    try:
        hosts = pd.read_parquet(file, columns=["host_id", "error"])
    except (OSError, KeyError, ValueError) as error:
        raise FileFormatError(f"cannot read insertion labels from {file}: {error}") from None
    return [str(each) for each in hosts["host_id"][hosts["error"].isna()]]
