"""Readouts of one pooled vector a host, and the one whose head is told the ion.

Index letters: n nodes, b structures, p pooled features, x ions, h hidden.
"""

from __future__ import annotations

import math
from abc import abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional

from voltscreen.ions import WORKING_IONS
from voltscreen.model.readout import (
    Reading,
    Readout,
    Shares,
    by_atom,
    quadrature,
    share_evenly,
)
from voltscreen.model.readout_kernels import add_product, silu_on_line, silu_slope
from voltscreen.model.trunk import N_FEATURES, GraphTensors, mean_over_atoms, site_pool

N_SCALARS = 3
N_NUMBERS = 119
"""Atomic numbers, and 0."""
N_CONTEXT = 3
N_HIDDEN, N_HIDDEN_2 = 128, 64
N_ION_VECTOR = 16
TARGETS = (
    "voltage",
    "topotactic_voltage",
    "insertion_energy",
    "ion_site_energy",
    "host_shift",
    "moment_change",
)
TYPICAL_ATOMS = 20.0

_TYPICAL_VOLUME = 14.0  # cubic angstrom an atom
_TYPICAL_CLEARANCE = 1.8  # angstrom
_TYPICAL_DISTANCE = 1.9


class HostReadout(Readout):
    """A readout of one vector a host, from which every ion's voltage follows.

    Pooled: the mean of the atoms' vectors (64), the mean of softplus(U v_i + c) (64), the mean
    vector of the insertion sites by their weights (64), and the host's volume an atom, clearance
    and distance of its sites. Every pooled feature but the sites' is a mean over atoms, so that
    the voltage can be told apart atom by atom.
    """

    ion_numbers: Tensor
    ion_of_number: Tensor

    def __init__(self, ions: tuple[str, ...]) -> None:
        super().__init__()
        self.n_pooled = 3 * N_FEATURES + N_SCALARS
        self.widen = nn.Linear(N_FEATURES, N_FEATURES)
        numbers = torch.tensor([WORKING_IONS[ion].atomic_number for ion in ions])
        self.register_buffer("ion_numbers", numbers, False)
        self.register_buffer("ion_of_number", torch.full((N_NUMBERS,), len(ions)), False)
        self.ion_of_number[numbers] = torch.arange(len(ions))

    def atom_features(self, nodes: Tensor) -> Tensor:
        """(n, 128): what is averaged over the atoms, of (n, 64)."""
        return torch.cat((nodes, functional.softplus(self.widen(nodes))), dim=1)

    def pool(self, nodes: Tensor, graph: GraphTensors) -> Tensor:
        """(b, p) pooled features of (n, 64) node vectors."""
        return self._pooled(self.atom_features(nodes[~graph.is_site]), nodes, graph)

    def read(self, nodes: Tensor, graph: GraphTensors) -> Reading:
        """See `Readout.read`. The atoms' features are rounded to float32, their means are not."""
        atoms = nodes[~graph.is_site]
        wide = functional.linear(atoms, self.widen.weight.float(), self.widen.bias.float())
        features = torch.cat((atoms, functional.softplus(wide)), dim=1)
        return self._read(features, self._pooled(features.double(), nodes.double(), graph), graph)

    @abstractmethod
    def _read(self, features: Tensor, pooled: Tensor, graph: GraphTensors) -> Reading:
        """The reading of atoms' features (a, 128) and pooled vectors (b, p)."""

    def _pooled(self, features: Tensor, nodes: Tensor, graph: GraphTensors) -> Tensor:
        """(b, p), of atoms' features (a, 128) and node vectors (n, 64)."""
        sites = nodes.new_zeros(len(graph.n_atoms), 2)
        sites.index_add_(
            0,
            graph.structure_of_node[graph.is_site],
            graph.site_weights[:, None].to(nodes.dtype)
            * torch.stack((graph.site_clearances, graph.site_distances), 1).to(nodes.dtype),
        )
        volume = torch.log(graph.volumes / graph.n_atoms / _TYPICAL_VOLUME).to(nodes.dtype)
        return torch.cat(
            (
                mean_over_atoms(features, graph),
                site_pool(nodes, graph),
                volume[:, None],
                sites[:, :1] - _TYPICAL_CLEARANCE,
                sites[:, 1:] - _TYPICAL_DISTANCE,
            ),
            dim=1,
        )

    def context(self, graph: GraphTensors) -> Tensor:
        """(x, b, 3): shares of the ion and of other working ions among the atoms, size of cell."""
        n_ions, n_hosts = len(self.ion_numbers), len(graph.n_atoms)
        shares = graph.volumes.new_zeros((n_ions + 1) * n_hosts)
        # What is no working ion counts in a last row.
        ion = self.ion_of_number[graph.atomic_numbers]
        shares.index_add_(0, ion * n_hosts + graph.structure_of_node, graph.counts)
        shares = shares.view(n_ions + 1, n_hosts)[:-1] / graph.n_atoms
        size = 0.5 * torch.log(graph.n_atoms / TYPICAL_ATOMS)
        return torch.stack((shares, shares.sum(0) - shares, size.expand_as(shares)), dim=2)

    def apart(
        self,
        reading: Reading,
        graph: GraphTensors,
        baseline: Tensor,
        gradient: Tensor,
        start: Tensor,
        wanted: Tensor,
    ) -> Shares:
        """By atom V(p0) and the atom's own features and its part of the volume; the rest by site.

        V(p0) is that of the mean host with the composition of this one: how much of the ion is
        left in the host is known to the readout, and no atom's own.

        Args:
            gradient: (x, b, p) float32, mean gradient on the line from the baseline;
            start: (x, b) V(p0); wanted: (x, b) bool, as in `shares`.
        """
        n_atom_features = 2 * N_FEATURES
        volume = 3 * N_FEATURES
        owner = graph.structure_of_node[~graph.is_site]
        features = reading.features - baseline[:n_atom_features].float()
        local = by_atom(features, gradient[:, :, :n_atom_features], owner, wanted)
        change = (reading.pooled - baseline).float()[:, n_atom_features:]
        change = gradient[:, :, n_atom_features:] * change
        of_volume = change[:, :, volume - n_atom_features]
        local = local + (start + of_volume)[:, owner]
        return share_evenly(local, change.sum(2) - of_volume, reading.voltages, graph)


