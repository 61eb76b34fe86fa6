"""Training data from the Materials Project, with a progress bar."""

from __future__ import annotations

from pathlib import Path

from voltscreen.cli.output import say


def fetch_electrodes() -> Path:
    """Fetch the electrodes and their hosts into the voltscreen home.

    Returns:
        The folder for `write_dataset`.
    """
    from tqdm import tqdm

    from voltscreen.settings import settings
    from voltscreen.sources.mp import MPClient
    from voltscreen.sources.mp.download import download_electrodes

    with MPClient(say=say) as client, tqdm(unit=" structures", disable=None) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        folder = download_electrodes(client, settings().home / "materials-project", progress)
    say(f"Electrodes of the Materials Project, release {folder.name}: {folder}")
    return folder
