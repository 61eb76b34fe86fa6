"""What a cluster does to a campaign, on the real SLURM of slurm/test_cluster: a table.

    python benchmarks/slurm_faults.py [--pool FILE] [--structures N]

For each fault a campaign of six batches is worked by a job; the fault comes while the worker is in
the middle of a batch. Then `voltscreen slurm submit --until-done` is called, as a person would who
comes back. Time to recover is from the fault until the campaign is ranked. The voltages must equal
those of an undisturbed run to the last bit, none missing, none double.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.cluster.cluster import Cluster, up_cluster, why_not
from tests.cluster.faults import all_faults

POOL = Path(__file__).resolve().parents[2] / "shared" / "data" / "mp_pool.parquet"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pool", type=Path, default=POOL, help="Parquet table of structures")
    parser.add_argument("--structures", type=int, default=300)
    parser.add_argument("--only", help="name of one fault")
    arguments = parser.parse_args()
    if reason := why_not():
        raise SystemExit(reason)
    cluster, started = up_cluster()
    os.environ.update(cluster.environment)
    try:
        with tempfile.TemporaryDirectory(prefix="voltscreen-faults-") as folder:
            measure(cluster, Path(folder), arguments)
    finally:
        if started:
            cluster.down()


def measure(cluster: Cluster, folder: Path, arguments: argparse.Namespace) -> None:
    print("| fault | observed | recovered after | voltages |\n|---|---|---|---|", flush=True)
    for outcome in all_faults(
        cluster, folder, arguments.pool, arguments.structures, arguments.only
    ):
        same = "; ".join(outcome.problems) or "the same"
        print(
            f"| {outcome.fault} | {outcome.observed} | {outcome.seconds:.0f} s | {same} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
