"""Parts of a training: a network fitted to the training rows of one fold, kept as a file.

A part is named by recipe, split, fold and seed; a baseline's part is a whole split. A part that
is there is not made again, so that a stopped run goes on where it was; several processes make
parts side by side.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from voltscreen.graph import INSERTION, NEAREST, SHARED, GraphBatch, GraphSpec, build_graphs
from voltscreen.ions import ION_SYMBOLS
from voltscreen.model.element_table import ElementTable, build_element_table
from voltscreen.structures import PackedStructure
from voltscreen.train.baselines import BASELINES, Features
from voltscreen.train.dataset import LabelledElectrodes
from voltscreen.train.distill import (
    FinetuneOptions,
    Network,
    PotentialTargets,
    PretrainOptions,
    finetune,
    predict_hosts,
    pretrain,
)
from voltscreen.train.frozen import FROZEN
from voltscreen.train.heads import HeadOptions, fit_head, stack_heads
from voltscreen.train.pretrained import Pretrained
from voltscreen.train.process import ProcessOptions, Rows, fit_process
from voltscreen.train.splits import Split
from voltscreen.train.training_hosts import TrainingHosts
from voltscreen.train.trunk import TrunkOptions, pooled_features, train_trunk

if TYPE_CHECKING:
    from multiprocessing.queues import SimpleQueue

    Epochs = SimpleQueue[tuple[str, int, int, float]]

PAPER_TRUNK_ION = "Li"
POLL_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Step:
    """What was just done: a part, or an epoch of it.

    part: its name. done, total: parts that are finished and that there are.
    epoch: 1 and up, or 0 when the part is finished. epochs: of the part. loss: mean of the epoch.
    """

    part: str
    done: int
    total: int
    epoch: int = 0
    epochs: int = 0
    loss: float = 0.0


Progress = Callable[[Step], None]


@dataclass(frozen=True, slots=True)
class Options:
    """Of all networks; fixed beforehand."""

    pretrain: PretrainOptions = field(default_factory=PretrainOptions)
    finetune: FinetuneOptions = field(default_factory=FinetuneOptions)
    scratch: FinetuneOptions = field(default_factory=lambda: FinetuneOptions(epochs=40))
    paper_trunk: TrunkOptions = field(default_factory=TrunkOptions)
    paper_head: HeadOptions = field(default_factory=HeadOptions)
    process: ProcessOptions = field(default_factory=ProcessOptions)


@dataclass(frozen=True, slots=True)
class PartKey:
    """Names a part. fold None: fitted to all rows, or a baseline's on all folds of the split.

    seed: of a network, ten times that of its pre-training plus that of its fine-tuning.
    """

    recipe: str
    split: str
    fold: int | None
    seed: int = 0

    @property
    def name(self) -> str:
        """File name without its ending."""
        fold = "all" if self.fold is None else str(self.fold)
        return f"{self.recipe}.{self.split}.{fold}.{self.seed}"


def pretrained(seed: int) -> PartKey:
    """The part that the fine-tuned ones of a seed start from, whatever their fold.

    It learns from pool hosts of chemical systems that no labelled electrode has. Those of known
    systems were tried too, and bought nothing on held-out systems.
    """
    return PartKey("pretrained", "strange", None, seed // 10)


@dataclass(frozen=True, eq=False)
class Fitted:
    """What a part leaves behind, h labelled hosts.

    voltages: (h, x) float32, volt; of a process, that of a training row without the row itself.
    pooled: (h, p) float32. state: weights, None for the paper's recipe.
    """

    voltages: NDArray[np.float32]
    pooled: NDArray[np.float32]
    state: dict[str, torch.Tensor] | None


@dataclass(frozen=True, eq=False)
class Workshop:
    """Everything that fitting needs, and the folder of the parts.

    splits: the ladder by name; rows of a fold are never seen by its part.
    pretrained: networks to start from; None pre-trains on the pool hosts.
    """

    data: LabelledElectrodes
    hosts: TrainingHosts
    splits: dict[str, Split]
    options: Options
    folder: Path
    pretrained: Pretrained | None = None

    @cached_property
    def insertion_graphs(self) -> GraphBatch:
        """Graphs of the labelled hosts, insertion sites included."""
        return build_graphs(self.hosts.structures[: self.hosts.n_labelled], INSERTION)

    def path(self, key: PartKey) -> Path:
        """File of a part."""
        return self.folder / f"{key.name}.pt"

    def read(self, key: PartKey) -> Fitted:
        """A network's part that has been made."""
        return _read(self.path(key))

    def read_rows(self, key: PartKey) -> NDArray[np.float64]:
        """(r,) volt, a baseline's part that has been made; NaN for rows that are never tested."""
        rows: NDArray[np.float64] = torch.load(self.path(key), weights_only=True)["rows"].numpy()
        return rows

    @property
    def seconds(self) -> float:
        """What making the parts has taken so far, all runs together."""
        file = self._seconds_file
        return float(file.read_text()) if file.exists() else 0.0

    @property
    def _seconds_file(self) -> Path:
        return self.folder / "seconds"

    def spend(self, seconds: float) -> None:
        """Note that making parts took so much longer."""
        self._seconds_file.write_text(f"{self.seconds + seconds:.0f}\n")

    def training_rows(self, key: PartKey) -> NDArray[np.int64]:
        """Rows that the part may see."""
        if key.fold is None:
            return np.arange(len(self.data))
        return self.splits[key.split].train_rows(key.fold)


