"""How far voltages move when the same crystal is written in another way.

Every structure is predicted as it is and after a permutation of its atoms, a shift of its origin,
as Niggli-reduced, primitive and conventional cell, as 2x1x1 supercell, and with every atom moved
by 1e-4 angstrom. Run: python benchmarks/symmetry.py [--data DIR] [--pool-count N] [--model NAME]
"""

from __future__ import annotations

import argparse
import io
import sys
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from pymatgen.core import Structure
from pymatgen.io.cif import CifParser
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

from voltscreen.model import VoltageModel, load_model, predict_candidates
from voltscreen.structures import HostState, PackedStructure

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
RATTLE = 1e-4  # angstrom
SYMPREC = 1e-4  # angstrom: a conventional cell must not move atoms by more

Change = Callable[[PackedStructure, np.random.Generator], PackedStructure]


def permuted(s: PackedStructure, rng: np.random.Generator) -> PackedStructure:
    return s.take(rng.permutation(len(s)))


def shifted(s: PackedStructure, rng: np.random.Generator) -> PackedStructure:
    return PackedStructure.from_arrays(
        s.lattice, s.frac_coords + rng.uniform(0, 1, 3), s.atomic_numbers
    )


def rattled(s: PackedStructure, rng: np.random.Generator) -> PackedStructure:
    step = rng.normal(size=(len(s), 3))
    step *= RATTLE / np.linalg.norm(step, axis=1, keepdims=True)
    return PackedStructure.from_arrays(
        s.lattice, s.frac_coords + step @ np.linalg.inv(s.lattice), s.atomic_numbers
    )


def through_pymatgen(change: Callable[[Structure], Structure]) -> Change:
    return lambda s, _: PackedStructure.from_pymatgen(change(s.to_pymatgen()))


CHANGES: dict[str, Change] = {
    "atom order": permuted,
    "origin": shifted,
    "Niggli cell": through_pymatgen(lambda s: s.get_reduced_structure("niggli")),
    "primitive cell": through_pymatgen(lambda s: s.get_primitive_structure(tolerance=SYMPREC)),
    "conventional cell": through_pymatgen(
        lambda s: SpacegroupAnalyzer(s, symprec=SYMPREC).get_conventional_standard_structure()
    ),
    "2x1x1 supercell": through_pymatgen(lambda s: s.make_supercell([2, 1, 1], in_place=False)),
    "1e-4 angstrom rattle": rattled,
}


def na_cifs(data: Path) -> list[PackedStructure]:
    """The 287 CIFs of the paper's Na set."""
    with zipfile.ZipFile(data / "paper" / "na287_cifs.zip") as archive:
        names = [name for name in archive.namelist() if name.endswith(".cif")]
        texts = [archive.read(name).decode() for name in names]
    parsed = [CifParser(io.StringIO(text)).parse_structures(primitive=False)[0] for text in texts]
    return [PackedStructure.from_pymatgen(structure) for structure in parsed]


def pool_sample(data: Path, count: int) -> list[PackedStructure]:
    """Structures of the pool, drawn with a fixed seed."""
    import pyarrow.parquet as pq

    table = pq.read_table(data / "mp_pool.parquet")
    rng = np.random.default_rng(0)
    rows = table.take(np.sort(rng.choice(table.num_rows, count, replace=False)))
    columns = (rows[name].to_pylist() for name in ("lattice", "frac_coords", "atomic_numbers"))
    return [PackedStructure.from_arrays(*row) for row in zip(*columns, strict=True)]


def voltages(model: VoltageModel, structures: list[PackedStructure]) -> np.ndarray:
    """(structures, ions), volt; NaN where there is no prediction."""
    found = predict_candidates(model, structures, host_state=HostState.AS_GIVEN)
    return np.array(
        [[p.ions[ion].voltage if ion in p.ions else np.nan for ion in model.ions] for p in found]
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--pool-count", type=int, default=500)
    parser.add_argument("--model", default="default")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    model = load_model(arguments.model)
    sets = {
        "287 CIFs": na_cifs(arguments.data),
        f"{arguments.pool_count} of the pool": pool_sample(arguments.data, arguments.pool_count),
    }
    print(f"{'structures':<16}{'change':<24}{'n':>5}{'median':>10}{'99 %':>10}{'largest':>10}  mV")
    for name, structures in sets.items():
        reference = voltages(model, structures)
        for change, apply in CHANGES.items():
            rng = np.random.default_rng(1)
            moved = np.abs(voltages(model, [apply(s, rng) for s in structures]) - reference).max(
                axis=1
            )
            moved = 1000 * moved[np.isfinite(moved)]
            print(
                f"{name:<16}{change:<24}{len(moved):>5}{np.median(moved):>10.4f}"
                f"{np.percentile(moved, 99):>10.4f}{moved.max():>10.4f}"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
