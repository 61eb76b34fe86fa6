"""Training of the ion-conditioned network: first on insertion energies, then on voltages.

A trunk learns from the insertion energies of many unlabelled hosts (labels of one ion at the
largest void by a universal potential, made by `voltscreen refine label`) what makes a host take
an ion up, and is then fine-tuned on the labelled electrodes of all ions at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from voltscreen.graph import GraphBatch, GraphSpec
from voltscreen.ions import ION_SYMBOLS
from voltscreen.model.conditioned import TARGETS, IonConditionedReadout
from voltscreen.model.element_table import ElementTable
from voltscreen.model.trunk import N_FEATURES, GraphTensors, Trunk, mean_pool

Report = Callable[[int, float], None]
"""Called after each epoch with its number and mean loss."""

CPU = torch.device("cpu")
VOLTAGE_SCALE = 1.2
INSERTION_WEIGHTS = (1.0, 0.3, 0.3, 0.3)
SQUASH_BEYOND = 2.0


class Network(nn.Module):
    """Trunk and readout, and while training the maps from node vectors to a potential's own.

    crystal: pooled vector to the potential's crystal vector; moment: atom to its moment.
    """

    def __init__(self, table: ElementTable, spec: GraphSpec) -> None:
        super().__init__()
        self.trunk = Trunk(torch.from_numpy(table.features), spec, edge_norm=False)
        self.readout = IonConditionedReadout(ION_SYMBOLS)
        self.crystal = nn.Linear(N_FEATURES, N_FEATURES)
        self.moment = nn.Linear(N_FEATURES, 1)


@dataclass(frozen=True, eq=False)
class PotentialTargets:
    """What the potential says of hosts, ready to be learned. h hosts in the order of the graphs.

    topotactic: (h, x) float32, voltage against the structure that the ion was taken out of,
        standardised and squashed; NaN where there is no such structure.
    insertion: (h, x, 4) float32, standardised and squashed (insertion energy with its sign turned,
        so that more is a higher voltage; the ion's site energy; the host's energy shift; the
        change of moments); NaN where there is no label.
    crystal: (h, 64) float32, standardised; NaN where there is none.
    moments: h arrays (n_atoms,) float32, absolute; empty where there is none.
    """

    topotactic: NDArray[np.float32]
    insertion: NDArray[np.float32]
    crystal: NDArray[np.float32]
    moments: list[NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class PretrainOptions:
    """How the network learns insertion energies; fixed beforehand."""

    epochs: int = 25
    batch_size: int = 64
    learning_rate: float = 4e-3
    weight_decay: float = 1e-2
    noise: float = 0.005
    seed: int = 0


@dataclass(frozen=True, slots=True)
class FinetuneOptions:
    """How the network learns voltages; fixed beforehand.

    noise: relative, on all distances of a structure alike. insertion_share: weight of the loss on
    the training hosts' insertion energies. clip: labels beyond so many robust standard deviations
    from their ion's median are pulled to there. averaged: share of the steps at the end over
    which weights are averaged.
    """

    epochs: int = 20
    batch_size: int = 48
    learning_rate: float = 2e-3
    weight_decay: float = 3e-2
    noise: float = 0.01
    insertion_share: float = 0.3
    clip: float = 5.0
    averaged: float = 0.4
    seed: int = 0


def squash(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Values beyond `SQUASH_BEYOND` on a logarithmic scale: pool hosts have heavy tails."""
    size = np.abs(values)
    beyond = np.log1p(np.maximum(size - SQUASH_BEYOND, 0.0))
    return np.sign(values) * np.where(size < SQUASH_BEYOND, size, SQUASH_BEYOND + beyond)


def pretrain(
    graphs: GraphBatch,
    hosts: NDArray[np.int64],
    targets: PotentialTargets,
    table: ElementTable,
    options: PretrainOptions,
    report: Report | None = None,
) -> Network:
    """A network that has learned what the potential says of these hosts."""
    torch.manual_seed(options.seed)
    rng = np.random.default_rng(options.seed)
    network = Network(table, graphs.spec)

    def loss_of(which: NDArray[np.int64]) -> Tensor:
        loss = _potential_loss(network, _run(network, graphs, which, options.noise, rng), targets)
        return loss.topotactic + loss.insertion + loss.host

    _train(
        network, hosts, loss_of, rng, options.epochs, options.batch_size, options.learning_rate,
        options.weight_decay, 0.4, report,
    )  # fmt: skip
    return network


