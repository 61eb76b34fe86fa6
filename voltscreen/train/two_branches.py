"""The default model: the mean of the fine-tuned network and of the process on the frozen trunk.

The two err differently: the network has adapted its trunk to voltages, the process weighs the
labels of like hosts and ions. The mean is plain; no weight was chosen.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from voltscreen.graph import GraphBatch, chunks_of_atoms
from voltscreen.ions import ION_SYMBOLS
from voltscreen.model.branches import MeanReadout, Trunks
from voltscreen.model.local_voltage import LinearLocal, fit_linear_local
from voltscreen.model.process import KERNELS, ProcessReadout
from voltscreen.model.readout import Readout
from voltscreen.model.trunk import N_FEATURES, GraphTensors, Trunk
from voltscreen.model.uncertainty import Domain
from voltscreen.model.voltage_model import VoltageModel
from voltscreen.train.dataset import LabelledElectrodes
from voltscreen.train.distill import CPU, Network
from voltscreen.train.held_out import HeldOutFold, bounds, calibrate, folds_of, neighborhood_of
from voltscreen.train.out_of_fold import OutOfFold
from voltscreen.train.parts import PartKey, Workshop, ion_index, pretrained
from voltscreen.train.report import build_report
from voltscreen.train.splits import Split

NETWORK_RECIPE = "distilled"
PROCESS_RECIPE = "process"
MODEL_RECIPE = f"{NETWORK_RECIPE}+{PROCESS_RECIPE}"
RIDGE = 10.0
"""On the centred pooled features, for `linear` local voltages: it keeps the spread of V_i over
bootstrap samples near 0.2 V."""
ATOMS_PER_CHUNK = 2000
_COMPARED = (
    "the second branch's design (features, kernels, equal weights) was settled by looking at "
    "errors of the grouped and random folds, which may be a few millivolts too good for it"
)


def process_key(split: str, fold: int | None) -> PartKey:
    """The part of the process."""
    return PartKey(PROCESS_RECIPE, split, fold)


def add_two_branches(store: OutOfFold, shop: Workshop) -> None:
    """The process and the model on every split that the network is on, with intervals.

    Intervals and percentiles rest on the grouped folds: for a grouped fold on the other four, for
    the other splits on all five.
    """
    data = shop.data
    grouped = _held_out(store, shop, shop.splits["grouped"])
    everything = calibrate(data, grouped.values())
    for name in store.splits(NETWORK_RECIPE):
        split = shop.splits[name]
        folds, columns = _held_out(store, shop, split), []
        for number, fold in folds.items():
            calibration = everything
            if name == "grouped":
                calibration = calibrate(data, (folds[k] for k in folds if k != number))
            columns.append({"prediction": fold.predicted, **bounds(fold, calibration)})
        rows = np.concatenate([fold.rows for fold in folds.values()])
        row_id, number_of_fold = data.row_id[rows], split.fold[rows]
        store.add(
            MODEL_RECIPE, name, row_id, number_of_fold,
            **{key: np.concatenate([part[key] for part in columns]) for key in columns[0]},
        )  # fmt: skip
        said = np.concatenate([_process_rows(shop, split, fold) for fold in folds])
        store.add(PROCESS_RECIPE, name, row_id, number_of_fold, said)


def _held_out(store: OutOfFold, shop: Workshop, split: Split) -> dict[int, HeldOutFold]:
    """By fold, what the model says of the rows that it tests."""
    beside = store.get(NETWORK_RECIPE, split.name, shop.data).prediction
    return {
        fold: HeldOutFold.of(
            shop.data, split, fold, shop.read(process_key(split.name, fold)), beside
        )
        for fold in folds_of(split)
    }


def _process_rows(shop: Workshop, split: Split, fold: int) -> NDArray[np.float64]:
    rows = split.test_rows(fold)
    said = shop.read(process_key(split.name, fold)).voltages
    return said[shop.data.host_of_row[rows], ion_index(shop.data)[rows]].astype(np.float64)


def with_process(single: VoltageModel, shop: Workshop, store: OutOfFold, name: str) -> VoltageModel:
    """The model of two branches, of a network and the process that was fitted to all rows."""
    data, key = shop.data, process_key("all", None)
    frozen = Network(single.table, single.graph_spec)
    frozen.load_state_dict(shop.read(pretrained(key.seed)).state or {})
    fitted = shop.read(key)
    process = process_of(fitted.state or {})
    if not isinstance(single.trunk, Trunk):
        raise TypeError("the first branch is one network")
    trunk = Trunks([single.trunk, frozen.trunk]).eval().requires_grad_(False)
    readout = MeanReadout([single.readout, process]).eval().requires_grad_(False)
    pooled = _pooled(trunk, readout, shop.insertion_graphs)
    means = np.hstack(
        (pooled[:, :N_FEATURES], pooled[:, single.readout.n_pooled :][:, :N_FEATURES])
    )
    calibration = calibrate(data, _held_out(store, shop, shop.splits["grouped"]).values())
    neighborhood = neighborhood_of(data, np.arange(len(data)), fitted)
    if process.training_hosts is not None:
        neighborhood = replace(neighborhood, hosts=process.training_hosts)
    return replace(
        single,
        name=name,
        trunk=trunk,
        readout=readout,
        baseline=pooled.mean(axis=0),
        linear=fit_linear(data, means),
        intervals=calibration.intervals,
        domain=Domain.of(neighborhood, calibration.weights),
        card=single.card.model_copy(update=_card(single, process, shop, store, name)),
    )


def process_of(state: dict[str, torch.Tensor]) -> ProcessReadout:
    """The readout of a part."""
    process = ProcessReadout(ION_SYMBOLS, len(state["hosts"]), len(state["host_of_row"])).double()
    process.load_state_dict(state)
    return process.eval().requires_grad_(False)


def fit_linear(data: LabelledElectrodes, features: NDArray[np.float64]) -> LinearLocal:
    """By ion, of the mean node vectors (h, f)."""
    fits = [
        fit_linear_local(features[data.host_of_row[rows]], data.voltage[rows], RIDGE)
        for rows in map(data.rows_of, ION_SYMBOLS)
    ]
    return LinearLocal(
        np.stack([weights for weights, _ in fits]), np.array([bias for _, bias in fits]), RIDGE
    )


def _pooled(trunk: Trunks, readout: Readout, graphs: GraphBatch) -> NDArray[np.float64]:
    """(h, p) float64."""
    pooled = []
    with torch.inference_mode():
        for which in chunks_of_atoms(graphs.n_atoms, ATOMS_PER_CHUNK):
            graph = GraphTensors.from_batch(graphs.select(which), CPU)
            pooled.append(readout.pool(trunk(graph).double(), graph).numpy())
    return np.concatenate(pooled)


def _card(
    single: VoltageModel, process: ProcessReadout, shop: Workshop, store: OutOfFold, name: str
) -> dict[str, object]:
    """What its card says in other words than the network's."""
    card, kernel = single.card, list(KERNELS)[int(process.kernel)]
    tried = ", ".join(shop.options.process.kernels)
    return {
        "name": name,
        "description": "Average insertion voltage for ten working ions: mean of `single` and of a "
        "Gaussian process on the features of its trunk before fine-tuning",
        "recipe": f"Mean of two branches. First: {card.recipe} Second: one Gaussian process for "
        "all ions on the pooled features of the pre-trained trunk, frozen. Covariance of two "
        "electrodes: likeness of the hosts times that of the ions, by their descriptors, times "
        "that of the shares of working ions left in the hosts; its numbers are of largest "
        f"marginal likelihood ({shop.options.process}). Kernel: {kernel}, of {tried} the one with "
        "the smallest error on grouped folds inside the training rows, chosen anew in every "
        "fold. The weights of the mean are equal and were not chosen.",
        "own_recipe": MODEL_RECIPE,
        **build_report(shop.data, store, MODEL_RECIPE),
        "intervals": card.intervals.replace(
            "the distance to the nearest training hosts",
            "the distance to the nearest training hosts in the metric of the process",
        ).replace("the model's misfit there", "the process's misfit there without their own label"),
        "local_voltages": card.local_voltages.replace(
            "on the mean node vectors", "on the mean node vectors of both branches"
        ).replace("readout and head", "both branches"),
        "limits": [*card.limits, _COMPARED],
        "seconds": round(shop.seconds),
    }
