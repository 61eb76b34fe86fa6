"""Documents of older voltscreens brought forward, one schema version after the other.

Older documents stay readable as they are; a migration lets queries find in them what newer ones
have. It can be cut off and run again: a document carries its version.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

from pymongo import UpdateOne
from pymongo.database import Database

from voltscreen.store.documents import DOCUMENTS, SCHEMA_VERSION

Row = dict[str, Any]
Step = Callable[[Row], Row]
"""Fields of a document of the version before that change, with their new values."""

_CHUNK = 500


def _kinds_first(row: Row) -> Row:
    """To version 2: the reason of a failure begins with its kind, so that kinds can be counted."""
    changes: Row = {}
    for field in ("refused", "reason"):
        if isinstance(row.get(field), str):
            changes[field] = _kind_first(row[field])
    for ion, values in row.get("ions", {}).items():
        if isinstance(values, dict) and isinstance(values.get("error"), str):
            changes[f"ions.{ion}.error"] = _kind_first(values["error"])
    return {key: value for key, value in changes.items() if value is not None}


_FORMER = (
    (r"the cell has no room: (.*)", r"cell with no room: \1"),
    (r"a cell vector is longer than (.*)", r"cell too long: a cell vector is longer than \1"),
    (r"non-finite number in (.*)", r"non-finite number: in \1"),
    (r"(\d+ atomic numbers but .*)", r"not a crystal's arrays: \1"),
    (
        r"the model has no node features for (.*)",
        r"unknown element: the model has no node features for \1",
    ),
    (r"(\S.*) is not a readable structure: (.*)", r"not a readable structure: \1: \2"),
    (r"(\S.*): (\d+ MB is more than one structure.*)", r"file too large: \1: \2"),
    (r"the Materials Project gives no structure.*", "no structure: the Materials Project has none"),
)


def _kind_first(reason: str) -> str | None:
    """The reason as it is put now; None where it has not changed."""
    for pattern, new in _FORMER:
        if re.fullmatch(pattern, reason, flags=re.DOTALL):
            return re.sub(pattern, new, reason, flags=re.DOTALL)
    return None


STEPS: dict[int, dict[str, Step]] = {
    2: {"structures": _kinds_first, "voltages": _kinds_first},
}
"""By the version that they lead to, and collection."""


def outdated(database: Database[Row]) -> dict[str, int]:
    """Documents of older versions, by collection."""
    counts = {
        each.collection: database[each.collection].count_documents(_OLD) for each in DOCUMENTS
    }
    return {name: count for name, count in counts.items() if count}


_OLD = {"schema_version": {"$lt": SCHEMA_VERSION}}


def migrate(database: Database[Row], collections: Iterable[str] | None = None) -> dict[str, int]:
    """Bring documents of older versions forward; number by collection.

    Args:
        collections: all when None.
    """
    names = [each.collection for each in DOCUMENTS]
    moved: dict[str, int] = {}
    for name in names if collections is None else collections:
        after: Row = {}
        while rows := list(
            database[name]
            .find({**_OLD, **after}, {"schema_version": 1})
            .sort("_id", 1)
            .limit(_CHUNK)
        ):
            updates = [_update(database, name, row) for row in rows]
            database[name].bulk_write(updates, ordered=False)
            moved[name] = moved.get(name, 0) + len(rows)
            after = {"_id": {"$gt": rows[-1]["_id"]}}
    return moved


def _update(database: Database[Row], name: str, stub: Row) -> UpdateOne:
    version = int(stub["schema_version"])
    steps = [STEPS.get(v, {}).get(name) for v in range(version + 1, SCHEMA_VERSION + 1)]
    changes: Row = {}
    if any(steps):
        row = database[name].find_one({"_id": stub["_id"]}) or {}
        for step in steps:
            if step is not None:
                changes |= step(row)
    # Not over a document that somebody has written anew meanwhile.
    same = {"_id": stub["_id"], "schema_version": version}
    return UpdateOne(same, {"$set": {**changes, "schema_version": SCHEMA_VERSION}})