def finetune(
    start: Network | None,
    graphs: GraphBatch,
    rows: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]],
    targets: PotentialTargets | None,
    table: ElementTable,
    options: FinetuneOptions,
    report: Report | None = None,
) -> Network:
    """A network for the voltages of these rows.

    Args:
        start: pre-trained, or None to start from random weights. graphs: of all hosts.
        rows: host (r,), ion index (r,) and voltage (r,) in volt, of the training rows alone.
        targets: insertion energies of the labelled hosts, or None to go without.
    """
    torch.manual_seed(options.seed)
    rng = np.random.default_rng(options.seed)
    network = Network(table, graphs.spec)
    host, ion, voltage = rows
    center, clipped = centers(ion, voltage, options.clip)
    if start is not None:
        network.load_state_dict(start.state_dict())
        with torch.no_grad():
            out = network.readout.out
            out.weight[0] = out.weight[1]
            out.bias[0] = out.bias[1]
    network.readout.mean[:, 0] = torch.from_numpy(center).float()
    network.readout.scale[:, 0] = VOLTAGE_SCALE
    standard = torch.from_numpy((clipped - center[ion]) / VOLTAGE_SCALE).float()
    order = np.argsort(host, kind="stable")
    hosts, first = np.unique(host[order], return_index=True)
    rows_of = dict(zip(hosts, np.split(order, first[1:]), strict=True))

    def loss_of(which: NDArray[np.int64]) -> Tensor:
        passed = _run(network, graphs, which, options.noise, rng)
        chosen = [rows_of[h] for h in which]
        row = np.concatenate(chosen)
        place = torch.from_numpy(np.repeat(np.arange(len(which)), [len(c) for c in chosen]))
        ions = torch.from_numpy(ion[row])
        predicted = network.readout(passed.pooled[place], ions, passed.intensive[ions, place])[:, 0]
        loss = functional.smooth_l1_loss(predicted, standard[row], beta=0.3)
        if targets is not None:
            said = _potential_loss(network, passed, targets)
            loss = loss + options.insertion_share * (said.insertion + said.host)
        return loss

    _train(
        network, hosts, loss_of, rng, options.epochs, options.batch_size, options.learning_rate,
        options.weight_decay, options.averaged, report,
    )  # fmt: skip
    return network