def silent(step: Step) -> None:
    """Show nothing."""


def make_parts(
    shop: Workshop, keys: Sequence[PartKey], workers: int, progress: Progress = silent
) -> None:
    """Make the parts that are not there, each after the pre-trained network that it starts from."""
    starts = dict.fromkeys(start for key in keys if (start := _start_of(key)))
    missing = [key for key in dict.fromkeys((*starts, *keys)) if not shop.path(key).exists()]
    if not missing:
        return
    shop.folder.mkdir(parents=True, exist_ok=True)
    total, done, noted = len(missing), 0, time.monotonic()
    context = multiprocessing.get_context("spawn")
    epochs = context.SimpleQueue()
    with ProcessPoolExecutor(workers, context, _start_worker, (shop, epochs)) as pool:
        running: dict[Future[None], PartKey] = {}
        while missing or running:
            unmade = {*missing, *running.values()}
            ready = [key for key in missing if _start_of(key) not in unmade]
            for key in ready[: workers - len(running)]:
                missing.remove(key)
                running[pool.submit(_make, key)] = key
            finished, _ = wait(running, POLL_SECONDS, FIRST_COMPLETED)
            while not epochs.empty():
                part, epoch, of, loss = epochs.get()
                progress(Step(part, done, total, epoch, of, loss))
            for future in finished:
                key = running.pop(future)
                future.result()
                done += 1
                now = time.monotonic()
                shop.spend(now - noted)
                noted = now
                progress(Step(key.name, done, total))


def _start_of(key: PartKey) -> PartKey | None:
    """The part that this one starts from."""
    needs = key.recipe in {"distilled", "process"} or key.recipe in FROZEN
    return pretrained(key.seed) if needs else None


@dataclass(eq=False)
class _Worker:
    """State of a process: its workshop, element table and what it has built so far."""

    shop: Workshop
    table: ElementTable
    epochs: Epochs
    graphs: dict[str, GraphBatch] = field(default_factory=dict)

    @cached_property
    def features(self) -> Features:
        """What the baselines see of the data."""
        return Features.of(self.shop.data)

    def graphs_of(self, spec: GraphSpec, *, with_pool: bool = False) -> GraphBatch:
        """Graphs of the labelled hosts, or of all."""
        name = f"{spec.name}{with_pool}"
        if name not in self.graphs:
            hosts = self.shop.hosts.structures
            count = len(hosts) if with_pool else self.shop.hosts.n_labelled
            self.graphs[name] = build_graphs(hosts[:count], spec)
        return self.graphs[name]

    def report(self, key: PartKey, epochs: int) -> Callable[[int, float], None]:
        """Tells the parent of every epoch of a part."""
        return lambda epoch, loss: self.epochs.put((key.name, epoch, epochs, loss))


_workers: list[_Worker] = []


