"""MongoDB: connection, embedded server, documents, indexes and queries."""

from voltscreen.store.connection import Store, connect
from voltscreen.store.queries import get_campaign, get_voltages, query_page, query_results
from voltscreen.store.result_query import (
    SORT_KEYS,
    ResultFilters,
    ResultPage,
    ResultQuery,
    ResultRow,
)
from voltscreen.store.structures import get_structure, load_structures, unpack

__all__ = [
    "SORT_KEYS",
    "ResultFilters",
    "ResultPage",
    "ResultQuery",
    "ResultRow",
    "Store",
    "connect",
    "get_campaign",
    "get_structure",
    "get_voltages",
    "load_structures",
    "query_page",
    "query_results",
    "unpack",
]