def predict_hosts(
    network: Network, graphs: GraphBatch, hosts: NDArray[np.int64], batch_size: int = 32
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Targets (h, x, targets), the voltage in volt and the rest standardised, and pooled (h, p)."""
    network.eval()
    parts, features = [], []
    n_ions = len(ION_SYMBOLS)
    with torch.inference_mode():
        for begin in range(0, len(hosts), batch_size):
            graph = GraphTensors.from_batch(graphs.select(hosts[begin : begin + batch_size]), CPU)
            pooled = network.readout.pool(network.trunk(graph), graph)
            context = network.readout.context(graph)
            context[:, :, 2] = 0.0
            n = len(pooled)
            ions = torch.arange(n_ions).repeat_interleave(n)
            outputs = network.readout(pooled.repeat(n_ions, 1), ions, context.flatten(0, 1))
            outputs = outputs * network.readout.scale[ions] + network.readout.mean[ions]
            features.append(pooled.numpy())
            parts.append(outputs.unflatten(0, (n_ions, n)).transpose(0, 1).numpy())
    return np.concatenate(parts).astype(np.float64), np.concatenate(features).astype(np.float64)


@dataclass(frozen=True, eq=False)
class _Pass:
    """Hosts and what the network makes of them.

    which: (b,) hosts. nodes: (n, 64). pooled: (b, p). context: (x, b, 3).
    """

    which: NDArray[np.int64]
    graph: GraphTensors
    nodes: Tensor
    pooled: Tensor
    context: Tensor

    @property
    def intensive(self) -> Tensor:
        """The context without the size of the cell, for voltages."""
        context = self.context.clone()
        context[:, :, 2] = 0.0
        return context


def _run(
    network: Network,
    graphs: GraphBatch,
    which: NDArray[np.int64],
    noise: float,
    rng: np.random.Generator,
) -> _Pass:
    """A pass over these hosts, their distances slightly scaled."""
    batch = graphs.select(which)
    if noise:
        factor = (1.0 + noise * rng.standard_normal(len(which))).astype(np.float32)
        edges = np.diff(batch.edge_offsets[batch.offsets])
        batch = replace(batch, distances=batch.distances * np.repeat(factor, edges))
    graph = GraphTensors.from_batch(batch, CPU)
    nodes = network.trunk(graph)
    readout = network.readout
    return _Pass(which, graph, nodes, readout.pool(nodes, graph), readout.context(graph))


class _Losses(NamedTuple):
    topotactic: Tensor
    insertion: Tensor
    host: Tensor


def _potential_loss(network: Network, passed: _Pass, targets: PotentialTargets) -> _Losses:
    """Losses on all that the potential says of these hosts, each a mean over the hosts."""
    which = passed.which
    topotactic = targets.topotactic[which][:, :, None]
    insertion = targets.insertion[which]
    return _Losses(
        _labelled_loss(network, passed, passed.intensive, topotactic, 1, (1.0,)),
        _labelled_loss(network, passed, passed.context, insertion, 2, INSERTION_WEIGHTS),
        _host_loss(network, passed, targets),
    )


def _labelled_loss(
    network: Network,
    passed: _Pass,
    context: Tensor,
    values: NDArray[np.float32],
    first: int,
    weights: tuple[float, ...],
) -> Tensor:
    """Of the labels (b, x, q) that there are, each host's together counting as one.

    first: column of the network's outputs that the first of the q speaks of.
    """
    place, ion = np.nonzero(np.isfinite(values[:, :, 0]))
    if not len(place):
        return passed.pooled.new_zeros(())
    ions, places = torch.from_numpy(ion), torch.from_numpy(place)
    outputs = network.readout(passed.pooled[places], ions, context[ions, places])
    error = functional.smooth_l1_loss(
        outputs[:, first : first + len(weights)],
        torch.from_numpy(values[place, ion]),
        beta=0.3,
        reduction="none",
    )
    labels = np.bincount(place, minlength=len(values))
    share = torch.from_numpy(1.0 / labels[place]).float()
    return (error @ torch.tensor(weights) * share).sum() / len(values)


def _host_loss(network: Network, passed: _Pass, targets: PotentialTargets) -> Tensor:
    """On the potential's vectors and moments of the hosts themselves."""
    crystal = targets.crystal[passed.which]
    known = torch.from_numpy(np.isfinite(crystal[:, 0]))
    if not known.any():
        return passed.pooled.new_zeros(())
    guess = network.crystal(mean_pool(passed.nodes, passed.graph))[known]
    moments = np.concatenate([targets.moments[h] for h in passed.which])
    atoms = ~passed.graph.is_site & known[passed.graph.structure_of_node]
    found = network.moment(passed.nodes[atoms])[:, 0]
    return 0.2 * (
        functional.smooth_l1_loss(guess, torch.from_numpy(crystal)[known])
        + functional.smooth_l1_loss(found, torch.from_numpy(moments), beta=0.3)
    )


def _train(
    network: Network,
    hosts: NDArray[np.int64],
    loss_of: Callable[[NDArray[np.int64]], Tensor],
    rng: np.random.Generator,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    weight_decay: float,
    averaged: float,
    report: Report | None,
) -> None:
    """AdamW with a one-cycle schedule; the result is the average over the last steps."""
    matrices = [p for p in network.parameters() if p.ndim > 1]
    others = [p for p in network.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [
            {"params": matrices, "weight_decay": weight_decay},
            {"params": others, "weight_decay": 0.0},
        ],
        lr=learning_rate,
    )
    steps = epochs * max(1, len(hosts) // batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, learning_rate, total_steps=steps, pct_start=0.15
    )
    average: dict[str, Tensor] = {}
    step = 0
    network.train()
    for epoch in range(epochs):
        losses = []
        for which in _batches(hosts, batch_size, rng):
            loss = loss_of(which)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(network.parameters(), 2.0)
            optimizer.step()
            schedule.step()
            step += 1
            losses.append(float(loss.detach()))
            if step > (1.0 - averaged) * steps:
                _average(average, network)
        if report:
            report(epoch + 1, float(np.mean(losses)))
    network.load_state_dict(average)
    network.eval()


def _average(average: dict[str, Tensor], network: Network, rate: float = 0.01) -> None:
    for key, value in network.state_dict().items():
        if key not in average or not value.is_floating_point():
            average[key] = value.clone()
        else:
            average[key].lerp_(value, rate)


def _batches(
    hosts: NDArray[np.int64], size: int, rng: np.random.Generator
) -> Iterator[NDArray[np.int64]]:
    order = rng.permutation(hosts)
    for begin in range(0, max(1, len(order) // size) * size, size):
        yield order[begin : begin + size]


def centers(
    ion: NDArray[np.int64], voltage: NDArray[np.float64], clip: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(x,) median by ion (that of all rows for an ion without any), and (r,) voltages, those
    beyond `clip` robust standard deviations from it pulled to there; volt.
    """
    center = np.full(len(ION_SYMBOLS), np.median(voltage))
    clipped = voltage.copy()
    for x in np.unique(ion):
        own = voltage[ion == x]
        center[x] = np.median(own)
        spread = 1.4826 * np.median(np.abs(own - center[x])) + 0.1
        clipped[ion == x] = own.clip(center[x] - clip * spread, center[x] + clip * spread)
    return center, clipped


assert len(TARGETS) == 2 + len(INSERTION_WEIGHTS)  # noqa: S101 - a table split over two modules
