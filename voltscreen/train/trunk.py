"""Training a trunk on the ion with the most data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from voltscreen.graph import GraphBatch, chunks_of_atoms
from voltscreen.model.element_table import ElementTable
from voltscreen.model.heads import IonHeads
from voltscreen.model.trunk import GraphTensors, Trunk, mean_pool


@dataclass(frozen=True, slots=True)
class TrunkOptions:
    """How a trunk is trained; fixed beforehand, no test row chooses any of it.

    epochs: passes over the rows. batch_size: structures a step. learning_rate: peak of a
    one-cycle schedule. weight_decay: AdamW's. seed: of initial weights and order.
    """

    epochs: int = 40
    batch_size: int = 64
    learning_rate: float = 4e-3
    weight_decay: float = 1e-2
    seed: int = 0


def train_trunk(
    graphs: GraphBatch,
    structures: NDArray[np.int64],
    voltages: NDArray[np.float64],
    table: ElementTable,
    options: TrunkOptions,
    progress: Callable[[int, float], None] | None = None,
) -> tuple[Trunk, IonHeads]:
    """Fit trunk and one head jointly to (structure, voltage) rows.

    Args:
        graphs: graphs of all structures; structures: (r,) index of each row's structure;
        voltages: (r,), volt; table: node features; options: see there;
        progress: called after each epoch with its number and mean loss.

    Returns:
        The trunk in evaluation mode, and its head.
    """
    torch.manual_seed(options.seed)
    rng = np.random.default_rng(options.seed)
    trunk = Trunk(torch.from_numpy(table.features), graphs.spec)
    head = IonHeads(1)
    head.mean.fill_(float(voltages.mean()))
    head.scale.fill_(float(voltages.std()))
    parameters = [*trunk.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(parameters, weight_decay=options.weight_decay)
    steps = options.epochs * -(-len(structures) // options.batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, options.learning_rate, total_steps=steps, pct_start=0.2
    )
    device = torch.device("cpu")
    trunk.train()
    for epoch in range(options.epochs):
        losses = []
        for rows in _batches(len(structures), options.batch_size, rng):
            graph = GraphTensors.from_batch(graphs.select(structures[rows]), device)
            predicted = head(mean_pool(trunk(graph), graph))[0]
            target = torch.from_numpy(voltages[rows]).float()
            loss = functional.smooth_l1_loss(predicted / head.scale, target / head.scale)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(parameters, 5.0)
            optimizer.step()
            schedule.step()
            losses.append(float(loss.detach()))
        if progress:
            progress(epoch + 1, float(np.mean(losses)))
    return freeze(trunk), head


def freeze(trunk: Trunk) -> Trunk:
    """Evaluation mode (batch-norm statistics fixed) and no gradients."""
    trunk.eval()
    return trunk.requires_grad_(False)


def pooled_features(
    trunk: Trunk, graphs: GraphBatch, atoms_per_chunk: int = 2000
) -> NDArray[np.float64]:
    """(b, 64) float64: the pooled vector of every structure by a frozen trunk."""
    device = next(trunk.parameters()).device
    pooled = []
    with torch.inference_mode():
        for which in chunks_of_atoms(graphs.n_atoms, atoms_per_chunk):
            graph = GraphTensors.from_batch(graphs.select(which), device)
            pooled.append(mean_pool(trunk(graph).double(), graph).cpu().numpy())
    return np.concatenate(pooled)


def _batches(n_rows: int, batch_size: int, rng: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    order = rng.permutation(n_rows)
    for start in range(0, n_rows, batch_size):
        yield order[start : start + batch_size]
