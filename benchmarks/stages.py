"""Structures a second of every stage, beside the reference path in the same run.

Times are CPU time of this process on one thread, so that other work on the machine shows less; only
those of several processes at once are wall time.

The reference path is what the original code does for one structure: pymatgen's neighbour lists
from a `Structure`, then the plain network, one ion.

    python benchmarks/stages.py [--pool FILE] [--count N] [--model NAME]
"""

from __future__ import annotations

import argparse
import csv
import multiprocessing
import resource
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from threading import Barrier

import numpy as np
import torch

from voltscreen.graph import (
    NEAREST,
    PAPER,
    SHARED,
    GraphBatch,
    build_graphs,
    chunks_of_atoms,
    merge_alike,
)
from voltscreen.model import VoltageModel, load_model, predict_columns
from voltscreen.model.element_table import build_element_table
from voltscreen.model.heads import IonHeads
from voltscreen.model.predictor import ATOMS_PER_CHUNK
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
        start = time.process_time()
        work()
        seconds.append(time.process_time() - start)
    return Stage(name, structures, min(seconds))


def structures_of(pool: Path | None, count: int) -> tuple[list[PackedStructure], str]:
    """Pool structures, drawn with a fixed seed, or the known hosts over and over."""
    if pool:
        import pyarrow.parquet as pq

        table = pq.read_table(pool, columns=["lattice", "frac_coords", "atomic_numbers"])
        chosen = np.sort(np.random.default_rng(0).choice(table.num_rows, count, replace=False))
        rows = table.take(chosen).to_pylist()
        return [PackedStructure.from_arrays(**row) for row in rows], f"{count} of {pool.name}"
    hosts = [c.structure for c in candidates("hosts", "all", Path()) if isinstance(c, Candidate)]
    return [hosts[i % len(hosts)] for i in range(count)], "the known hosts, repeated"


def reference(structures: Sequence[PackedStructure]) -> None:
    """Original way: pymatgen neighbour objects, stable sort, the plain network, one ion."""
    torch.manual_seed(0)
    trunk = Trunk(torch.from_numpy(build_element_table().features), NEAREST).eval()
    heads = IonHeads(1).eval()
    for packed in structures:
        structure = packed.to_pymatgen()
        neighbors = structure.get_all_neighbors(PAPER.cutoff)
        for site in neighbors:
            site.sort(key=lambda neighbor: neighbor.nn_distance)
        with torch.inference_mode():
            # Without windows the trunk runs as plain torch operations.
            graph = GraphTensors.from_batch(
                build_graphs([packed], NEAREST), torch.device("cpu"), windows=False
            )
            heads(mean_pool(trunk(graph), graph))


def readout(model: VoltageModel, graphs: GraphBatch, vectors: torch.Tensor) -> None:
    """Voltages, both local voltages and intervals of all ions."""
    with torch.inference_mode():
        graph = GraphTensors.from_batch(graphs, torch.device("cpu"), windows=False)
        reading = model.readout.read(vectors, graph)
        everything = torch.ones(reading.voltages.shape, dtype=torch.bool)
        baseline = torch.from_numpy(model.baseline)
        model.readout.shares(reading, graph, baseline, everything)
        if model.linear:
            model.linear.local_voltages(vectors[~graph.is_site])
        if model.domain:
            squares = None if reading.squares is None else reading.squares.float().numpy()
            model.domain.percentile(model.domain.difficulty(reading.pooled.numpy(), squares))


def cost(model: VoltageModel, structures: list[PackedStructure]) -> list[Stage]:
    """Packed to voltages against the number of atoms, structures and ions."""
    stages = []
    sizes = np.array([len(structure) for structure in structures])
    for low, high in ((1, 10), (11, 20), (21, 40), (41, 80), (81, 10**6)):
        own = [s for s, n in zip(structures, sizes, strict=True) if low <= n <= high]
        if len(own) >= 5:
            name = f"{low} to {high} atoms" if high < 10**6 else f"{low} atoms or more"
            stages.append(measure(name, partial(predict_columns, model, own), len(own), 2))
    for count in (1, 10, 100):
        some = structures[:count]
        stages.append(
            measure(f"{count} structures at once", partial(predict_columns, model, some), count, 3)
        )
    for ions in (1, 5, 10):
        work = partial(predict_columns, model, structures, model.ions[:ions])
        stages.append(measure(f"{ions} ion{'s' if ions > 1 else ''}", work, len(structures), 2))
    return stages


