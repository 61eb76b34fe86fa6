"""A lease: one process at a time does something, whichever machine it is on."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from pymongo.errors import DuplicateKeyError

from voltscreen.errors import DatabaseError
from voltscreen.store.connection import Store
from voltscreen.store.documents import now

POLL_SECONDS = 0.1


@contextmanager
def lease(store: Store, name: str, seconds: float = 120.0, wait: float = 300.0) -> Iterator[None]:
    """Hold a lease by name; it ends by itself when the holder dies.

    Args:
        seconds: longest time that it is held.
        wait: longest time to wait for it.

    Raises:
        DatabaseError: somebody else held it all the time.
    """
    leases = store.database["leases"]
    mark = uuid.uuid4().hex
    deadline = time.monotonic() + wait
    while True:
        mine = {"mark": mark, "until": now() + timedelta(seconds=seconds)}
        try:
            leases.insert_one({"_id": name, **mine})
            break
        except DuplicateKeyError:
            # Claims by filter are never doubled.
            over = leases.update_one({"_id": name, "until": {"$lt": now()}}, {"$set": mine})
            if over.matched_count:
                break
        if time.monotonic() > deadline:
            raise DatabaseError(
                f"another process holds {name!r} for more than {wait:g} s: try later"
            )
        time.sleep(POLL_SECONDS)
    try:
        yield
    finally:
        leases.delete_one({"_id": name, "mark": mark})
