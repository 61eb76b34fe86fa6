"""Readouts of one pooled vector a host, and the one whose head is told the ion.

Index letters: n nodes, b structures, p pooled features, x ions, h hidden.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from voltscreen.ions import WORKING_IONS
from voltscreen.model.readout import Readout, Shares, by_atom, quadrature, share_evenly
from voltscreen.model.readout_kernels import add_product, silu_on_line, silu_slope
from voltscreen.model.trunk import N_FEATURES, GraphTensors, mean_pool, site_pool

N_SCALARS = 3
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

    def __init__(self, ions: tuple[str, ...]) -> None:
        super().__init__()
        self.n_pooled = 3 * N_FEATURES + N_SCALARS
        self.widen = nn.Linear(N_FEATURES, N_FEATURES)
        self.register_buffer(
            "ion_numbers", torch.tensor([WORKING_IONS[i].atomic_number for i in ions]), False
        )

    def atom_features(self, nodes: Tensor) -> Tensor:
        """(n, 128): what is averaged over the atoms, of (n, 64)."""
        return torch.cat((nodes, functional.softplus(self.widen(nodes))), dim=1)

    def _atom_features(self, nodes: Tensor) -> Tensor:
        """The same in float32."""
        wide = functional.linear(nodes, self.widen.weight.float(), self.widen.bias.float())
        return torch.cat((nodes, functional.softplus(wide)), dim=1)

    def pool(self, nodes: Tensor, graph: GraphTensors) -> Tensor:
        """(b, p) pooled features of (n, 64) node vectors."""
        features = self.atom_features(nodes)
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
                mean_pool(features, graph),
                site_pool(nodes, graph),
                volume[:, None],
                sites[:, :1] - _TYPICAL_CLEARANCE,
                sites[:, 1:] - _TYPICAL_DISTANCE,
            ),
            dim=1,
        )

    def context(self, graph: GraphTensors) -> Tensor:
        """(x, b, 3): shares of the ion and of other working ions among the atoms, size of cell."""
        shares = graph.volumes.new_zeros(len(self.ion_numbers), len(graph.n_atoms))
        for x, number in enumerate(self.ion_numbers):
            shares[x].index_add_(
                0, graph.structure_of_node, graph.counts * (graph.atomic_numbers == number)
            )
        shares = shares / graph.n_atoms
        size = 0.5 * torch.log(graph.n_atoms / TYPICAL_ATOMS)
        return torch.stack((shares, shares.sum(0) - shares, size.expand_as(shares)), dim=2)

    def apart(
        self,
        nodes: Tensor,
        pooled: Tensor,
        voltages: Tensor,
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
            gradient: (x, b, p) mean gradient on the line from the baseline; start: (x, b) V(p0);
                wanted: (x, b) bool, as in `shares`.
        """
        n_atom_features = 2 * N_FEATURES
        volume = 3 * N_FEATURES
        change = gradient * (pooled - baseline)
        atoms = ~graph.is_site
        owner = graph.structure_of_node[atoms]
        features = self._atom_features(nodes[atoms].float()) - baseline[:n_atom_features].float()
        local = by_atom(features, gradient[:, :, :n_atom_features], owner, wanted)
        local = local + (start + change[:, :, volume])[:, owner]
        site = change[:, :, n_atom_features:volume].sum(2) + change[:, :, volume + 1 :].sum(2)
        return share_evenly(local, site, voltages, graph)


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
        return self._voltage(inputs)

    def shares(
        self,
        nodes: Tensor,
        pooled: Tensor,
        voltages: Tensor,
        graph: GraphTensors,
        baseline: Tensor,
        wanted: Tensor,
    ) -> Shares:
        """See `HostReadout.apart`."""
        start, from_ion = self._of_host(baseline[None]), self._of_ion(graph)
        ion, host = torch.nonzero(wanted, as_tuple=True)
        slope = self._mean_slope(
            start + from_ion[ion, host], (self._of_host(pooled) - start)[host], ion
        )
        gradient = slope.new_zeros(*wanted.shape, self.n_pooled)
        gradient[ion, host] = slope @ self.fc1.weight[:, : self.n_pooled].float()
        first = self._voltage(start + from_ion)
        return self.apart(nodes, pooled, voltages, graph, baseline, gradient, first, wanted)

    def _of_host(self, pooled: Tensor) -> Tensor:
        """(b, h): what the pooled features give to the first hidden layer."""
        return functional.linear(pooled, self.fc1.weight[:, : self.n_pooled])

    def _of_ion(self, graph: GraphTensors) -> Tensor:
        """(x, b, h): what ion and context give to it."""
        context = self.context(graph).to(self.fc1.weight.dtype)
        context[:, :, 2] = 0.0
        ion = torch.cat((self.ion, self.descriptors), dim=1)
        inputs = torch.cat((ion[:, None].expand(-1, context.shape[1], -1), context), dim=2)
        return functional.linear(inputs, self.fc1.weight[:, self.n_pooled :], self.fc1.bias)

    def _voltage(self, inputs: Tensor) -> Tensor:
        """(x, b) volt, of the first hidden layer's inputs (x, b, h)."""
        hidden = functional.silu(self.fc2(functional.silu(inputs)))
        output = hidden @ self.out.weight[0] + self.out.bias[0]
        return self.mean[:, :1] + self.scale[:, :1] * output

    def _mean_slope(self, start: Tensor, change: Tensor, ion: Tensor) -> Tensor:
        """(r, h) float32: dV of ion (r,) by the first hidden layer's inputs, mean of the line
        from start (r, h) to start + change (r, h).
        """
        start, change = start.float(), change.float()
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
