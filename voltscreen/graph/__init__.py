"""Crystal to 12-neighbour graph, and batches of graphs."""

from voltscreen.graph.batch import GraphBatch, build_graphs, chunks_of_atoms
from voltscreen.graph.spec import GRAPH_SPECS, NEAREST, PAPER, GraphSpec

__all__ = [
    "GRAPH_SPECS",
    "NEAREST",
    "PAPER",
    "GraphBatch",
    "GraphSpec",
    "build_graphs",
    "chunks_of_atoms",
]
