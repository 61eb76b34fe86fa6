"""A small untrained model and crystals for tests of the network."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from pymatgen.core import Lattice

from voltscreen.graph import INSERTION, NEAREST, GraphSpec
from voltscreen.model.branches import MeanReadout, Trunks
from voltscreen.model.card import ModelCard
from voltscreen.model.conditioned import IonConditionedReadout
from voltscreen.model.element_table import build_element_table
from voltscreen.model.heads import IonHeads
from voltscreen.model.local_voltage import LinearLocal
from voltscreen.model.process import KERNELS, N_STEPS, ProcessReadout
from voltscreen.model.trunk import Trunk
from voltscreen.model.uncertainty import Domain, Intervals, find_neighborhood
from voltscreen.model.voltage_model import VoltageModel
from voltscreen.structures import PackedStructure

IONS = ("Li", "Mg", "Al")


def random_crystal(seed: int, n_atoms: int = 8, elements: tuple[int, ...] = (8, 25, 26)):
    """Random positions at the density of an oxide, no overlapping atoms."""
    rng = np.random.default_rng(seed)
    scale = (14.0 * n_atoms) ** (1 / 3)
    lattice = Lattice.from_parameters(*[scale] * 3, *rng.uniform(80, 100, 3)).matrix
    grid = np.stack(np.meshgrid(*[np.arange(4)] * 3, indexing="ij"), -1).reshape(-1, 3) / 4
    coords = grid[rng.permutation(64)[:n_atoms]] + rng.uniform(-0.03, 0.03, (n_atoms, 3))
    return PackedStructure.from_arrays(lattice, coords, rng.choice(elements, n_atoms))


def small_model(seed: int = 0, spec: GraphSpec = NEAREST, *, trained: bool = True) -> VoltageModel:
    """Random weights; with `trained`, also random intervals, domain and linear locals.

    A spec with insertion sites gives the ion-conditioned readout, another one head an ion.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    table = build_element_table()
    conditioned = spec.insertion_sites
    trunk = Trunk(torch.from_numpy(table.features), spec, edge_norm=not conditioned)
    trunk = trunk.eval().requires_grad_(False)
    for convolution in trunk.convs:
        if not conditioned:
            convolution.bn1.running_mean.normal_(0, 0.1)
        convolution.bn2.running_var.uniform_(0.5, 2.0)
    readout = IonConditionedReadout(IONS) if conditioned else IonHeads(len(IONS))
    readout = readout.double().eval().requires_grad_(False)
    readout.scale.fill_(0.9)
    readout.mean.fill_(2.5)
    p = readout.n_pooled
    card = ModelCard(
        name="small", description="for tests", created="2026-01-01", recipe="random weights",
        ions=list(IONS), graph_spec=spec.name, element_table_hash=table.hash,
        host_state="as_given", intervals="none", local_voltages="none", intended_use="tests",
        limits=[], command="none",
    )  # fmt: skip
    return VoltageModel(
        name="small",
        ions=IONS,
        graph_spec=spec,
        table=table,
        trunk=trunk,
        readout=readout,
        baseline=rng.uniform(0, 1, p),
        linear=LinearLocal(rng.normal(size=(3, 64)) / 64, rng.normal(size=3), 10.0)
        if trained
        else None,
        intervals=Intervals(
            np.array([0.5, 0.6, 0.7]),
            np.array([0.7, 0.8, 0.9]),
            np.array([0.9, 1.0, 1.1]),
        )
        if trained
        else None,
        domain=_random_domain(rng, p) if trained else None,
        card=card,
    )


def two_branch_model(seed: int = 0, kernel: str = "exponential") -> VoltageModel:
    """The mean of a small model with insertion sites and of a random process on another trunk."""
    first, second = small_model(seed, INSERTION), small_model(seed + 1, INSERTION)
    process = random_process(seed, kernel)
    readout = MeanReadout([first.readout, process]).eval().requires_grad_(False)
    rng = np.random.default_rng(seed)
    labels, voltages = rng.uniform(1, 4, (2, len(IONS), len(process.hosts)))
    metric = (process.center.numpy().copy(), 1 / process.factor.numpy())
    pooled = process.points.numpy() * metric[1] + metric[0]
    neighborhood = find_neighborhood(pooled, labels, voltages, metric)
    return replace(
        first,
        trunk=Trunks([first.trunk, second.trunk]).eval(),
        readout=readout,
        baseline=rng.uniform(0, 1, readout.n_pooled),
        linear=LinearLocal(rng.normal(size=(3, 128)) / 64, rng.normal(size=3), 10.0),
        domain=Domain.of(
            replace(neighborhood, hosts=process.training_hosts), np.array([0.3, 0.3, 0.2])
        ),
    )


def random_process(seed: int = 0, kernel: str = "exponential", n_hosts: int = 20) -> ProcessReadout:
    """On hosts whose features lie between 0 and 1; three rows a host."""
    rng = np.random.default_rng(seed)
    process = ProcessReadout(IONS, n_hosts, 3 * n_hosts).double()
    p = process.n_pooled
    points = rng.uniform(-0.5, 0.5, (n_hosts, p)) / 5
    step = np.abs(points).max(0) / N_STEPS
    state = {
        "kernel": np.array([list(KERNELS).index(kernel)], np.int16),
        "center": np.full(p, 0.5),
        "factor": np.full(p, 0.004),  # random trunks give vectors of hundreds
        "step": step,
        "hosts": np.round(points / step).astype(np.int8),
        "host_of_row": np.tile(np.arange(n_hosts, dtype=np.int16), 3),
        "ion_of_row": np.repeat(np.arange(3, dtype=np.uint8), n_hosts),
        "shares_of_row": rng.uniform(0, 0.3, (3 * n_hosts, 2)),
        "amounts": rng.normal(size=3 * n_hosts),
        "between_ions": np.full((3, 3), 0.6) + 0.4 * np.eye(3),
        "shares_weight": np.array([2.0, 3.0]),
        "constant": np.array([2.0, 2.5, 3.0]),
    }
    own = {name: torch.from_numpy(value) for name, value in state.items()}
    process.load_state_dict(process.state_dict() | own)
    return process.eval().requires_grad_(False)


def _random_domain(rng: np.random.Generator, n_pooled: int) -> Domain:
    labels, voltages = rng.uniform(1, 4, (2, 3, 30))
    neighborhood = find_neighborhood(rng.uniform(0, 1, (30, n_pooled)), labels, voltages)
    return Domain.of(neighborhood, np.array([0.3, 0.3, 0.2]))
