"""`VoltageModel`: trunk, readout, local voltages and uncertainty, as one thing with one id."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from voltscreen.graph import GraphBatch, GraphSpec
from voltscreen.model.branches import Trunks
from voltscreen.model.card import ModelCard
from voltscreen.model.element_table import ElementTable
from voltscreen.model.folded import FoldedTrunk
from voltscreen.model.local_voltage import LinearLocal
from voltscreen.model.readout import Readout
from voltscreen.model.trunk import Trunk
from voltscreen.model.uncertainty import Domain, Intervals

if TYPE_CHECKING:
    from voltscreen.model.device_pass import DevicePass


@dataclass(frozen=True, eq=False)
class VoltageModel:
    """A trained network for one or more working ions.

    name: what people call it. ions: in the order of every (ions, ...) array.
    graph_spec: rules of the graphs it was trained on. table: node features.
    trunk: float32, evaluation mode; two side by side where the readout is a mean of two.
    readout: float64.
    baseline: (p,) float64, pooled vector from which `additive` local voltages count.
    linear, intervals, domain: None for a model that came without training data.
    """

    name: str
    ions: tuple[str, ...]
    graph_spec: GraphSpec
    table: ElementTable
    trunk: Trunk | Trunks
    readout: Readout
    baseline: NDArray[np.float64]
    linear: LinearLocal | None
    intervals: Intervals | None
    domain: Domain | None
    card: ModelCard

    @property
    def device(self) -> torch.device:
        """Where the trunk runs."""
        return next(self.trunk.parameters()).device

    @cached_property
    def folded(self) -> Callable[[GraphBatch], NDArray[np.float32]]:
        """The trunk made ready for inference on the CPU."""
        trunks = self.trunk.each if isinstance(self.trunk, Trunks) else [self.trunk]
        parts = [FoldedTrunk(trunk, self.graph_spec) for trunk in trunks]
        if len(parts) == 1:
            return parts[0]
        return lambda graphs: np.hstack([part(graphs) for part in parts])

    @cached_property
    def on_device(self) -> DevicePass:
        """The model made ready for the device that it is on."""
        from voltscreen.model.device_pass import DevicePass

        return DevicePass(self)

    def to(self, device: torch.device) -> VoltageModel:
        """Move trunk and readout to a device, in place; returns the model itself."""
        self.trunk.to(device)
        self.readout.to(device)
        self.__dict__.pop("on_device", None)
        return self

    def tensors(self) -> dict[str, Tensor]:
        """Everything that decides a prediction, by name, on the CPU."""
        arrays: dict[str, NDArray[np.generic]] = {
            "element_table.features": self.table.features,
            "element_table.known": self.table.known.astype(np.uint8),
            "baseline": self.baseline,
        }
        if self.linear:
            arrays |= {"linear.weights": self.linear.weights, "linear.bias": self.linear.bias}
            arrays["linear.ridge"] = np.array([self.linear.ridge])
        if self.intervals:
            arrays |= {f"intervals.{k}": v for k, v in self.intervals.arrays().items()}
        if self.domain:
            arrays |= {f"domain.{k}": v for k, v in self.domain.arrays().items()}
            if self.readout.training_hosts is not None:
                # The readout has them, and finer.
                del arrays["domain.hosts"]
        tensors = {key: torch.from_numpy(np.ascontiguousarray(a)) for key, a in arrays.items()}
        for part, module in (("trunk", self.trunk), ("readout", self.readout)):
            for key, value in module.state_dict().items():
                tensors[f"{part}.{key}"] = value.detach().cpu().contiguous()
        return tensors

    @cached_property
    def id(self) -> str:
        """16 hex digits: the hash of graph rules, ions, weights and element table."""
        digest = hashlib.sha256(f"{self.graph_spec.name} {' '.join(self.ions)}".encode())
        for key, tensor in sorted(self.tensors().items()):
            digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.numpy().tobytes())
        return digest.hexdigest()[:16]
