"""Many structures with one in a hundred of each kind of bad one: what is mixed in is counted out.

    python benchmarks/bad_structures.py --count 100000

A campaign over a Parquet table and a folder of CIF files, on the embedded database, with a small
model; its report must name every kind with the number that was mixed in, and predict all others,
and the command must end with exit code 1.
"""

from __future__ import annotations

import argparse
import os
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


CIF = """data_x
_cell_length_a {length}
_cell_length_b 5
_cell_length_c 5
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
{metal} {metal} 0 0 0 {occupancy}
O O 0.5 0.5 0.5 1
"""


def _cif(n: int, metal: str = "Mn", occupancy: float = 1.0) -> str:
    return CIF.format(length=4.0 + n / 1000, metal=metal, occupancy=occupancy)


FILES: dict[str, tuple[str, Callable[[int], bytes]]] = {
    "wrong syntax": ("not a readable structure", lambda n: _cif(n).replace("4.", "a").encode()),
    "cut off": ("not a readable structure", lambda n: _cif(n).encode()[: -2 - n % 15]),
    "UTF-16": ("not a readable structure", lambda n: _cif(n).encode("utf-16")),
    "partial occupancy": ("disordered structure", lambda n: _cif(n, occupancy=0.5).encode()),
    "deuterium": ("deuterium", lambda n: _cif(n, metal="D").encode()),
    "huge": ("file too large", lambda _: b""),
    # A stray byte in a comment changes no number: these are predicted.
    "Latin-1": ("", lambda n: ("# Universit\u00e9\n" + _cif(n)).encode("latin-1")),
}
"""By what is wrong with a CIF file: the kind that is counted, and the file's bytes."""
HUGE = 3_000_000_000
"""Bytes, of which the disk holds none."""


def write_files(folder: Path, each: int) -> None:
    """So many CIF files of every kind."""
    folder.mkdir()
    for name, (_, made) in FILES.items():
        for n in range(each):
            path = folder / f"{name.replace(' ', '-')}-{n}.cif"
            with path.open("wb") as file:
                file.write(made(n))
                if name == "huge":
                    file.truncate(HUGE)


def expected(each: int) -> dict[str, int]:
    """By kind of reason, how many structures must fail."""
    kinds = [*KINDS, *(kind for kind, _ in FILES.values() if kind)]
    return {kind: each * kinds.count(kind) for kind in kinds}


def table(count: int, each: int) -> pd.DataFrame:
    """Rows of distinct two-atom crystals, with so many of each bad kind."""
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
    return pd.DataFrame(rows).drop(columns="n")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        return run(Path(folder), options.count)


def mixture(folder: Path, count: int) -> tuple[dict[str, Any], dict[str, int]]:
    """Write so many structures; the spec of a campaign over them, and what must fail by kind."""
    each = count // 100
    table(count - each * len(FILES), each).to_parquet(folder / "mixed.parquet")
    write_files(folder / "cifs", each)
    source = {
        "parquet": str(folder / "mixed.parquet"),
        "files": str(folder / "cifs" / "*.cif"),
    }
    spec = {
        "name": "mixed", "ions": ["Mg"], "model": "small", "source": source,
        "batch": {"max_atoms": 20_000},
    }  # fmt: skip
    return spec, expected(each)


def run(folder: Path, count: int) -> int:
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
    spec, wanted = mixture(folder, count)
    home = folder / "home"
    save_model(small_model(spec=INSERTION), home / "models" / "small.safetensors")
    try:
        with connect() as store:
            launchpad = open_launchpad()
            control.submit(store, launchpad, parse_spec(spec))
            launchpad.close()
            # Workers are processes of their own, so that their memory is a worker's.
            work = [sys.executable, "-m", "voltscreen", "campaign", "run", "mixed"]
            code = subprocess.run(work, stderr=subprocess.DEVNULL, check=False).returncode
            report = campaign_report(store, "mixed")
            ok = store.voltages.count_documents({"status": "ok"})
            batches = list(store.batches.find({"kind": "predict"}).sort("number", 1))
            memory = [batch["attempts"][0]["peak_memory"] for batch in batches]
    finally:
        embedded.stop(home)
    found = {failure.kind: failure.count for failure in report.failures}
    print(f"{'kind':<26} {'mixed in':>9} {'counted':>9}")
    for kind in {**wanted, **found}:
        print(f"{kind:<26} {wanted.get(kind, 0):>9} {found.get(kind, 0):>9}")
    good = count - sum(wanted.values())
    print(f"{'predicted':<26} {good:>9} {ok:>9}")
    tenth = memory[len(memory) // 10]
    print(
        f"peak memory of the worker: {tenth:.0f} MiB after a tenth of {len(memory)} batches, "
        f"{memory[-1]:.0f} MiB after the last; exit code {code}; {time.monotonic() - begun:.0f} s"
    )
    return 0 if found == wanted and ok == good and code == 1 else 1


if __name__ == "__main__":
    sys.exit(main())
