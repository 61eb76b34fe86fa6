"""Comparison of graphs built on a device with those that numba builds."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from voltscreen.graph import GraphBatch, GraphSpec, build_graphs
from voltscreen.graph.on_device.build import DeviceGraphs, build_on_device
from voltscreen.graph.on_device.crystals import Crystals
from voltscreen.structures import PackedStructure

DEVICES = pytest.mark.parametrize(
    "device",
    [
        torch.device("cpu"),
        pytest.param(
            torch.device("cuda"),
            marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
        ),
    ],
    ids=str,
)
ATOL = 2e-6
"""Distances and weights are float32."""


def build(structures: list[PackedStructure], spec: GraphSpec, device: torch.device) -> GraphBatch:
    """The graphs that are built on a device, as arrays."""
    return as_batch(build_on_device(Crystals.from_structures(structures, device), spec))


def as_batch(graphs: DeviceGraphs) -> GraphBatch:
    names = [name for name in GraphBatch.__dataclass_fields__ if name != "spec"]
    arrays = {name: getattr(graphs, name).cpu().numpy() for name in names}
    return GraphBatch(spec=graphs.spec, **arrays)


def assert_equal_graphs(
    structures: list[PackedStructure], spec: GraphSpec, device: torch.device
) -> None:
    """Node by node and edge by edge; sites that nothing tells apart may have changed places."""
    found, expected = build(structures, spec, device), build_graphs(structures, spec)
    for name in ("offsets", "n_sites", "atomic_numbers", "counts"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), name)
    assert len(found.neighbors) == len(expected.neighbors)
    np.testing.assert_allclose(found.volumes, expected.volumes, rtol=1e-12)
    np.testing.assert_array_equal(found.n_undercoordinated, expected.n_undercoordinated)
    np.testing.assert_array_equal(found.isolated_atom, expected.isolated_atom)
    for one, other in zip(edges_of_atoms(found), edges_of_atoms(expected), strict=True):
        np.testing.assert_allclose(one, other, atol=ATOL, rtol=0)
    for one, other in zip(sites_of(found), sites_of(expected), strict=True):
        for site in one:
            alike = [k for k, row in enumerate(other) if is_close(site, row)]
            assert alike, f"{site} is none of {other}"
            del other[alike[0]]


def is_close(one: np.ndarray, other: np.ndarray) -> bool:
    """Voids of one clearance that look alike to the rule stand for each other, whichever rounding
    puts first: their neighbours may differ a little.
    """
    if one.shape != other.shape or not np.allclose(one[:3], other[:3], atol=1e-5, rtol=0):
        return False
    return np.allclose(one[3:], other[3:], atol=5e-3, rtol=0)


def edges_of(graphs: GraphBatch) -> list[np.ndarray]:
    """Receiver, sender, distance and weight of the edges; of one pair the nearest first."""
    receiver = np.repeat(np.arange(len(graphs.atomic_numbers)), np.diff(graphs.edge_offsets))
    order = np.lexsort((-graphs.weights, graphs.distances, graphs.neighbors, receiver))
    return [
        array[order] for array in (receiver, graphs.neighbors, graphs.distances, graphs.weights)
    ]


def edges_of_atoms(graphs: GraphBatch) -> list[np.ndarray]:
    """The same of the edges that lead to atoms."""
    edges = edges_of(graphs)
    return [array[graphs.atomic_numbers[edges[0]] > 0] for array in edges]


def sites_of(graphs: GraphBatch) -> list[list[np.ndarray]]:
    """Of the sites of every structure clearance, distance and weight, and elements, distances and
    weights of their neighbours.
    """
    rows: list[list[np.ndarray]] = []
    first = np.concatenate(([0], np.cumsum(graphs.n_sites)))
    for b in range(len(graphs)):
        rows.append([])
        for k in range(first[b], first[b + 1]):
            node = graphs.offsets[b + 1] - first[b + 1] + k
            edges = slice(graphs.edge_offsets[node], graphs.edge_offsets[node + 1])
            numbers = graphs.atomic_numbers[graphs.neighbors[edges]]
            order = np.lexsort((graphs.distances[edges], numbers))
            site = [graphs.site_clearances[k], graphs.site_distances[k], graphs.site_weights[k]]
            seen = np.stack((numbers, graphs.distances[edges], graphs.weights[edges]))[:, order]
            rows[-1].append(np.concatenate((site, seen.ravel())))
    return rows
