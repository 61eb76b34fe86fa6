"""Many structures with one in a hundred of each kind of bad one: what is mixed in is counted out.

    python benchmarks/bad_structures.py --count 100000

A campaign over a Parquet table on the embedded database, with the smallest model; its report must
name every kind with the number that was mixed in, and predict all others.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

KINDS: dict[str, Callable[[dict[str, Any]], None]] = {
    "non-finite number": lambda row: row.update(frac_coords=[float("nan")] * 6),
    "cell with no room": lambda row: row.update(lattice=[4.0, 0, 0, 4, 0, 0, 0, 0, 4]),
    "empty structure": lambda row: row.update(atomic_numbers=[], frac_coords=[]),
    "too many atoms": lambda row: row.update(
        atomic_numbers=[8] * 5000, frac_coords=np.zeros(15000).tolist()
    ),
    "overlapping atoms": lambda row: row.update(frac_coords=[0.0] * 6),
    "unknown element": lambda row: row.update(atomic_numbers=[25, 119]),
    "radioactive element": lambda row: row.update(atomic_numbers=[43, 8]),
    "isolated atom": lambda row: row.update(
        lattice=(np.diag([40.0 + row["n"] / 1000, 40, 40])).ravel().tolist()
    ),
    "cell too long": lambda row: row.update(lattice=(np.diag([1e5, 1e5, 1e5])).ravel().tolist()),
    "not a crystal's arrays": lambda row: row.update(lattice=[4.0, 0, 0]),
}


def table(count: int) -> tuple[pd.DataFrame, int]:
    """Rows of distinct two-atom crystals, and how many there are of each bad kind."""
    each = count // 100
    rng = np.random.default_rng(0)
    rows = []
    for n in range(count):
        length = 4.0 + 2e-3 * (n % 1000) + np.array([0, 2e-3 * (n // 1000), 0])
        rows.append(
            {
                "id": f"s-{n}",
                "n": n,
                "lattice": np.diag(length).ravel().tolist(),
                "atomic_numbers": [25, 8],
                "frac_coords": [0.0, 0, 0, 0.5, 0.5, 0.5],
            }
        )
    for index, n in enumerate(rng.choice(count, each * len(KINDS), replace=False)):
        list(KINDS.values())[index // each](rows[n])
    return pd.DataFrame(rows).drop(columns="n"), each


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        return run(Path(folder), options.count)


def run(folder: Path, count: int) -> int:
    import os

    os.environ |= {"VOLTSCREEN_HOME": str(folder / "home")}
    os.environ.pop("VOLTSCREEN_MONGO_URI", None)
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from tests.model.helpers import small_model
    from voltscreen.campaign import control
    from voltscreen.campaign.launchpad import open_launchpad
    from voltscreen.campaign.report import campaign_report
    from voltscreen.campaign.spec import parse_spec
    from voltscreen.graph import INSERTION
    from voltscreen.model.files import save_model
    from voltscreen.store import connect, embedded

    begun = time.monotonic()
    rows, each = table(count)
    rows.to_parquet(folder / "mixed.parquet")
    home = folder / "home"
    save_model(small_model(spec=INSERTION), home / "models" / "small.safetensors")
    spec = parse_spec(
        {
            "name": "mixed", "ions": ["Mg"], "model": "small",
            "source": {"parquet": str(folder / "mixed.parquet")},
            "batch": {"max_atoms": 20_000},
        }
    )  # fmt: skip
    try:
        with connect() as store:
            launchpad = open_launchpad()
            control.submit(store, launchpad, spec)
            launchpad.close()
            # A process of its own, so that its memory is a worker's.
            worker = [sys.executable, "-m", "voltscreen", "worker", "--campaign", "mixed"]
            subprocess.run([*worker, "--quiet"], check=True)
            report = campaign_report(store, "mixed")
            ok = store.voltages.count_documents({"status": "ok"})
            batches = list(store.batches.find({"kind": "predict"}).sort("number", 1))
            memory = [batch["attempts"][0]["peak_memory"] for batch in batches]
    finally:
        embedded.stop(home)
    found = {failure.kind: failure.count for failure in report.failures}
    print(f"{'kind':<26} {'mixed in':>9} {'counted':>9}")
    for kind in KINDS:
        print(f"{kind:<26} {each:>9} {found.get(kind, 0):>9}")
    good = count - each * len(KINDS)
    print(f"{'predicted':<26} {good:>9} {ok:>9}")
    tenth = memory[len(memory) // 10]
    print(
        f"peak memory of the worker: {tenth:.0f} MiB after a tenth of {len(memory)} batches, "
        f"{memory[-1]:.0f} MiB after the last; {time.monotonic() - begun:.0f} s"
    )
    return 0 if found == dict.fromkeys(KINDS, each) and ok == good else 1


if __name__ == "__main__":
    sys.exit(main())
