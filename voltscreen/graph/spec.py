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
    first_center, last_center, gaussian_step: centres of the Gaussians of the edge feature, and
        their distance, which is also their width, angstrom.
    shell_width: 0 where an atom has its exact `n_neighbors` nearest neighbours. Otherwise the
        last of the places is shared: a neighbour at distance d has weight
        min(1, (R - d) / shell_width), with R such that the weights add up to `n_neighbors`, so
        that ties need no decision and the weights move smoothly with the atoms (angstrom).
    original_order: ties at the last neighbour are decided in the order of the original CGCNN
        code (pymatgen's search over the whole cutoff sphere, stable sort by distance);
        otherwise by site index, then by the image's index along a, b and c.
    insertion_sites: whether the host's insertion sites are nodes, which receive messages from
        atoms and send none.
    """

    name: str
    n_neighbors: int = 12
    cutoff: float = 8.0
    first_center: float = 0.0
    last_center: float = 8.0
    gaussian_step: float = 0.2
    shell_width: float = 0.0
    original_order: bool = False
    insertion_sites: bool = False

    @property
    def centers(self) -> NDArray[np.float32]:
        """(n_gaussians,) float32: centres of the Gaussians, angstrom."""
        count = round((self.last_center - self.first_center) / self.gaussian_step) + 1
        return (self.first_center + np.arange(count) * self.gaussian_step).astype(np.float32)


NEAREST = GraphSpec("nearest-1")
"""The exact 12 nearest periodic neighbours, found with a growing radius."""
PAPER = GraphSpec("paper-1", original_order=True)
"""The neighbour lists of the original code, on which the paper's checkpoints were trained."""
SHARED = GraphSpec("shared-1", first_center=0.8, last_center=6.0, shell_width=0.2)
"""12 places shared among the tied shell: the graph is a property of the crystal."""
INSERTION = GraphSpec(
    "insertion-2", first_center=0.8, last_center=6.0, shell_width=0.2, insertion_sites=True
)
"""The same with the insertion sites as nodes."""

GRAPH_SPECS: dict[str, GraphSpec] = {
    spec.name: spec for spec in (NEAREST, PAPER, SHARED, INSERTION)
}
