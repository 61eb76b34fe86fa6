"""Merging on a device against merging in numba."""

from __future__ import annotations

import numpy as np

from tests.graph.on_device.helpers import DEVICES, as_batch, edges_of
from tests.graph.on_device.test_build import SPECS, symmetric
from tests.model.helpers import random_crystal
from voltscreen.graph import build_graphs, merge_alike
from voltscreen.graph.on_device.alike import merge_alike_on_device
from voltscreen.graph.on_device.build import DeviceGraphs


@DEVICES
@SPECS
def test_kinds_and_their_edges_are_those_of_numba(spec, device) -> None:
    structures = [*symmetric(), random_crystal(0, 12), random_crystal(1, 1)]
    batch = build_graphs(structures, spec)
    expected = merge_alike(batch)
    merged = merge_alike_on_device(DeviceGraphs.from_batch(batch, device))
    np.testing.assert_array_equal(merged.kind_of_node.cpu().numpy(), expected.kind_of_node)
    found = as_batch(merged.graphs)
    assert len(found.atomic_numbers) < 0.7 * len(batch.atomic_numbers)
    for name in ("offsets", "n_sites", "atomic_numbers", "counts", "edge_offsets", "n_atoms"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected.graphs, name), name)
    for name in ("site_weights", "site_clearances", "site_distances", "volumes"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected.graphs, name), rtol=1e-5)
    for one, other in zip(edges_of(found), edges_of(expected.graphs), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)
    np.testing.assert_array_equal(merged.graphs.n_atoms.cpu(), expected.graphs.n_atoms)
