"""Voltages by CHGNet's energies of both ends as DFT relaxed them, of electrodes drawn at random.

    python benchmarks/both_ends.py --data ../shared/data --count 400

writes training/both-ends-electrodes.csv, which `voltscreen refine train` sets beside its tiers.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

from voltscreen.potentials.chgnet import ChgnetPotential
from voltscreen.train.both_ends import BOTH_ENDS, compute_both_ends
from voltscreen.train.dataset import load_electrodes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--count", type=int, default=400)
    parser.add_argument("--output", type=Path, default=Path("training") / BOTH_ENDS)
    options = parser.parse_args()
    data = load_electrodes(options.data)
    rows = compute_both_ends(data, options.data, ChgnetPotential("cpu"), options.count)
    table = pd.DataFrame(rows, columns=["row_id", "voltage"])
    table.to_csv(options.output, index=False, float_format="%.4f")
    labels = dict(zip(data.row_id, data.voltage, strict=True))
    errors = [abs(voltage - labels[name]) for name, voltage in rows]
    print(f"{len(rows)} electrodes: mean absolute error {sum(errors) / len(errors):.3f} V")


if __name__ == "__main__":
    main()
