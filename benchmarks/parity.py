"""Largest deviation from the original code's predictions, by checkpoint.

Needs the paper's files: checkpoints, element table, the 287 Na CIFs and what the original code
predicts on them. Run: python benchmarks/parity.py [--paper FOLDER]
"""

from __future__ import annotations

import argparse
import csv
import sys
import tempfile
import zipfile
from pathlib import Path

from voltscreen.model import predict_candidates
from voltscreen.model.element_table import read_element_table
from voltscreen.model.paper_checkpoint import import_checkpoint
from voltscreen.sources.files import read_structure
from voltscreen.structures import HostState, PackedStructure

PAPER = Path(__file__).resolve().parents[2] / "shared" / "data" / "paper"
TARGET = 1e-4
"""Volt; float32 rounding stays two orders below."""


def read_cifs(archive: Path) -> dict[str, PackedStructure]:
    """The structures of a zip of CIFs by file stem."""
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(archive) as cifs:
        cifs.extractall(folder)
        return {path.stem: read_structure(path) for path in Path(folder).rglob("*.cif")}


def deviations(paper: Path) -> dict[str, float]:
    """Largest absolute deviation in volt, by ion of the checkpoint."""
    structures = read_cifs(paper / "na287_cifs.zip")
    table = read_element_table(paper / "atom_init.json")
    with (paper / "na287_reference_predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    worst = {}
    for column in [name for name in rows[0] if name.startswith("pred_")]:
        ion = column.removeprefix("pred_")
        suffix = "" if ion == "Li" else f"_{ion}"
        model = import_checkpoint(
            paper / "checkpoints" / f"model_best{suffix}.pth.tar", table, ion, f"paper-{ion}"
        )
        found = predict_candidates(
            model, [structures[row["id"]] for row in rows], host_state=HostState.AS_GIVEN
        )
        worst[ion] = max(
            abs(prediction.ions[ion].voltage - float(row[column]))
            for prediction, row in zip(found, rows, strict=True)
        )
    return worst


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--paper", type=Path, default=PAPER)
    arguments = parser.parse_args()
    if not arguments.paper.exists():
        print(f"left out: the paper's files are not in {arguments.paper} (--paper FOLDER)")
        return 0
    print(f"{'checkpoint':<12}{'largest deviation (V)':>24}")
    worst = deviations(arguments.paper)
    for ion, deviation in worst.items():
        print(f"{ion:<12}{deviation:>24.2e}")
    return int(max(worst.values()) > TARGET)


if __name__ == "__main__":
    sys.exit(main())
