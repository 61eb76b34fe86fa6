"""A lease: one process at a time does something, whichever machine it is on."""

from __future__ import annotations

import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from pymongo.errors import DuplicateKeyError

from voltscreen.errors import CampaignError
from voltscreen.process import ProcessId
from voltscreen.store.connection import Row, Store
from voltscreen.store.documents import now

POLL_SECONDS = 0.1


@contextmanager
def lease(store: Store, name: str, seconds: float = 120.0, wait: float = 300.0) -> Iterator[None]:
    """Hold a lease by name; it ends by itself when the holder dies.

    Args:
        name: what it is for, such as `submit oxides`.
        seconds: after so long other machines take the holder for dead; this one asks its process.
        wait: longest time to wait for it.

    Raises:
        CampaignError: somebody else held it all the time.
    """
    leases = store.database["leases"]
    mark = uuid.uuid4().hex
    deadline = time.monotonic() + wait
    while not _take(store, name, mark, seconds):
        if time.monotonic() > deadline:
            held = leases.find_one({"_id": name}) or {}
            raise CampaignError(
                f"{name!r} is under way in process {held.get('pid')} on {held.get('host')}: wait "
                "until that is done, and try again"
            )
        time.sleep(POLL_SECONDS)
    try:
        yield
    finally:
        leases.delete_one({"_id": name, "mark": mark})


def dead_leases(store: Store) -> Iterator[Row]:
    """Leases whose holder died; whoever wants one of them takes it at once."""
    yield from filter(_is_over, store.database["leases"].find())


def drop_lease(store: Store, row: Row) -> None:
    """Delete a lease unless somebody has taken it since."""
    store.database["leases"].delete_one({"_id": row["_id"], "mark": row["mark"]})


def _take(store: Store, name: str, mark: str, seconds: float) -> bool:
    leases, me = store.database["leases"], ProcessId.current()
    mine = {
        "mark": mark,
        "until": now() + timedelta(seconds=seconds),
        "host": socket.gethostname(),
        "pid": me.pid,
        "started": me.started,
    }
    try:
        leases.insert_one({"_id": name, **mine})
    except DuplicateKeyError:
        held = leases.find_one({"_id": name})
        if held is None or not _is_over(held):
            return False
        # Claims by filter are never doubled.
        same = {"_id": name, "mark": held["mark"]}
        return bool(leases.update_one(same, {"$set": mine}).matched_count)
    return True


def _is_over(held: Row) -> bool:
    if held.get("host") == socket.gethostname():
        return not ProcessId(held["pid"], held["started"]).is_alive()
    return bool(held["until"] < now())
