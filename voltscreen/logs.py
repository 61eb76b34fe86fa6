"""Logs as lines of JSON, each with the campaign, the batch and the job that it is about.

A worker writes one file of its own below the folder of the settings: `grep` and `jq` find a
campaign's or a batch's lines over all of them. Secrets are masked.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
from collections.abc import Iterator
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path

from voltscreen.masking import mask

LOGGER = "voltscreen"
KEPT_FILES = 200
"""Older ones are deleted when a worker begins another."""
_ABOUT: ContextVar[dict[str, str | int]] = ContextVar("about")


@contextlib.contextmanager
def about(**what: str | int | None) -> Iterator[None]:
    """What the lines of this block are about: campaign, batch, fw_id, job, stage."""
    now = _ABOUT.get({})
    token = _ABOUT.set(now | {key: value for key, value in what.items() if value is not None})
    try:
        yield
    finally:
        _ABOUT.reset(token)


def log(event: str, *, level: int = logging.INFO, **fields: object) -> None:
    """One line: an event in a few words, and numbers."""
    logging.getLogger(LOGGER).log(level, event, extra={"fields": fields})


class JsonLines(logging.Formatter):
    """A record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Time, level, event, process, what it is about, its fields; a traceback in `trace`."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            "host": socket.gethostname(),
            "pid": record.process,
            **_ABOUT.get({}),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return mask(json.dumps(line, default=str, ensure_ascii=False))


@contextlib.contextmanager
def log_to(folder: Path) -> Iterator[Path | None]:
    """Write the lines of this process to a file of its own in that folder.

    A folder that cannot be written to costs the log, not the work: the path is None then.
    """
    try:
        path = _new_file(folder)
        handler = logging.FileHandler(path, encoding="utf-8")
    except OSError:
        yield None
        return
    handler.setFormatter(JsonLines())
    logger = logging.getLogger(LOGGER)
    former = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield path
    finally:
        logger.removeHandler(handler)
        logger.level, logger.propagate = former
        handler.close()


def _new_file(folder: Path) -> Path:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    others = sorted(folder.glob("worker-*.jsonl"), key=lambda path: path.stat().st_mtime)
    for path in others[: -KEPT_FILES or None] if len(others) > KEPT_FILES else []:
        path.unlink(missing_ok=True)
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    path = folder / f"worker-{stamp}-{socket.gethostname()}-{os.getpid()}.jsonl"
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
    return path
