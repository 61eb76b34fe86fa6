"""A campaign of ten million structures, simulated from measured rates.

    python benchmarks/ten_million.py [--structures N] [--node-rate R] [--csv FILE]

The stages overlap, so the slowest resource decides: the nodes that predict, the one database that
they read from and write to, or the FireWorks that hand out batches. Every rate is an argument; the
defaults marked `measured` come from benchmarks/stages.py and benchmarks/whole_pool.py, an
`estimate` from a few single calls, and those marked `assumed` have not been measured.
"""

from __future__ import annotations

import argparse
import csv
import sys
from dataclasses import dataclass, fields
from pathlib import Path

NODES = (1, 8, 64)


@dataclass(frozen=True)
class Rates:
    """What the simulation goes by."""

    node_rate: float = 40_000.0  # assumed: structures/s of a node with one GPU, docs/ten-million.md
    cpu_rate: float = 670.0  # measured: candidates/s of a core, default model (stages.py)
    node_cores: float = 16.0  # assumed
    ingest_us: float = 480.0  # measured: server CPU a structure, by stage (whole_pool.py)
    predict_us: float = 950.0  # measured likewise
    rank_us: float = 240.0  # measured likewise
    server_cores: float = 1.0  # assumed: what a server uses in parallel
    document_bytes: float = 4_900.0  # estimate: a voltages document in BSON, mean of 200
    packed_bytes: float = 1_300.0  # estimate: a structure document in BSON, likewise
    network_bytes: float = 1.25e9  # assumed: 10 Gbit/s at the server
    firework_s: float = 0.5  # estimate: handing out and closing one Firework
    batch_structures: float = 20_000.0  # the plan below


def seconds(structures: float, nodes: int, rates: Rates, *, gpu: bool) -> dict[str, float]:
    """Seconds of each resource, were it alone."""
    rate = rates.node_rate if gpu else rates.cpu_rate * rates.node_cores
    batches = structures / rates.batch_structures
    server = 1e-6 * (rates.ingest_us + rates.predict_us + rates.rank_us) / rates.server_cores
    traffic = (rates.document_bytes + rates.packed_bytes) / rates.network_bytes
    return {
        "predict": structures / (rate * nodes),
        "database": structures * server,
        "network": structures * traffic,
        # One lock on the workflow: batches are handed out one after another.
        "fireworks": batches * rates.firework_s,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--structures", type=float, default=1e7)
    parser.add_argument("--csv", type=Path, default=None)
    for item in fields(Rates):
        parser.add_argument(f"--{item.name.replace('_', '-')}", type=float, default=item.default)
    arguments = parser.parse_args()
    rates = Rates(**{item.name: getattr(arguments, item.name) for item in fields(Rates)})
    rows: list[dict[str, object]] = []
    for gpu in (False, True):
        for nodes in NODES:
            parts = seconds(arguments.structures, nodes, rates, gpu=gpu)
            slowest = max(parts, key=lambda name: parts[name])
            rows.append(
                {"nodes": nodes, "with": "GPU" if gpu else f"{rates.node_cores:.0f} cores"}
                | {name: round(value) for name, value in parts.items()}
                | {"wall": round(parts[slowest]), "breaks first": slowest}
            )
    size = arguments.structures * rates.document_bytes / 1e9
    print(
        f"{arguments.structures:,.0f} structures, {rates.batch_structures:,.0f} a batch, "
        f"{size:,.0f} GB of voltages; seconds of each resource"
    )
    print("  ".join(f"{name:>12}" for name in rows[0]))
    for row in rows:
        print("  ".join(f"{value:>12}" for value in row.values()))
    hours = float(str(rows[0]["database"])) / 3600
    print(f"Shards for which the database takes an hour: {max(1, -(-hours // 1)):.0f}")
    if arguments.csv:
        with arguments.csv.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
