"""What the trunk makes of elements and atoms: the vectors behind the voltages."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from voltscreen.graph import build_graphs, chunks_of_atoms
from voltscreen.model.predictor import ATOMS_PER_CHUNK
from voltscreen.model.trunk import GraphTensors
from voltscreen.model.voltage_model import VoltageModel
from voltscreen.structures import PackedStructure


def element_vectors(
    model: VoltageModel, atomic_numbers: NDArray[np.integer]
) -> NDArray[np.float64]:
    """(k, f): the trunk's embedding of these elements, before any convolution."""
    with torch.inference_mode():
        rows = torch.as_tensor(np.asarray(atomic_numbers, dtype=np.int64), device=model.device)
        vectors = model.trunk.elements(rows)
    found: NDArray[np.float64] = vectors.double().cpu().numpy()
    return found


def atom_vectors(model: VoltageModel, hosts: Sequence[PackedStructure]) -> NDArray[np.float32]:
    """(n_atoms, f): the last convolution's vectors of all atoms, one host after another.

    Args:
        hosts: checked ones (finite, with volume and without overlaps).
    """
    sizes = np.array([len(host) for host in hosts], dtype=np.int64)
    parts = [np.zeros((0, model.trunk.n_features), np.float32)]
    for which in chunks_of_atoms(sizes, ATOMS_PER_CHUNK[model.device.type]):
        graphs = build_graphs([hosts[i] for i in which], model.graph_spec)
        with torch.inference_mode():
            graph = GraphTensors.from_batch(graphs, model.device)
            parts.append(model.trunk(graph)[~graph.is_site].float().cpu().numpy())
    return np.concatenate(parts)
