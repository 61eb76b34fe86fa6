"""What a check finds, and how it is mended."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from voltscreen.campaign.launchpad import VoltscreenLaunchPad
from voltscreen.store import Store


class Kind(StrEnum):
    """What can be inconsistent."""

    INDEX = "missing index"
    SCHEMA = "old schema version"
    MODEL = "damaged model"
    LEASE = "lease of a dead process"
    LOCK = "locked workflow"
    RESERVED = "reserved without a launch"
    LOST = "lost run"
    ORPHAN = "Firework without a workflow"
    HALF = "workflow without its Fireworks"
    WAITING = "workflow asleep"
    BATCH = "batch without a Firework"
    HOLE = "batch without its voltages"
    LOOSE = "voltages without a batch"


@dataclass(frozen=True)
class Finding:
    """An inconsistency.

    subject: what it is found on; meaning: what it means to a user; repair: what a repair does;
    mend: does it, None where nothing can.
    """

    kind: Kind
    subject: str
    meaning: str
    repair: str
    mend: Callable[[], object] | None = field(repr=False, compare=False)


@dataclass(frozen=True)
class Patient:
    """What is looked at: a database with its LaunchPad, and the home of this machine."""

    store: Store
    launchpad: VoltscreenLaunchPad
    home: Path


Check = Callable[[Patient], Iterator[Finding]]
