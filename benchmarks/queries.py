"""Queries of a large finished campaign: how long they take, and that none scans a collection.

    python benchmarks/queries.py [--rows 150000] [--csv FILE]

Fills an embedded database of its own with a ranking of that many made-up candidates (as
benchmarks/web.py does), asks what `voltscreen results query` can ask, and lets the server explain
its plan of every find that docs/mongodb.md shows. Exit code 1 where one scans a collection.
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from web import fill

QUERIES: dict[str, dict[str, Any]] = {
    "best 100": {},
    "voltage window": {"min_voltage": 2.0, "max_voltage": 3.0},
    "elements": {"elements": ("Mn", "O")},
    "without elements": {"exclude_elements": ("Pb", "Hg")},
    "formula": {"formula": "MnO2"},
    "Pareto front": {"pareto": True},
    "window, without elements": {"min_voltage": 1.5, "exclude_elements": ("Pb",)},
}
FINDS: list[tuple[str, dict[str, Any]]] = [
    ("rankings", {"campaign": "bench", "ion": "Mg", "rank": {"$lte": 100}}),
    ("rankings", {"campaign": "bench", "ion": "Mg", "voltage": {"$gte": 2, "$lte": 3}}),
    ("rankings", {"campaign": "bench", "ion": "Mg", "formula": "MnO2"}),
    ("rankings", {"structure_id": "x"}),
    ("structures", {"_id": "x"}),
    ("structures", {"sources.id": "mp-149"}),
    ("structures", {"formula": "MnO2"}),
    ("structures", {"chemsys": "Mn-O"}),
    ("structures", {"elements": "Mn"}),
    ("voltages", {"structure_id": "x"}),
    ("voltages", {"model_id": "x", "status": "failed"}),
    ("voltages", {"chemsys": "Mn-O"}),
    ("batches", {"campaign": "bench"}),
    ("campaigns", {"state": "done"}),
]


def measure(repeats: int) -> tuple[list[dict[str, object]], int]:
    """A row for every query, and how many finds scan a collection."""
    from voltscreen.store import ResultQuery, connect, query_results

    rows: list[dict[str, object]] = []
    scans = 0
    with connect() as store:
        for name, fields in QUERIES.items():
            query = ResultQuery(campaign="bench", ion="Mg", top=100, **fields)
            taken = []
            for _ in range(repeats):
                start = time.perf_counter()
                query_results(store, query)
                taken.append(1000 * (time.perf_counter() - start))
            rows.append({"query": name, "ms": round(min(taken), 1), "plan": ""})
        for collection, wanted in FINDS:
            start = time.perf_counter()
            cursor = store.database[collection].find(wanted).limit(100)
            list(cursor)
            taken_ms = 1000 * (time.perf_counter() - start)
            plan = str(store.database[collection].find(wanted).explain()["queryPlanner"])
            scan = "COLLSCAN" in plan
            scans += scan
            rows.append(
                {
                    "query": f"{collection}: {', '.join(wanted)}",
                    "ms": round(taken_ms, 1),
                    "plan": "SCANS THE COLLECTION" if scan else "index",
                }
            )
    return rows, scans


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=150_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--csv", type=Path, default=None)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="voltscreen-queries-") as home:
        os.environ["VOLTSCREEN_HOME"] = home
        from voltscreen.store import embedded

        try:
            fill(arguments.rows)
            rows, scans = measure(arguments.repeats)
        finally:
            embedded.stop(Path(home))
    print(f"{arguments.rows:,} candidates of one ion; best of {arguments.repeats}, 100 rows each")
    for row in rows:
        print(f"{row['query']!s:<48}{row['ms']:>9} ms  {row['plan']}")
    if arguments.csv:
        with arguments.csv.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    return 1 if scans else 0


if __name__ == "__main__":
    sys.exit(main())
