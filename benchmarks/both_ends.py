"""Voltages by CHGNet's energies of both known ends, of electrodes drawn at random.

    python benchmarks/both_ends.py --count 150               # as DFT relaxed them
    python benchmarks/both_ends.py --count 150 --relaxed     # as CHGNet relaxes them

Each writes a table in training/, row by row, which `voltscreen refine train` sets beside its
tiers; run again it goes on where it was. What cannot be computed keeps an empty voltage.
"""

from __future__ import annotations

import argparse
import csv
import time
from pathlib import Path

import numpy as np

from voltscreen.errors import StructureError
from voltscreen.potentials.chgnet import ChgnetPotential
from voltscreen.train.both_ends import (
    BOTH_ENDS,
    RELAXED,
    draw_ends,
    ends_voltage,
    read_ends_voltages,
)
from voltscreen.train.dataset import load_electrodes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--count", type=int, default=150)
    parser.add_argument("--relaxed", action="store_true")
    parser.add_argument("--output", type=Path, help="the table, in training/ by default")
    options = parser.parse_args()
    output = options.output or Path("training") / (RELAXED if options.relaxed else BOTH_ENDS)
    data = load_electrodes(options.data)
    done = {row["row_id"] for row in _rows(output)}
    potential = ChgnetPotential("cpu")
    if not output.exists():
        output.write_text("row_id,voltage\n")
    started = time.process_time()
    fresh = 0
    for ends in draw_ends(data, options.data, options.count):
        if ends.row_id in done:
            continue
        try:
            text = f"{ends_voltage(potential, ends, relaxed=options.relaxed):.4f}"
        except StructureError as error:
            print(f"{ends.row_id}: {error}")
            text = ""
        with output.open("a", newline="") as file:
            file.write(f"{ends.row_id},{text}\n")
        fresh += 1
    found = read_ends_voltages(data, output)
    errors = np.abs(found - data.voltage)[np.isfinite(found)]
    print(f"{len(errors)} electrodes: mean absolute error {errors.mean():.3f} V")
    if fresh:
        print(
            f"{fresh} computed now, {(time.process_time() - started) / fresh:.1f} s of a core each"
        )


def _rows(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


if __name__ == "__main__":
    main()
