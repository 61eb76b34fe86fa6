"""Labels of many structures by a potential, in batches that survive a crash.

A folder holds a manifest, one Parquet file for each finished batch of hosts, and claims (see
`voltscreen.potentials.claims`) of the batches in hand. Several processes may work in it; a rerun
does the batches that have no file.
"""

from __future__ import annotations

import hashlib
import json
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from voltscreen.errors import FileFormatError, VoltscreenError
from voltscreen.potentials.claims import claim, guarded, holder
from voltscreen.potentials.jobs import Job
from voltscreen.potentials.label_table import (
    PART_PATTERN,
    LabelKind,
    merge_labels,
    read_labels,
    table_of,
    write_labels,
)

if TYPE_CHECKING:
    from voltscreen.potentials.chgnet import ChgnetPotential

__all__ = [
    "LabelFolder",
    "Manifest",
    "label_batch",
    "label_batches",
    "merge_labels",
    "open_folder",
    "read_labels",
    "read_manifest",
]

BATCH_SIZE = 64
LABEL_VERSION = 1
"""Rises when the same host gets other labels than before."""

_MANIFEST = "manifest.json"
_POLL_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a folder of labels holds when it is complete.

    kind: of the labels. hosts: number of structures. host_list: hash of their ids, structures
        and ions, in order.
    ions: all that occur. potential: name and version. batch_size: hosts in a file.
    label_version: rules of the labels.
    """

    kind: str
    hosts: int
    host_list: str
    ions: tuple[str, ...]
    potential: str
    batch_size: int
    label_version: int = LABEL_VERSION


@dataclass(frozen=True, slots=True)
class LabelFolder:
    """A folder whose manifest fits the jobs."""

    path: Path
    manifest: Manifest

    @property
    def n_batches(self) -> int:
        """Number of files when it is complete."""
        return -(-self.manifest.hosts // self.manifest.batch_size)

    def part(self, batch: int) -> Path:
        """File of a finished batch."""
        return self.path / f"labels-{batch:06d}.parquet"

    def jobs_of(self, batch: int, jobs: Sequence[Job]) -> Sequence[Job]:
        """The jobs of a batch."""
        size = self.manifest.batch_size
        return jobs[batch * size : (batch + 1) * size]

    def open_batches(self) -> list[int]:
        """Batches that have no file."""
        done = {path.name for path in self.path.glob(PART_PATTERN)}
        return [batch for batch in range(self.n_batches) if self.part(batch).name not in done]

    def take(self, batch: int) -> bool:
        """Claim a batch; False when it is finished or another process holds it."""
        with guarded(self.path):
            return not self.part(batch).exists() and claim(self._claim(batch))

    def give_back(self, batch: int) -> None:
        """Let go of a claim."""
        self._claim(batch).unlink(missing_ok=True)

    def held_by(self, batch: int) -> str | None:
        """Machine whose process holds a batch; None when nobody does."""
        return holder(self._claim(batch))

    def _claim(self, batch: int) -> Path:
        return self.path / f"labels-{batch:06d}.claim"


def open_folder(
    path: Path, jobs: Sequence[Job], potential: str, batch_size: int = BATCH_SIZE
) -> LabelFolder:
    """A new folder for these jobs, or the one that was begun for them.

    Args:
        potential: name and version.
        batch_size: hosts in a file.

    Raises:
        VoltscreenError: the folder was begun for something else, or a host is listed twice.
    """
    twice = len(jobs) - len({job.name for job in jobs})
    if twice:
        raise VoltscreenError(f"{twice} hosts are listed twice: give each host and ion once")
    wanted = Manifest(
        kind=jobs[0].kind.value,
        hosts=len(jobs),
        host_list=_hash(jobs),
        ions=tuple(sorted({ion for job in jobs for ion in job.ions})),
        potential=potential,
        batch_size=batch_size,
    )
    path.mkdir(parents=True, exist_ok=True)
    with guarded(path):
        if not (path / _MANIFEST).exists():
            unfinished = path / (_MANIFEST + ".part")
            unfinished.write_text(json.dumps(asdict(wanted), indent=2) + "\n")
            unfinished.replace(path / _MANIFEST)
        found = read_manifest(path)
    differing = [
        f"{name} is {getattr(found, name)}, not {value}"
        for name, value in ((name, getattr(wanted, name)) for name in Manifest.__slots__)
        if getattr(found, name) != value
    ]
    if differing:
        raise VoltscreenError(
            f"{path} was begun for other labels ({'; '.join(differing)}): "
            "choose another --output, or give the same options again"
        )
    return LabelFolder(path, wanted)


def read_manifest(path: Path) -> Manifest:
    """What a folder was begun for.

    Raises:
        FileFormatError: no folder of labels.
    """
    try:
        fields = json.loads((path / _MANIFEST).read_text())
        return Manifest(**{**fields, "ions": tuple(fields["ions"])})
    except OSError:
        raise FileFormatError(f"{path} is no folder of labels: it has no {_MANIFEST}") from None
    except (ValueError, TypeError, KeyError) as error:
        raise FileFormatError(f"{path / _MANIFEST} is damaged: {error}") from None


def label_batches(
    potential: ChgnetPotential,
    jobs: Sequence[Job],
    folder: LabelFolder,
    finished: Callable[[int], None] = lambda _: None,
) -> None:
    """Label every batch that is open, until none is left that this machine can do.

    Batches in the hands of other processes of this machine are waited for, and done here if
    those processes end without finishing them.

    Args:
        finished: called with the number of hosts of every batch that was labelled here.
    """
    for batch in _claimed(folder):
        count = label_batch(potential, jobs, folder, batch)
        folder.give_back(batch)
        finished(count)


def label_batch(
    potential: ChgnetPotential, jobs: Sequence[Job], folder: LabelFolder, batch: int
) -> int:
    """Compute the labels of one batch and write its file; the number of its hosts."""
    rows = [job.row(potential) for job in folder.jobs_of(batch, jobs)]
    write_labels(table_of(rows, LabelKind(folder.manifest.kind)), folder.part(batch))
    return len(rows)


def _claimed(folder: LabelFolder) -> Iterator[int]:
    """Batches, each claimed."""
    while waiting := folder.open_batches():
        taken = 0
        for batch in waiting:
            if folder.take(batch):
                taken += 1
                yield batch
        if taken:
            continue
        holders = {folder.held_by(batch) for batch in folder.open_batches()}
        if holders and None not in holders and socket.gethostname() not in holders:
            return
        time.sleep(_POLL_SECONDS)


def _hash(jobs: Sequence[Job]) -> str:
    """32 hex digits."""
    digest = hashlib.blake2b(digest_size=16, person=b"voltscreen-label")
    for job in jobs:
        fields = [*job.name, job.ions, job.structure.to_bytes().hex()]
        digest.update(json.dumps(fields).encode() + b"\n")
    return digest.hexdigest()