def at_once(processes: int, structures: Sequence[PackedStructure], model: str) -> Stage:
    """So many processes that predict the structures side by side; wall time of the slowest."""
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(processes)
    with ProcessPoolExecutor(processes, context, _set_barrier, (start,)) as pool:
        work = [[structure.to_bytes() for structure in structures]] * processes
        seconds = list(pool.map(_predict_together, work, [model] * processes))
    name = f"{processes} process{'es' if processes > 1 else ''}, wall time"
    return Stage(name, processes * len(structures), max(seconds))


_together: list[Barrier] = []


def _set_barrier(barrier: Barrier) -> None:
    _together.append(barrier)


def _predict_together(packed: Sequence[bytes], name: str) -> float:
    torch.set_num_threads(1)
    model, structures = load_model(name), [PackedStructure.from_bytes(own) for own in packed]
    predict_columns(model, structures)
    _together[0].wait()
    start = time.perf_counter()
    predict_columns(model, structures)
    return time.perf_counter() - start


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pool", type=Path, default=POOL if POOL.exists() else None)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--model", default="default")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--csv", type=Path, default=None)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    model = load_model(arguments.model)
    structures, what = structures_of(arguments.pool, arguments.count)
    n = len(structures)
    sizes = np.array([len(structure) for structure in structures])
    packed = [structure.to_bytes() for structure in structures]
    few = structures[:: max(n // 60, 1)]
    without = replace(model, graph_spec=SHARED)
    chunks = [
        merge_alike(build_graphs([structures[i] for i in which], model.graph_spec)).graphs
        for which in chunks_of_atoms(sizes, ATOMS_PER_CHUNK["cpu"])
    ]
    vectors = [torch.from_numpy(model.folded(graphs)) for graphs in chunks]
    graphs = build_graphs(structures, model.graph_spec)

    def run_readout() -> None:
        for part, own in zip(chunks, vectors, strict=True):
            readout(model, part, own)

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
        measure("graph, 12 nearest", lambda: build_graphs(structures, NEAREST), n, 3),
        measure("graph, shared places", lambda: build_graphs(structures, SHARED), n, 3),
        measure("insertion sites", lambda: insertion_sites(structures), n, 3),
        measure("graph with sites", lambda: build_graphs(structures, model.graph_spec), n, 3),
        replace(measure("alike nodes merged", lambda: merge_alike(graphs), n, 3), comparable=False),
        measure("trunk", lambda: [model.folded(graphs) for graphs in chunks], n, 3),
        measure("readout, all ions", run_readout, n, 2),
        measure("packed to voltages, all ions", lambda: predict_columns(model, structures), n, 2),
        measure("the same without sites", lambda: predict_columns(without, structures), n, 2),
    ]
    hosts = len(predict_columns(model, structures).host_state)
    costs = cost(model, structures)
    costs += [at_once(processes, structures, arguments.model) for processes in (1, 2)]
    print(
        f"{what}: {sizes.mean():.1f} atoms on average, model {model.name}, "
        f"{arguments.threads} thread(s)"
    )
    print(f"{'stage':<32}{'structures/s':>14}{'against reference':>20}")
    for stage in stages:
        ratio = f"{stage.rate / stages[0].rate:.1f}x" if stage.comparable else ""
        print(f"{stage.name:<32}{stage.rate:>14,.0f}{ratio:>20}")
    print(f"\n{hosts / n:.2f} hosts a structure (one without each working ion that is in it)")
    print(f"{'packed to voltages':<32}{'structures/s':>14}{'ms a structure':>20}")
    for stage in costs:
        print(f"{stage.name:<32}{stage.rate:>14,.0f}{1000 / stage.rate:>20.2f}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak memory {peak:,.0f} MiB")
    stages += costs
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
