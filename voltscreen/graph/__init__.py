"""Crystal to 12-neighbour graph, and batches of graphs."""

from voltscreen.graph.alike import Merged, merge_alike
from voltscreen.graph.batch import GraphBatch, build_graphs, chunks_of_atoms
from voltscreen.graph.spec import GRAPH_SPECS, INSERTION, NEAREST, PAPER, SHARED, GraphSpec

__all__ = [
    "GRAPH_SPECS",
    "INSERTION",
    "NEAREST",
    "PAPER",
    "SHARED",
    "GraphBatch",
    "GraphSpec",
    "Merged",
    "build_graphs",
    "chunks_of_atoms",
    "merge_alike",
]
