"""Structures a second from packed arrays in memory to voltages on a device, by stage.

    python benchmarks/device.py [--device cuda] [--threads 16] [--pool FILE] [--count N]

Everything is torch operations on the device: graphs, insertion sites, trunk, readout, intervals;
with --threads also with the sites found by threads of the CPU meanwhile. Beside the measured rate
stands the floor: what the card's nominal bandwidth and peak allow for the bytes that these
operations read and write and for what they compute. A card that is not known, or a CPU, gets one
with --bandwidth and --peak.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from stages import POOL, structures_of
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from voltscreen.graph import SHARED, chunks_of_atoms
from voltscreen.graph.on_device.ahead import SitesAhead
from voltscreen.graph.on_device.alike import merge_alike_on_device
from voltscreen.graph.on_device.build import build_on_device
from voltscreen.graph.on_device.crystals import Crystals
from voltscreen.graph.on_device.voids import find_sites
from voltscreen.model import VoltageModel, load_model
from voltscreen.model.device import choose_device
from voltscreen.model.predictor import ATOMS_PER_CHUNK
from voltscreen.model.trunk import GraphTensors
from voltscreen.structures import PackedStructure

CARDS = {
    "H200": (4800.0, 67.0),
    "H100 PCIe": (2000.0, 51.0),
    "H100": (3350.0, 67.0),
    "A100-SXM4-40GB": (1555.0, 19.5),
    "A100": (2039.0, 19.5),
    "L40S": (864.0, 91.6),
    "RTX 4090": (1008.0, 82.6),
    "V100": (900.0, 15.7),
}
"""Nominal bandwidth, GB/s, and peak of float32, TFLOP/s, from NVIDIA's data sheets; the first name
that is part of the card's counts."""
COUNT = {"cpu": 300, "cuda": 50_000}
LOOK_UPS = ("aten.index.", "aten.gather.", "aten.embedding.", "aten.index_select.")


@dataclass(frozen=True)
class Stage:
    """A measured stage: seconds is the best of its repeats; calls, moved (bytes) and computed
    (floating-point operations, one an element where it is no product of matrices) are those of its
    operations in one run.
    """

    name: str
    structures: int
    seconds: float
    calls: int = 0
    moved: float = 0.0
    computed: float = 0.0

    @property
    def rate(self) -> float:
        return self.structures / self.seconds

    def floor(self, bandwidth: float, peak: float) -> float:
        """Structures/s that a bandwidth (GB/s) and a peak (TFLOP/s) allow."""
        return self.structures / max(self.moved / (bandwidth * 1e9), self.computed / (peak * 1e12))


class Counter(TorchDispatchMode):
    """Counts operations, what they read and write, and what they compute."""

    def __init__(self) -> None:
        super().__init__()
        self.calls, self.moved, self.computed = 0, 0.0, 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        out = func(*args, **(kwargs or {}))
        alias = [value.alias_info for value in func._schema.returns]  # noqa: SLF001
        if any(info is not None and not info.is_write for info in alias):
            return out  # a view
        name = str(func)
        read = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        written = [leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]
        if not written or name.startswith("aten.detach"):
            return out
        self.calls += 1
        self.moved += sum(bytes_of(tensor) for tensor in written)
        if name.startswith(LOOK_UPS):  # reads what it writes, not the whole table
            self.moved += bytes_of(written[0]) + sum(bytes_of(index) for index in read[1:])
        elif name.startswith("aten._embedding_bag"):
            rows, which = read[0], read[1]
            self.moved += which.numel() * rows.shape[1] * rows.element_size()
            self.moved += sum(bytes_of(tensor) for tensor in read[1:])
            self.computed += 2.0 * which.numel() * rows.shape[1]
        else:
            self.moved += sum(bytes_of(tensor) for tensor in read)
            inner = read[-1].shape[-2] if name.startswith(PRODUCTS) else 0.5
            self.computed += 2.0 * inner * sum(tensor.numel() for tensor in written)
        return out


PRODUCTS = ("aten.mm.", "aten.bmm.", "aten.addmm.", "aten.addmm_.", "aten.baddbmm.")


