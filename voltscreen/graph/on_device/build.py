"""`DeviceGraphs`: the graphs of many crystals, built where the network runs."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from voltscreen.graph.batch import GraphBatch
from voltscreen.graph.on_device.crystals import Crystals
from voltscreen.graph.on_device.edges import find_edges
from voltscreen.graph.on_device.near import Points
from voltscreen.graph.on_device.ragged import offsets_of, owners, sums
from voltscreen.graph.on_device.voids import Sites, find_sites
from voltscreen.graph.spec import GraphSpec


@dataclass(frozen=True, slots=True)
class DeviceGraphs:
    """What a `GraphBatch` holds, as tensors on one device; shapes, order and units as there.

    All integers are int64, distances, weights and what is told of sites float32, volumes float64.
    """

    spec: GraphSpec
    atomic_numbers: Tensor
    offsets: Tensor
    n_sites: Tensor
    counts: Tensor
    edge_offsets: Tensor
    neighbors: Tensor
    distances: Tensor
    weights: Tensor
    site_weights: Tensor
    site_clearances: Tensor
    site_distances: Tensor
    volumes: Tensor

    @classmethod
    def from_batch(cls, batch: GraphBatch, device: torch.device) -> DeviceGraphs:
        """Copy graphs that were built on the CPU."""
        names = (item.name for item in fields(cls) if item.name != "spec")
        tensors = {name: torch.from_numpy(getattr(batch, name)).to(device) for name in names}
        return cls(spec=batch.spec, **tensors)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def structure_of_node(self) -> Tensor:
        """(n,) int64."""
        return owners(self.offsets.diff())

    @property
    def receivers(self) -> Tensor:
        """(e,) int64, node that receives."""
        return owners(self.edge_offsets.diff())

    @property
    def n_atoms(self) -> Tensor:
        """(b,) int64: atoms of each structure."""
        atoms = torch.where(self.atomic_numbers > 0, self.counts, 0)
        return sums(atoms, self.structure_of_node, len(self))

    @property
    def n_undercoordinated(self) -> Tensor:
        """(b,) int64: atoms of each structure with fewer neighbours than places."""
        held = sums(self.weights.double(), self.receivers, len(self.atomic_numbers))
        short = (held < self.spec.n_neighbors - 1e-3) & (self.atomic_numbers > 0)
        return sums(torch.where(short, self.counts, 0), self.structure_of_node, len(self))

    @property
    def isolated_atom(self) -> Tensor:
        """(b,) int64: first atom of each structure that no other atom is near, or -1."""
        alone = (self.edge_offsets.diff() == 0) & (self.atomic_numbers > 0)
        nodes = torch.nonzero(alone)[:, 0]
        owner = self.structure_of_node[nodes]
        none = torch.iinfo(torch.int64).max
        found = torch.full_like(self.n_sites, none)
        found.scatter_reduce_(0, owner, nodes - self.offsets[owner], "amin")
        return torch.where(found == none, -1, found)


def build_on_device(
    crystals: Crystals, spec: GraphSpec, sites: Sites | None = None
) -> DeviceGraphs:
    """The graphs of structures, in their order; those that `build_graphs` gives.

    Nodes and edges are the same, edges of one node in another order. Sites that nothing tells
    apart may stand for each other.

    Args:
        crystals: at least one, checked ones (finite, with volume and without overlaps).
        spec: the rules; not those in the order of the original code.
        sites: the insertion sites, where somebody has them already.

    Raises:
        ValueError: a spec with `original_order`.
    """
    if spec.original_order:
        raise ValueError(f"graphs by {spec.name} are built by build_graphs alone")
    device, n_atoms = crystals.device, crystals.n_atoms
    if not spec.insertion_sites:
        sites = _no_sites(crystals)
    elif sites is None:
        sites = find_sites(crystals)
    offsets = offsets_of(n_atoms + sites.counts)
    owner = owners(n_atoms + sites.counts)
    place = torch.arange(len(owner), device=device) - offsets[owner]
    is_site = place >= n_atoms[owner]
    coords = crystals.frac_coords.new_empty(len(owner), 3)
    coords[~is_site] = crystals.wrapped if spec.shell_width else crystals.frac_coords
    coords[is_site] = sites.frac_coords
    numbers = torch.zeros_like(owner)
    numbers[~is_site] = crystals.atomic_numbers
    atom = torch.where(is_site, -1, crystals.offsets[owner] + place)
    edges = find_edges(crystals, Points(coords, owner, atom), spec)
    node_of_atom = torch.nonzero(~is_site)[:, 0]
    return DeviceGraphs(
        spec=spec,
        atomic_numbers=numbers,
        offsets=offsets,
        n_sites=sites.counts,
        counts=torch.ones_like(numbers),
        edge_offsets=offsets_of(edges.counts),
        neighbors=node_of_atom[edges.atoms],
        distances=edges.distances.float(),
        weights=edges.weights.float(),
        site_weights=sites.weights.float(),
        site_clearances=sites.clearances.float(),
        site_distances=sites.distances.float(),
        volumes=crystals.volumes,
    )


def _no_sites(crystals: Crystals) -> Sites:
    none = crystals.frac_coords.new_zeros(0)
    return Sites(torch.zeros_like(crystals.n_atoms), none.view(0, 3), none, none, none)
