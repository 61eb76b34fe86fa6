"""`make chaos`: the whole matrix, or the points and faults that are named, as a table.

`ok (1)`: the collections are those of an undisturbed run, after one `campaign resume`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.chaos.matrix import CELLS, Fault, Result, fast_folder, ground, run_matrix


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("words", nargs="*", help="points or faults (or their beginnings)")
    parser.add_argument("--parallel", type=int, default=2)
    options = parser.parse_args()
    cells = [
        (point, fault)
        for point, fault in CELLS
        if all(point.startswith(word) or fault == word for word in options.words)
    ]
    begun = time.monotonic()
    results: list[Result] = []
    print(f"{'point':<20}" + "".join(f"{fault:>8}" for fault in Fault), flush=True)
    with tempfile.TemporaryDirectory(dir=fast_folder()) as folder, ground(Path(folder)) as made:
        for result in run_matrix(made, cells, options.parallel):
            results.append(result)
            last = len(results) == len(cells)
            if last or cells[len(results)][0] != result.point:
                print_row([one for one in results if one.point == result.point])
    bad = [one for one in results if one.problem]
    for one in bad:
        print(f"{one.point} {one.fault}: {one.problem} (after {one.resumes} resumes)")
    took = time.monotonic() - begun
    print(f"{len(cells)} cells in {took:.0f} s: {len(cells) - len(bad)} ok, {len(bad)} red")
    return 1 if bad else 0


def print_row(results: list[Result]) -> None:
    """One point: for each fault whether the end was the same, and after how many resumes."""
    by_fault = {one.fault: one for one in results}
    cells = []
    for fault in Fault:
        one = by_fault.get(fault)
        cells.append("" if one is None else "RED" if one.problem else f"ok ({one.resumes})")
    print(f"{results[0].point:<20}" + "".join(f"{cell:>8}" for cell in cells), flush=True)


if __name__ == "__main__":
    sys.exit(main())
