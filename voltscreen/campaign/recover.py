"""Replay spool files into the database, and end the Fireworks that they finish."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fireworks import FWAction

from voltscreen.campaign.launchpad import VoltscreenLaunchPad
from voltscreen.campaign.spool import SpoolHeader, read_spool, replay, spool_files
from voltscreen.campaign.worker_id import is_exported
from voltscreen.errors import CampaignError, FileFormatError
from voltscreen.store import Store


@dataclass(frozen=True, slots=True)
class Recovered:
    """What became of a spool file.

    new: voltages that the database had not; known: that it had; finished: whether its Firework
    ended by this; refused: why the file was left alone.
    """

    path: Path
    batch: str = ""
    new: int = 0
    known: int = 0
    finished: bool = False
    refused: str | None = None


def recover(store: Store, launchpad: VoltscreenLaunchPad, folder: Path) -> Iterator[Recovered]:
    """Replay the spool files of a folder; doing it again changes nothing.

    Raises:
        CampaignError: there is no such folder.
    """
    if not folder.is_dir():
        raise CampaignError(f"there is no folder {folder}")
    for path in spool_files(folder):
        try:
            spooled = read_spool(path)
        except FileFormatError as error:
            yield Recovered(path, refused=str(error))
            continue
        header = spooled.header
        if store.batches.find_one({"_id": header.batch}, {"_id": 1}) is None:
            reason = f"{path}: the database has no batch {header.batch}; is it another database?"
            yield Recovered(path, header.batch, refused=reason)
            continue
        replayed = replay(store, spooled)
        finished = header.complete and _end_launch(launchpad, header)
        yield Recovered(path, header.batch, replayed.new, replayed.known, finished)


def _end_launch(launchpad: VoltscreenLaunchPad, header: SpoolHeader) -> bool:
    """End the launch that the results are of; False when it has ended, or was taken by another."""
    launch = launchpad.launches.find_one(
        {"fw_id": header.fw_id, "state": "RUNNING"}, sort=[("launch_id", -1)]
    )
    if launch is None:
        return False
    name = launch["fworker"]["name"]
    if name != header.worker and not is_exported(name):
        return False
    launchpad.complete_launch(launch["launch_id"], FWAction(), "COMPLETED")
    return True