def _start_worker(shop: Workshop, epochs: Epochs) -> None:
    # A worker is one core's: threads of torch, BLAS and scikit-learn would wait for each other.
    torch.set_num_threads(1)
    threadpool_limits(1)
    _workers.append(_Worker(shop, build_element_table(), epochs))


def _make(key: PartKey) -> None:
    worker = _workers[0]
    shop = worker.shop
    if shop.path(key).exists():
        return
    split = shop.splits.get(key.split)
    if key.recipe in BASELINES and split:
        rows = BASELINES[key.recipe].out_of_fold(shop.data, split, worker.features)
        _save(shop.path(key), {"rows": torch.from_numpy(rows)})
    elif key.recipe in FROZEN and split:
        pooled = shop.read(pretrained(0)).pooled
        rows = FROZEN[key.recipe].out_of_fold(shop.data, pooled, split)
        _save(shop.path(key), {"rows": torch.from_numpy(rows)})
    else:
        _write(shop.path(key), _RECIPES[key.recipe](worker, key))


def _write(path: Path, fitted: Fitted) -> None:
    voltages, pooled = torch.from_numpy(fitted.voltages), torch.from_numpy(fitted.pooled)
    _save(path, {"voltages": voltages, "pooled": pooled, "state": fitted.state})


def _save(path: Path, content: dict[str, Any]) -> None:
    partial = path.with_suffix(f".{time.time_ns()}.part")
    torch.save(content, partial)
    partial.replace(path)


def _read(path: Path) -> Fitted:
    saved = torch.load(path, weights_only=True)
    return Fitted(saved["voltages"].numpy(), saved["pooled"].numpy(), saved["state"])


def _pretrained(worker: _Worker, key: PartKey) -> Fitted:
    hosts, ready = worker.shop.hosts, worker.shop.pretrained
    if ready is not None:
        start = Network(worker.table, INSERTION)
        start.load_state_dict(dict(ready.states[key.seed]))
        return fitted_to(start, worker.graphs_of(INSERTION))
    graphs = worker.graphs_of(INSERTION, with_pool=True)
    options = replace(worker.shop.options.pretrain, seed=key.seed)
    report = worker.report(key, options.epochs)
    network = pretrain(graphs, hosts.strange, hosts.targets, worker.table, options, report)
    return fitted_to(network, worker.graphs_of(INSERTION))


def _distilled(worker: _Worker, key: PartKey) -> Fitted:
    shop = worker.shop
    start = Network(worker.table, INSERTION)
    state = shop.read(pretrained(key.seed)).state
    if state is None:
        raise TypeError("the pre-trained part holds no weights")
    start.load_state_dict(state)
    graphs = worker.graphs_of(INSERTION)
    options = shop.options.finetune
    return fitted_to(_finetuned(worker, key, start, graphs, options, shop.hosts.targets), graphs)


def _process(worker: _Worker, key: PartKey) -> Fitted:
    """The Gaussian process on the frozen trunk of the first pre-training."""
    shop, data, options = worker.shop, worker.shop.data, worker.shop.options.process
    start = shop.read(pretrained(key.seed))
    network = Network(worker.table, INSERTION)
    network.load_state_dict(start.state or {})
    which = shop.training_rows(key)
    rows = Rows(
        data.host_of_row[which], ion_index(data)[which], data.voltage[which], data.group[which]
    )
    shares = working_ion_shares(data.hosts)
    pooled = start.pooled.astype(np.float64)
    readout, alone = fit_process(
        pooled, shares, network.readout.widen, rows, options,
        worker.report(key, len(options.kernels)),
    )  # fmt: skip
    voltages = readout.of_hosts(torch.from_numpy(pooled), torch.from_numpy(shares).transpose(0, 1))
    said = voltages.T.float().numpy().copy()
    said[rows.host, rows.ion] = alone
    return Fitted(said, start.pooled, readout.state_dict())


def working_ion_shares(hosts: Sequence[PackedStructure]) -> NDArray[np.float64]:
    """(h, x, 2): of each ion, its share of the atoms and that of the other working ions."""
    own = np.array(
        [[host.element_counts.get(ion, 0) / len(host) for ion in ION_SYMBOLS] for host in hosts]
    )
    return np.stack((own, own.sum(axis=1, keepdims=True) - own), axis=2)