def bytes_of(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def measure(
    name: str, work: Callable[[], object], structures: int, device: torch.device, repeats: int
) -> Stage:
    """The best of some repeats; the first run, which is not measured, counts the operations."""

    def run() -> float:
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - start

    with torch.inference_mode():
        with Counter() as counter:
            run()
        seconds = min(run() for _ in range(repeats))
    return Stage(name, structures, seconds, counter.calls, counter.moved, counter.computed)


def stages_of(
    model: VoltageModel,
    structures: list[PackedStructure],
    chunks: list[NDArray[np.int64]],
    device: torch.device,
    repeats: int,
    threads: int,
) -> list[Stage]:
    """The stages of the first pass, and all passes from packed arrays to arrays of predictions."""
    ready, spec = model.on_device, model.graph_spec
    packed = [
        Crystals.from_structures([structures[i] for i in chunk], torch.device("cpu"))
        for chunk in chunks
    ]
    n = len(packed[0])
    first = packed[0].to(device)
    with torch.inference_mode():
        graphs = build_on_device(first, spec)
        merged = merge_alike_on_device(graphs)
        tensors = GraphTensors.from_device(merged.graphs)
        vectors = ready.trunk(tensors)
    asked = [
        torch.ones(len(model.ions), len(part), dtype=torch.bool, device=device) for part in packed
    ]

    def everything(ahead: SitesAhead | None = None) -> None:
        for part, wanted, chunk in zip(packed, asked, chunks, strict=True):
            sites = ahead.of(chunk.tolist(), device) if ahead else None
            found = ready.predict(build_on_device(part.to(device), spec, sites), wanted)
            for name in found.__dataclass_fields__:
                tensor = getattr(found, name)
                if tensor is not None:
                    tensor.cpu()

    def with_threads() -> None:
        with closing(SitesAhead(structures, threads)) as ahead:
            everything(ahead)

    works: list[tuple[str, Callable[[], object]]] = [
        ("packed arrays to the device", lambda: packed[0].to(device)),
        ("insertion sites", lambda: find_sites(first)),
        ("graph, shared places", lambda: build_on_device(first, SHARED)),
        ("graph with sites", lambda: build_on_device(first, spec)),
        ("alike nodes merged", lambda: merge_alike_on_device(graphs)),
        ("trunk", lambda: ready.trunk(tensors)),
        ("readout, all ions", lambda: ready.read(graphs, merged, tensors, vectors, asked[0])),
    ]
    stages = [measure(name, work, n, device, repeats) for name, work in works]
    total = len(structures)
    stages.append(measure("packed to voltages, all ions", everything, total, device, repeats))
    if threads:
        name = f"the same, sites by {threads} thread(s)"
        stages.append(measure(name, with_threads, total, device, repeats))
    return stages


def nominal(device: torch.device, arguments: argparse.Namespace) -> tuple[str, float, float]:
    """Name of the device, its bandwidth (GB/s) and its peak (TFLOP/s); 0 where not known."""
    name, found = "a CPU", (0.0, 0.0)
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        found = next((CARDS[card] for card in CARDS if card in name), found)
    return name, arguments.bandwidth or found[0], arguments.peak or found[1]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--pool", type=Path, default=POOL if POOL.exists() else None)
    parser.add_argument("--count", type=int, default=None)
    parser.add_argument("--atoms", type=int, default=None, help="in one pass")
    parser.add_argument("--model", default="default")
    parser.add_argument("--threads", type=int, default=0, help="that find sites ahead")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--bandwidth", type=float, default=0.0, help="nominal, GB/s")
    parser.add_argument("--peak", type=float, default=0.0, help="nominal, TFLOP/s of float32")
    parser.add_argument("--csv", type=Path, default=None)
    arguments = parser.parse_args()

    device = choose_device(arguments.device)
    model = load_model(arguments.model).to(device)
    structures, what = structures_of(arguments.pool, arguments.count or COUNT[device.type])
    sizes = np.array([len(structure) for structure in structures])
    chunks = list(chunks_of_atoms(sizes, arguments.atoms or ATOMS_PER_CHUNK[device.type]))
    stages = stages_of(model, structures, chunks, device, arguments.repeats, arguments.threads)
    name, bandwidth, peak = nominal(device, arguments)
    known = bandwidth > 0.0 and peak > 0.0
    print(f"{what}, each its own host: {sizes.mean():.1f} atoms on average")
    print(
        f"{name}, {len(chunks)} passes, model {model.name}"
        + (f"; nominal {bandwidth:,.0f} GB/s, {peak:,.1f} TFLOP/s" if known else "")
    )
    print(
        f"{'stage':<30}{'structures/s':>14}{'operations':>12}{'kB each':>10}{'MFLOP each':>12}"
        f"{'floor':>12}{'of floor':>10}"
    )
    for stage in stages:
        floor = stage.floor(bandwidth, peak) if known and stage.calls else None
        print(
            f"{stage.name:<30}{stage.rate:>14,.0f}{stage.calls:>12,}"
            f"{stage.moved / stage.structures / 1e3:>10,.1f}"
            f"{stage.computed / stage.structures / 1e6:>12,.2f}"
            + (f"{floor:>12,.0f}{stage.rate / floor:>10.1%}" if floor else "")
        )
    if device.type == "cuda":
        print(f"peak memory {torch.cuda.max_memory_allocated(device) / 2**20:,.0f} MiB")
    if arguments.csv:
        with arguments.csv.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["device", *Stage.__dataclass_fields__, "structures_per_second"])
            for stage in stages:
                values = [getattr(stage, field) for field in Stage.__dataclass_fields__]
                writer.writerow([name, *values, stage.rate])
    return 0


if __name__ == "__main__":
    sys.exit(main())
