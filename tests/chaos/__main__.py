"""`make chaos`: the whole matrix, or the points and faults that are named, as a table.

`ok (1)`: the collections are those of an undisturbed run, after one `campaign resume`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.chaos.ground import Scene, ground
from tests.chaos.matrix import CELLS, Cell, Fault, Result, run_matrix
from tests.conftest import in_memory


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("words", nargs="*", help="points, scenes or faults (or their beginnings)")
    parser.add_argument("--parallel", type=int, default=2)
    options = parser.parse_args()
    cells = [cell for cell in CELLS if all(_fits(cell, word) for word in options.words)]
    scenes = [scene for scene in Scene if any(step.scene is scene for step, _ in cells)]
    begun = time.monotonic()
    results: list[Result] = []
    print(f"{'point':<20}" + "".join(f"{fault:>8}" for fault in Fault), flush=True)
    with (
        tempfile.TemporaryDirectory(dir=in_memory()) as folder,
        ground(Path(folder), scenes) as made,
    ):
        for result in run_matrix(made, cells, options.parallel):
            results.append(result)
            last = len(results) == len(cells)
            if last or cells[len(results)][0] != result.step:
                print_row([one for one in results if one.step == result.step])
    bad = [one for one in results if one.problem]
    for one in bad:
        print(f"{one.step.name} {one.fault}: {one.problem} (after {one.resumes} resumes)")
    took = time.monotonic() - begun
    print(f"{len(cells)} cells in {took:.0f} s: {len(cells) - len(bad)} ok, {len(bad)} red")
    return 1 if bad else 0


def _fits(cell: Cell, word: str) -> bool:
    step, fault = cell
    return word in (fault, step.scene) or step.point.startswith(word)


def print_row(results: list[Result]) -> None:
    """One step: for each fault whether the end was the same, and after how many resumes."""
    by_fault = {one.fault: one for one in results}
    cells = []
    for fault in Fault:
        one = by_fault.get(fault)
        cells.append("" if one is None else "RED" if one.problem else f"ok ({one.resumes})")
    print(f"{results[0].step.name:<20}" + "".join(f"{cell:>8}" for cell in cells), flush=True)


if __name__ == "__main__":
    sys.exit(main())
