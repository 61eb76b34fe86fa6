"""`GraphSpec`: the named, versioned rules by which a crystal becomes a graph.

A model is only right on graphs built by the rules that it was trained on, so every model file
names its spec.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class GraphSpec:
    """Rules of a crystal graph.

    name: what model files store; a change of any rule is a new name.
    n_neighbors: neighbours of an atom.
    cutoff: no neighbour is farther, angstrom.
    gaussian_step: distance between, and width of, the Gaussians of the edge feature, angstrom.
    original_order: ties at the last neighbour are decided in the order of the original CGCNN
        code (pymatgen's search over the whole cutoff sphere, stable sort by distance);
        otherwise by site index, then by the image's index along a, b and c.
    """

    name: str
    n_neighbors: int = 12
    cutoff: float = 8.0
    gaussian_step: float = 0.2
    original_order: bool = False

    @property
    def centers(self) -> NDArray[np.float32]:
        """(n_gaussians,) float32: centres of the Gaussians from 0 to the cutoff, angstrom."""
        n_gaussians = round(self.cutoff / self.gaussian_step) + 1
        return (np.arange(n_gaussians) * self.gaussian_step).astype(np.float32)


NEAREST = GraphSpec("nearest-1")
"""The exact 12 nearest periodic neighbours, found with a growing radius."""
PAPER = GraphSpec("paper-1", original_order=True)
"""The neighbour lists of the original code, on which the paper's checkpoints were trained."""

GRAPH_SPECS: dict[str, GraphSpec] = {spec.name: spec for spec in (NEAREST, PAPER)}
