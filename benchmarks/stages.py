"""Structures a second of every stage, beside the reference path in the same run.

The reference path is what the original code does for one structure: pymatgen's neighbour lists
from a `Structure`, then the plain network, one ion. Run: python benchmarks/stages.py [--pool FILE]
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from voltscreen.graph import NEAREST, PAPER, GraphBatch, build_graphs, chunks_of_atoms
from voltscreen.model import VoltageModel, load_model, predict_candidates
from voltscreen.model.element_table import build_element_table
from voltscreen.model.heads import IonHeads
from voltscreen.model.trunk import GraphTensors, Trunk, mean_pool
from voltscreen.sources import candidates
from voltscreen.structures import Candidate, PackedStructure
from voltscreen.structures.insertion_sites import insertion_sites

POOL = Path(__file__).resolve().parents[2] / "shared" / "data" / "mp_pool.parquet"


@dataclass(frozen=True)
class Stage:
    """A measured stage; seconds is the best of its repeats. comparable: the reference path
    does that work too.
    """

    name: str
    structures: int
    seconds: float
    comparable: bool = True

    @property
    def rate(self) -> float:
        return self.structures / self.seconds


def measure(name: str, work: Callable[[], object], structures: int, repeats: int) -> Stage:
    """Best of some repeats after one unmeasured run (compilation, caches)."""
    work()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return Stage(name, structures, min(seconds))


def structures_of(pool: Path | None, count: int) -> tuple[list[PackedStructure], str]:
    """Pool structures, evenly spread, or the known hosts over and over."""
    if pool:
        value = {"path": str(pool), "limit": 20 * count}
        found = [
            c.structure for c in candidates("parquet", value, Path()) if isinstance(c, Candidate)
        ]
        step = max(len(found) // count, 1)
        return found[::step][:count], f"{count} of {pool.name}"
    hosts = [c.structure for c in candidates("hosts", "all", Path()) if isinstance(c, Candidate)]
    return [hosts[i % len(hosts)] for i in range(count)], "the known hosts, repeated"


class PlainTrunk(Trunk):
    """The readable torch network, without the fused convolution."""

    def _fused(self, nodes: torch.Tensor) -> bool:
        del nodes
        return False


def reference(structures: Sequence[PackedStructure]) -> None:
    """Original way: pymatgen neighbour objects, stable sort, the plain network, one ion."""
    torch.manual_seed(0)
    trunk = PlainTrunk(torch.from_numpy(build_element_table().features), NEAREST).eval()
    heads = IonHeads(1).eval()
    for packed in structures:
        structure = packed.to_pymatgen()
        neighbors = structure.get_all_neighbors(PAPER.cutoff)
        for site in neighbors:
            site.sort(key=lambda neighbor: neighbor.nn_distance)
        with torch.inference_mode():
            graph = GraphTensors.from_batch(build_graphs([packed], NEAREST), torch.device("cpu"))
            heads(mean_pool(trunk(graph), graph))


def run_network(model: VoltageModel, batches: Sequence[GraphBatch]) -> None:
    with torch.inference_mode():
        for graphs in batches:
            graph = GraphTensors.from_batch(graphs, torch.device("cpu"))
            model.readout.voltages(model.readout.pool(model.trunk(graph).double(), graph), graph)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pool", type=Path, default=POOL if POOL.exists() else None)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--csv", type=Path, default=None)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    model = load_model("default")
    structures, what = structures_of(arguments.pool, arguments.count)
    n = len(structures)
    sizes = np.array([len(structure) for structure in structures])
    packed = [structure.to_bytes() for structure in structures]
    chunks = [
        build_graphs([structures[i] for i in which], model.graph_spec)
        for which in chunks_of_atoms(sizes, 1000)
    ]
    few = structures[:: max(n // 60, 1)]

    stages = [
        measure("reference path, one ion", lambda: reference(few), len(few), 1),
        replace(
            measure("unpack", lambda: [PackedStructure.from_bytes(data) for data in packed], n, 3),
            comparable=False,
        ),
        replace(
            measure("content hash", lambda: [hash_again(s) for s in structures], n, 3),
            comparable=False,
        ),
        measure("insertion sites", lambda: insertion_sites(structures), n, 3),
        measure("graph, sites included", lambda: build_graphs(structures, model.graph_spec), n, 3),
        measure("network, all ions", lambda: run_network(model, chunks), n, 2),
        measure(
            "packed to voltages, all ions", lambda: predict_candidates(model, structures), n, 2
        ),
    ]
    print(f"{what}: {sizes.mean():.1f} atoms on average, {arguments.threads} thread(s)")
    print(f"{'stage':<32}{'structures/s':>14}{'against reference':>20}")
    for stage in stages:
        ratio = f"{stage.rate / stages[0].rate:.1f}x" if stage.comparable else ""
        print(f"{stage.name:<32}{stage.rate:>14,.0f}{ratio:>20}")
    if arguments.csv:
        with arguments.csv.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["stage", "structures", "seconds", "structures_per_second"])
            writer.writerows([s.name, s.structures, s.seconds, s.rate] for s in stages)
    return 0


def hash_again(structure: PackedStructure) -> str:
    """The hash of a fresh copy, because a structure remembers its own."""
    return PackedStructure(
        structure.lattice, structure.frac_coords, structure.atomic_numbers
    ).content_hash


if __name__ == "__main__":
    sys.exit(main())