def _pooled_ions(worker: _Worker, key: PartKey) -> Fitted:
    graphs = worker.graphs_of(SHARED)
    return fitted_to(_finetuned(worker, key, None, graphs, worker.shop.options.scratch), graphs)


def _pooled_ions_with_site(worker: _Worker, key: PartKey) -> Fitted:
    graphs = worker.graphs_of(INSERTION)
    return fitted_to(_finetuned(worker, key, None, graphs, worker.shop.options.scratch), graphs)


def _finetuned(
    worker: _Worker,
    key: PartKey,
    start: Network | None,
    graphs: GraphBatch,
    options: FinetuneOptions,
    targets: PotentialTargets | None = None,
) -> Network:
    shop = worker.shop
    rows = shop.training_rows(key)
    ion = ion_index(shop.data)[rows]
    return finetune(
        start,
        graphs,
        (shop.data.host_of_row[rows], ion, shop.data.voltage[rows]),
        targets,
        worker.table,
        replace(options, seed=key.seed % 10),
        worker.report(key, options.epochs),
    )


def _paper(worker: _Worker, key: PartKey) -> Fitted:
    """Trunk on Li, frozen with its batch-norm statistics, the last two layers by ion."""
    shop, data = worker.shop, worker.shop.data
    graphs = worker.graphs_of(NEAREST)
    rows = shop.training_rows(key)
    own = rows[data.ion[rows] == PAPER_TRUNK_ION]
    trunk, trunk_head = train_trunk(
        graphs, data.host_of_row[own], data.voltage[own], worker.table, shop.options.paper_trunk,
        worker.report(key, shop.options.paper_trunk.epochs),
    )  # fmt: skip
    pooled = pooled_features(trunk, graphs)
    heads = []
    for symbol in ION_SYMBOLS:
        own = rows[data.ion[rows] == symbol]
        if symbol == PAPER_TRUNK_ION or len(set(data.group[own])) < 2:
            heads.append(trunk_head)
            continue
        head, _ = fit_head(
            pooled[data.host_of_row[own]], data.voltage[own], data.group[own], trunk_head,
            shop.options.paper_head,
        )  # fmt: skip
        heads.append(head)
    voltages = stack_heads(heads)(torch.from_numpy(pooled).float()).T.contiguous()
    return Fitted(voltages.numpy(), pooled.astype(np.float32), None)


def average_of(shop: Workshop, keys: Sequence[PartKey]) -> Fitted:
    """The network whose weights are the mean of these parts' weights, fine-tuned from one start.

    Wortsman et al., Model soups, ICML 2022: it does about as well as the mean of the networks'
    predictions, at the cost of one.
    """
    path = shop.folder / f"averaged.{'+'.join(key.name for key in keys)}.pt"
    if not path.exists():
        states = [shop.read(key).state or {} for key in keys]
        mean = {
            name: torch.stack([state[name] for state in states]).mean(0)
            if value.is_floating_point()
            else value
            for name, value in states[0].items()
        }
        network = Network(build_element_table(), INSERTION)
        network.load_state_dict(mean)
        _write(path, fitted_to(network, shop.insertion_graphs))
    return _read(path)


def fitted_to(network: Network, graphs: GraphBatch) -> Fitted:
    """What a network says of the labelled hosts, with its weights."""
    outputs, pooled = predict_hosts(network, graphs, np.arange(len(graphs)))
    return Fitted(
        outputs[:, :, 0].astype(np.float32), pooled.astype(np.float32), network.state_dict()
    )


_RECIPES: dict[str, Callable[[_Worker, PartKey], Fitted]] = {
    "pretrained": _pretrained,
    "distilled": _distilled,
    "process": _process,
    "pooled-ions": _pooled_ions,
    "pooled-ions-site": _pooled_ions_with_site,
    "paper": _paper,
}


def ion_index(data: LabelledElectrodes) -> NDArray[np.int64]:
    """(r,) int64: index of each row's ion in `ION_SYMBOLS`."""
    return np.array([ION_SYMBOLS.index(symbol) for symbol in data.ion], dtype=np.int64)
