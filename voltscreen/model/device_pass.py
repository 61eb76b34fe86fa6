"""Crystals to voltages on one device: graphs, trunk, readout and uncertainty in torch operations.

The CPU takes part with what it must: the structures, and the predictions that leave the device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from voltscreen.graph import build_graphs
from voltscreen.graph.on_device.alike import DeviceMerged, merge_alike_on_device
from voltscreen.graph.on_device.build import DeviceGraphs, build_on_device
from voltscreen.graph.on_device.crystals import Crystals
from voltscreen.graph.on_device.voids import Sites
from voltscreen.model.branches import Trunks
from voltscreen.model.device_domain import DeviceDomain
from voltscreen.model.device_trunk import DeviceTrunk
from voltscreen.model.trunk import GraphTensors
from voltscreen.structures import PackedStructure

if TYPE_CHECKING:
    from voltscreen.model.voltage_model import VoltageModel


@dataclass(frozen=True, slots=True)
class DevicePrediction:
    """What a model says of b hosts with a atoms in all, for its x ions, as tensors on the device.

    voltages, sites: (x, b) float64, volt. difficulties, percentiles: (x, b) float64, of the domain,
    or None. undercoordinated, isolated_atoms: (b,) int64, of the graphs. linear, additive: (x, a)
    float32, volt; linear is None for a model without training data.
    """

    voltages: Tensor
    sites: Tensor
    difficulties: Tensor | None
    percentiles: Tensor | None
    undercoordinated: Tensor
    isolated_atoms: Tensor
    linear: Tensor | None
    additive: Tensor


class DevicePass:
    """A model made ready for the device that it is on; a model that moves needs a new one.

    trunk: graphs to the vectors of their nodes.
    """

    def __init__(self, model: VoltageModel) -> None:
        self._model = model
        self.device = model.device
        trunks = model.trunk.each if isinstance(model.trunk, Trunks) else [model.trunk]
        self.trunk = DeviceTrunk(trunks, model.graph_spec)
        self._baseline = torch.from_numpy(model.baseline).to(self.device)
        self._domain = DeviceDomain(model.domain, self.device) if model.domain else None

    @torch.inference_mode()
    def graphs(
        self, structures: Sequence[PackedStructure], sites: Sites | None = None
    ) -> DeviceGraphs:
        """The graphs of hosts, at least one, by the model's rules. Those in the order of the
        original code are built on the CPU; sites are found here where nobody has them.
        """
        spec = self._model.graph_spec
        if spec.original_order:
            return DeviceGraphs.from_batch(build_graphs(structures, spec), self.device)
        return build_on_device(Crystals.from_structures(structures, self.device), spec, sites)

    @torch.inference_mode()
    def predict(self, plain: DeviceGraphs, wanted: Tensor) -> DevicePrediction:
        """The prediction of graphs on this device.

        Args:
            plain: of b hosts.
            wanted: (x, b) bool; shares of other ions and hosts mean nothing.
        """
        merged = merge_alike_on_device(plain)
        graph = GraphTensors.from_device(merged.graphs)
        return self.read(plain, merged, graph, self.trunk(graph), wanted)

    @torch.inference_mode()
    def read(
        self,
        plain: DeviceGraphs,
        merged: DeviceMerged,
        graph: GraphTensors,
        vectors: Tensor,
        wanted: Tensor,
    ) -> DevicePrediction:
        """The prediction of the vectors (k, 64 t) of merged graphs by t trunks."""
        model = self._model
        reading = model.readout.read(vectors, graph)
        shares = model.readout.shares(reading, graph, self._baseline, wanted)
        # From kinds of nodes to atoms.
        kinds = merged.kind_of_node[plain.atomic_numbers > 0]
        atoms = ((~graph.is_site).cumsum(0) - 1)[kinds]
        linear = None
        if model.linear:
            linear = model.linear.local_voltages(vectors[~graph.is_site]).float()[:, atoms]
        difficulties = percentiles = None
        if self._domain:
            difficulties = self._domain.difficulty(reading.pooled, reading.squares)
            percentiles = self._domain.percentile(difficulties)
        return DevicePrediction(
            voltages=reading.voltages,
            sites=shares.site,
            difficulties=difficulties,
            percentiles=percentiles,
            undercoordinated=plain.n_undercoordinated,
            isolated_atoms=plain.isolated_atom,
            linear=linear,
            additive=shares.atoms.float()[:, atoms],
        )
