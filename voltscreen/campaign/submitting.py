"""One submit of a campaign at a time: two at once would make two workflows of it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from voltscreen.campaign.worker_id import WorkerId, parse_worker_name, this_machine
from voltscreen.errors import CampaignError
from voltscreen.store import Store
from voltscreen.store.documents import now

WAIT_SECONDS = 15.0
EXPIRES = timedelta(minutes=10)
"""A mark of another machine that is older is a dead process's."""
_POLL = 0.1


@contextmanager
def alone(store: Store, name: str) -> Iterator[None]:
    """Hold the right to submit a campaign that is registered.

    Raises:
        CampaignError: another process has it for longer than a submit takes.
    """
    me = WorkerId.current().name
    deadline = time.monotonic() + WAIT_SECONDS
    while not _take(store, name, me):
        if time.monotonic() > deadline:
            raise CampaignError(
                f"campaign {name!r} is being submitted by another process: wait until that is "
                "done, then see `voltscreen campaign status`"
            )
        time.sleep(_POLL)
    try:
        yield
    finally:
        ours = {"_id": name, "submitting.by": me}
        store.campaigns.update_one(ours, {"$unset": {"submitting": True}})


def _take(store: Store, name: str, me: str) -> bool:
    mark = {"$set": {"submitting": {"by": me, "since": now()}}}
    free = {"_id": name, "submitting": {"$exists": False}}
    if store.campaigns.update_one(free, mark).matched_count:
        return True
    row = store.campaigns.find_one({"_id": name}, {"submitting": 1}) or {}
    held: dict[str, Any] | None = row.get("submitting")
    if held is None or not _is_dead(held):
        return False
    same = {"_id": name, "submitting.by": held["by"], "submitting.since": held["since"]}
    return bool(store.campaigns.update_one(same, mark).matched_count)


def _is_dead(held: dict[str, Any]) -> bool:
    holder = parse_worker_name(held["by"])
    if holder and holder.host == this_machine():
        return not holder.process.is_alive()
    return bool(now() - held["since"] > EXPIRES)
