"""Which hosts of its training set a model finds most like a host."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path

import numpy as np
import torch

from voltscreen.graph import build_graphs
from voltscreen.model.nearest import nearest_hosts
from voltscreen.model.trunk import GraphTensors
from voltscreen.model.voltage_model import VoltageModel
from voltscreen.structures import PackedStructure

NAMES = "training_hosts.csv"
"""Beside the shipped weights: a line with the hash of the training data, then id and formula of
every host in the order of the data. Written by `python training/name_hosts.py`."""


@dataclass(frozen=True, slots=True)
class NearHost:
    """A training host near another host.

    host_id: Materials Project id of the charged end. ions: those it is labelled for.
    distance: in the model's feature space, in standard deviations of the training hosts.
    """

    host_id: str
    formula: str
    ions: tuple[str, ...]
    distance: float


def nearest_training_hosts(
    model: VoltageModel, hosts: Sequence[PackedStructure], n_nearest: int = 6
) -> list[list[NearHost]]:
    """For each host the nearest training hosts of any ion, nearest first.

    Empty for a model without training data, or whose training hosts have no names here.
    """
    names = _names().get(model.card.data.sha256 if model.card.data else "")
    if model.domain is None or names is None or not hosts:
        return [[] for _ in hosts]
    near = model.domain.neighborhood
    graphs = build_graphs(list(hosts), model.graph_spec)
    with torch.inference_mode():
        graph = GraphTensors.from_batch(graphs, model.device)
        pooled = model.readout.pool(model.trunk(graph).double(), graph).cpu().numpy()
    features = pooled[:, -len(near.center) :]
    points = ((features - near.center) / near.spread).astype(np.float32)
    everywhere = np.atleast_2d(near.trained_on.any(axis=0))
    which, distances = nearest_hosts(points, near.hosts, everywhere, n_nearest)
    return [
        [
            NearHost(
                host_id=names[host][0],
                formula=names[host][1],
                ions=tuple(ion for x, ion in enumerate(model.ions) if near.trained_on[x, host]),
                distance=float(distance),
            )
            for host, distance in zip(own, apart, strict=True)
            if host >= 0
        ]
        for own, apart in zip(which[0].tolist(), distances[0], strict=True)
    ]


def names_file() -> Path:
    """The shipped table of names, wherever in the package it lies."""
    package = Path(str(resources.files("voltscreen.model")))
    return next(package.glob(f"*/{NAMES}"))


@cache
def _names() -> dict[str, list[tuple[str, str]]]:
    """(id, formula) of the training hosts, by the hash of the training data."""
    sha256, *lines = names_file().read_text(encoding="utf-8").splitlines()
    pairs = [line.split(",") for line in lines]
    return {sha256: [(host_id, formula) for host_id, formula in pairs]}