class IonConditionedReadout(HostReadout):
    """A head of two layers that is told the ion.

    The head sees the pooled vector, a learned vector and six descriptors of the ion, and the
    context: the share of the ion and of other working ions among the atoms, and the size of the
    cell. The size matters for the insertion energy of one ion a cell alone; for the voltage it is
    set to that of `TYPICAL_ATOMS`. Only the head knows the ion, so one trunk pass serves them all.

    mean, scale: (x, targets): the targets in their units are mean + scale * output.
    """

    descriptors: Tensor
    mean: Tensor
    scale: Tensor

    def __init__(self, ions: tuple[str, ...]) -> None:
        super().__init__(ions)
        self.ion = nn.Parameter(0.3 * torch.randn(len(ions), N_ION_VECTOR))
        self.register_buffer("descriptors", ion_descriptors(ions), persistent=False)
        n_ion = N_ION_VECTOR + self.descriptors.shape[1]
        self.fc1 = nn.Linear(self.n_pooled + n_ion + N_CONTEXT, N_HIDDEN)
        self.fc2 = nn.Linear(N_HIDDEN, N_HIDDEN_2)
        self.out = nn.Linear(N_HIDDEN_2, len(TARGETS))
        self.dropout = nn.Dropout(0.1)
        self.register_buffer("mean", torch.zeros(len(ions), len(TARGETS)))
        self.register_buffer("scale", torch.ones(len(ions), len(TARGETS)))

    def forward(self, pooled: Tensor, ion: Tensor, context: Tensor) -> Tensor:
        """(r, targets) standardised, of rows: pooled (r, p), ion (r,) int64, context (r, 3)."""
        inputs = torch.cat((pooled, self.ion[ion], self.descriptors[ion], context), dim=1)
        hidden = functional.silu(self.fc1(self.dropout(inputs)))
        hidden = functional.silu(self.fc2(self.dropout(hidden)))
        outputs: Tensor = self.out(hidden)
        return outputs

    def voltages(self, pooled: Tensor, graph: GraphTensors) -> Tensor:
        """(x, b) volt."""
        inputs = self._of_host(pooled) + self._of_ion(graph)
        hidden = functional.silu(self.fc2(functional.silu(inputs)))
        output = hidden @ self.out.weight[0] + self.out.bias[0]
        return self.mean[:, :1] + self.scale[:, :1] * output

    def _read(self, features: Tensor, pooled: Tensor, graph: GraphTensors) -> Reading:
        return Reading(pooled, self.voltages(pooled, graph), features)

    def shares(
        self, reading: Reading, graph: GraphTensors, baseline: Tensor, wanted: Tensor
    ) -> Shares:
        """See `HostReadout.apart`."""
        ion, host = torch.nonzero(wanted, as_tuple=True)
        start = self._of_host(baseline[None])
        change = (self._of_host(reading.pooled) - start).float()[host]
        first = (start + self._of_ion(graph)[ion, host]).float()
        gradient = change.new_zeros(*wanted.shape, self.n_pooled)
        slope = self._mean_slope(first, change, ion)
        gradient[ion, host] = slope @ self.fc1.weight[:, : self.n_pooled].float()
        begin = change.new_zeros(wanted.shape)
        begin[ion, host] = self._voltage(first, ion)
        return self.apart(reading, graph, baseline, gradient, begin, wanted)

    def _of_host(self, pooled: Tensor) -> Tensor:
        """(b, h): what the pooled features give to the first hidden layer."""
        return functional.linear(pooled, self.fc1.weight[:, : self.n_pooled])

    def _of_ion(self, graph: GraphTensors) -> Tensor:
        """(x, b, h): what ion and context, but for the size of the cell, give to it."""
        shares = self.context(graph)[:, :, :2].to(self.fc1.weight.dtype)
        own = torch.cat((self.ion, self.descriptors), dim=1)
        weight = self.fc1.weight[:, self.n_pooled :]
        of_own, of_shares = weight[:, : own.shape[1]], weight[:, own.shape[1] : -1]
        return functional.linear(own, of_own, self.fc1.bias)[:, None] + shares @ of_shares.T

    def _voltage(self, inputs: Tensor, ion: Tensor) -> Tensor:
        """(r,) volt of ion (r,), of the first hidden layer's inputs (r, h), float32."""
        weight, bias = self.fc2.weight.float(), self.fc2.bias.float()
        hidden = functional.silu(functional.linear(functional.silu(inputs), weight, bias))
        output = hidden @ self.out.weight[0].float() + self.out.bias[0].float()
        return self.mean[ion, 0].float() + self.scale[ion, 0].float() * output

    def _mean_slope(self, start: Tensor, change: Tensor, ion: Tensor) -> Tensor:
        """(r, h) float32: dV of ion (r,) by the first hidden layer's inputs, mean of the line
        from start (r, h) to start + change (r, h), both float32.
        """
        weight, bias = self.fc2.weight.float(), self.fc2.bias.float()
        out = (self.out.weight[0] * self.scale[ion, :1]).float()
        total = torch.zeros_like(start)
        on_cpu = start.device.type == "cpu"
        for node, share in quadrature():
            if on_cpu:
                first, first_slope = silu_on_line(start, change, node)
                second_slope = silu_slope(functional.linear(first, weight, bias), out)
                add_product(total, second_slope @ weight, first_slope, share)
            else:
                first, first_slope = _silu_and_slope(start + node * change)
                _, second_slope = _silu_and_slope(functional.linear(first, weight, bias))
                total += share * ((second_slope * out) @ weight) * first_slope
        return total


def _silu_and_slope(x: Tensor) -> tuple[Tensor, Tensor]:
    gate = torch.sigmoid(x)
    value = x * gate
    return value, torch.addcmul(gate + value, gate, value, value=-1.0)


def ion_descriptors(ions: tuple[str, ...]) -> Tensor:
    """(x, 6): charge, radius, charge/radius, potential, electronegativity, log of atomic number.

    Standardised over the ten working ions, whatever `ions` are.
    """
    table = {
        symbol: (
            ion.charge,
            ion.radius,
            ion.charge / ion.radius,
            ion.standard_potential,
            ion.electronegativity,
            math.log(ion.atomic_number),
        )
        for symbol, ion in WORKING_IONS.items()
    }
    everything = torch.tensor(list(table.values()))
    own = torch.tensor([table[ion] for ion in ions])
    return (own - everything.mean(0)) / everything.std(0)
