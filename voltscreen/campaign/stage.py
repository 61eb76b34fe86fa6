"""A stage of a campaign at work: its connection, its log lines, its time and its failure."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pymongo.errors import ConnectionFailure

from voltscreen.campaign.worker_id import WorkerId
from voltscreen.cluster.job import Job
from voltscreen.logs import LOGGER, about, log
from voltscreen.masking import mask
from voltscreen.store import Store, connect
from voltscreen.store.documents import StageRun, now

KEPT_ERRORS = 100
"""Of a campaign; a stage that fails for ever must not fill its document."""


@contextmanager
def stage(fw_spec: dict[str, Any], name: str) -> Iterator[Store]:
    """A connection; what goes wrong is noted with the campaign before it goes on up."""
    job = Job.current()
    campaign, batch = fw_spec["campaign"], fw_spec.get("batch")
    with (
        about(campaign=campaign, batch=batch, stage=name, job=job.name if job else None),
        connect(indexes=name == "ingest") as store,
    ):
        started, clock = now(), time.monotonic()
        log("stage begins")
        try:
            yield store
        except Exception as error:
            logging.getLogger(LOGGER).exception("stage failed")
            if not isinstance(error, ConnectionFailure):
                reason = mask(f"{type(error).__name__}: {error}")
                note = {"stage": name, "batch": batch, "reason": reason, "at": now()}
                store.campaigns.update_one(
                    {"_id": campaign},
                    {"$push": {"errors": {"$each": [note], "$slice": -KEPT_ERRORS}}},
                )
            raise
        seconds = time.monotonic() - clock
        log("stage ends", seconds=round(seconds, 3))
        if batch is None:
            run = StageRun(
                stage=name,
                started_at=started,
                seconds=seconds,
                host=WorkerId.current().host,
                job=job.name if job else None,
            )
            store.campaigns.update_one(
                {"_id": campaign}, {"$push": {"stages": run.model_dump(exclude_none=True)}}
            )
