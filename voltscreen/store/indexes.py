"""The indexes: one for every documented query."""

from __future__ import annotations

from typing import Any

from pymongo import ASCENDING, IndexModel
from pymongo.database import Database


def _index(*keys: str) -> IndexModel:
    return IndexModel([(key, ASCENDING) for key in keys])


INDEXES: dict[str, list[IndexModel]] = {
    # by what people call a structure; by chemistry
    "structures": [
        _index("sources.id"),
        _index("sources.aliases"),
        _index("formula"),
        _index("chemsys"),
        _index("elements"),
        _index("measured.ion"),
    ],
    # known voltages by ion, and of a structure by its ids
    "electrodes": [_index("ion"), _index("charged_id"), _index("discharged_id")],
    "campaigns": [_index("state")],
    # a campaign's progress and members
    "batches": [_index("campaign", "number")],
    "job_arrays": [_index("campaign")],
    "voltages": [
        _index("structure_id"),
        _index("model_id", "status"),
        _index("formula"),
        _index("chemsys"),
        _index("elements"),
    ],
    # the sites of a campaign or of a structure; elements are looked for among a campaign's
    "environments": [_index("campaigns", "ion"), _index("structure_id", "ion")],
    # a ranking by rank, voltage or formula; other questions go to its columns
    "rankings": [
        _index("campaign", "ion", "rank"),
        _index("campaign", "ion", "voltage"),
        _index("campaign", "ion", "formula"),
        _index("structure_id"),
    ],
    "ranking_columns": [_index("campaign", "ion")],
    "models": [_index("name")],
    "refinements": [_index("structure_id", "ion")],
    # of a host; of a campaign; what a structure came from
    "substitutions": [
        _index("parent", "ion"),
        _index("campaign", "ion"),
        _index("structure_id", "ion"),
    ],
}


def ensure_indexes(database: Database[dict[str, Any]]) -> None:
    """Create what is missing; a few milliseconds when nothing is.

    Raises:
        pymongo.errors.PyMongoError: the server is unreachable or refuses.
    """
    for collection, indexes in INDEXES.items():
        database[collection].create_indexes(indexes)


def missing_indexes(database: Database[dict[str, Any]]) -> list[str]:
    """Names of indexes that are documented and absent, as `collection.index`."""
    missing = []
    for collection, indexes in INDEXES.items():
        present = set(database[collection].index_information())
        wanted = [str(index.document["name"]) for index in indexes]
        missing += [f"{collection}.{name}" for name in wanted if name not in present]
    return missing
