"""A Gaussian process for all ions as a readout: the voltages of the training rows, by likeness.

The voltage of ion x on a host with pooled vector p and context c is

    V = m_x + sum_r a_r B(x, x_r) [s k(|z - z_r|) f(c) . f(c_r) + b],    z = (p - center) * factor

over the training rows r, each an ion x_r on a host: k is the likeness of hosts, B that of ions, f
tells hosts that hold working ions from those that do not. See C. Rasmussen and C. Williams,
Gaussian Processes for Machine Learning, MIT Press, 2006, eq. 2.25; products of kernels with a
coregionalisation matrix: E. Bonilla et al., Multi-task Gaussian process prediction, NIPS 2007.

All that is asked of a host follows from one product of matrices, which gives its distances from
the training hosts: the voltages, the kernel on the line of the local voltages, and who is near.

Index letters: b structures, p pooled features, x ions, h training hosts, r training rows, c 3.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from voltscreen.model.conditioned import HostReadout
from voltscreen.model.readout import Reading, Shares, quadrature
from voltscreen.model.readout_kernels import add_mean_pulls, scaled_columns
from voltscreen.model.trunk import GraphTensors

N_SHARES = 2
"""Of the context: the ion's own share of the atoms, and that of other working ions."""
N_CODE = 1 + N_SHARES
N_STEPS = 127
"""Training hosts are kept as 8-bit numbers, each feature in steps of its largest value by this."""
_LEAST_DISTANCE = 1e-6


@dataclass(frozen=True, slots=True)
class Kernel:
    """Likeness of two hosts by their distance d.

    of: k. pull: -k'(d) / d, by which the gradient of k is -pull * (z - z_r).
    """

    of: Callable[[Tensor], Tensor]
    pull: Callable[[Tensor], Tensor]
    exponential: bool


def _matern(distance: Tensor) -> Tensor:
    scaled = 3.0**0.5 * distance
    likeness: Tensor = (1.0 + scaled) * torch.exp(-scaled)
    return likeness


@dataclass(frozen=True, slots=True)
class _Terms:
    """Terms of the sum over training rows that share an ion and a component of f.

    ion, component: theirs. hosts: (r,) int64, the training host of each. amounts: (r,) float32,
    a_r f_c. points: (r, p) float32, z of these hosts.
    """

    ion: int
    component: int
    hosts: Tensor
    amounts: Tensor
    points: Tensor


KERNELS = {
    "exponential": Kernel(lambda d: torch.exp(-d), lambda d: torch.exp(-d) / d, True),
    "Matern-3/2": Kernel(_matern, lambda d: 3.0 * torch.exp(-(3.0**0.5) * d), False),
}


class ProcessReadout(HostReadout):
    """Pooled vectors of a frozen trunk to voltages, exactly as the training rows imply.

    Buffers: kernel, its number in `KERNELS`; center, factor, step: (p,); hosts: (h, p) int8, z of
    the training hosts in steps; host_of_row, ion_of_row: (r,); shares_of_row: (r, 2) their
    contexts; amounts: (r,) a_r, volt, times s; between_ions: (x, x) B; shares_weight: (2,), of the
    context; constant: (x,) volt, m_x with the sum of the terms with b.
    """

    kernel: Tensor
    center: Tensor
    factor: Tensor
    step: Tensor
    hosts: Tensor
    host_of_row: Tensor
    ion_of_row: Tensor
    shares_of_row: Tensor
    amounts: Tensor
    between_ions: Tensor
    shares_weight: Tensor
    constant: Tensor
    points: Tensor
    weights: Tensor

    def __init__(self, ions: tuple[str, ...], n_hosts: int, n_rows: int) -> None:
        super().__init__(ions)
        p, x = self.n_pooled, len(ions)
        self.register_buffer("hosts", torch.zeros(n_hosts, p, dtype=torch.int8))
        self.register_buffer("host_of_row", torch.zeros(n_rows, dtype=torch.int16))
        self.register_buffer("kernel", torch.zeros(1, dtype=torch.int16))
        self.register_buffer("ion_of_row", torch.zeros(n_rows, dtype=torch.uint8))
        for name, size in (
            ("center", (p,)), ("factor", (p,)), ("step", (p,)), ("amounts", (n_rows,)),
            ("between_ions", (x, x)), ("shares_weight", (N_SHARES,)), ("constant", (x,)),
        ):  # fmt: skip
            self.register_buffer(name, torch.zeros(size, dtype=torch.float64))
        self.register_buffer("shares_of_row", torch.zeros(n_rows, N_SHARES))
        self.register_buffer("points", torch.zeros(n_hosts, p, dtype=torch.float64), False)
        self.register_buffer("weights", torch.zeros(x, N_CODE, n_hosts, dtype=torch.float64), False)
        self._terms: list[_Terms] = []
        self.register_load_state_dict_post_hook(_prepare)  # type: ignore[no-untyped-call]

    def prepare(self) -> None:
        """What follows from the buffers: z of the hosts (h, p), and by ion (x, 3, h) their part
        in the sum for each component of f.
        """
        self.points = self.hosts.double() * self.step
        code = self.amounts[:, None] * code_of(self.shares_of_row.double(), self.shares_weight)
        rows = self.between_ions[:, self.ion_of_row.long(), None] * code
        weights = rows.new_zeros(len(rows), len(self.hosts), N_CODE)
        weights.index_add_(1, self.host_of_row.long(), rows)
        self.weights = weights.transpose(1, 2).contiguous()
        self._terms = []

    @property
    def training_hosts(self) -> NDArray[np.float32] | None:
        """(h, p), in the metric of the kernel."""
        hosts: NDArray[np.float32] = self.points.float().cpu().numpy()
        return hosts

    def voltages(self, pooled: Tensor, graph: GraphTensors) -> Tensor:
        """(x, b) volt."""
        return self._voltages(self._squares(self._metric(pooled)), self._code(graph))

    def _read(self, features: Tensor, pooled: Tensor, graph: GraphTensors) -> Reading:
        squares = self._squares(self._metric(pooled))
        return Reading(pooled, self._voltages(squares, self._code(graph)), features, squares)

    def shares(
        self, reading: Reading, graph: GraphTensors, baseline: Tensor, wanted: Tensor
    ) -> Shares:
        """See `HostReadout.apart`.

        On the line z(t) = z0 + t (z - z0) the gradient is -sum_h w_h pull_h(t) (z(t) - z_h), so
        that its mean needs the means over t of pull_h and of t pull_h alone. The weight w_h of ion
        x is the sum over its rows of B(x, x_r) a_r f(c) . f(c_r), of which only B and f(c) are
        the host's: what is added up by ion x_r and component of f serves all ions.
        """
        if reading.squares is None:
            raise ValueError("this is not a reading of a process")
        code = self._code(graph)
        begin = self._metric(baseline)[None]
        way = self._metric(reading.pooled) - begin
        first = self._squares(begin)
        start = self._voltages(first, code)
        pull, later_pull = self._mean_pulls(first, reading.squares, way)
        code, way, begin = code.float(), way.float(), begin.float()
        gradient = self._toward_hosts(pull, code.masked_fill(~wanted[:, :, None], 0.0))
        weights = self.weights.float()
        gradient -= _summed(pull, weights, code) * begin
        gradient -= _summed(later_pull, weights, code) * way
        gradient *= self.factor.float()
        return self.apart(reading, graph, baseline, gradient, start, wanted)

    def of_hosts(self, pooled: Tensor, shares: Tensor) -> Tensor:
        """(x, b) volt, of pooled vectors (b, p) and the shares of working ions (x, b, 2)."""
        code = code_of(shares, self.shares_weight)
        return self._voltages(self._squares(self._metric(pooled)), code)

    def _metric(self, pooled: Tensor) -> Tensor:
        """Pooled vectors (..., p) in the metric of the kernel."""
        return (pooled - self.center) * self.factor

    def _code(self, graph: GraphTensors) -> Tensor:
        return code_of(self.context(graph)[:, :, :N_SHARES].double(), self.shares_weight)

    def _squares(self, z: Tensor) -> Tensor:
        """(b, h): squared distances of z (b, p) to the training hosts, from one product."""
        own = self.points.square().sum(1) + z.square().sum(1, keepdim=True)
        return own.addmm_(z, self.points.T, alpha=-2.0).clamp_min_(0.0)

    def _voltages(self, squares: Tensor, code: Tensor) -> Tensor:
        """(x, b) volt, of squared distances (b, h), or (1, h) for all, and code (x, b, 3)."""
        likeness = self._kernel.of(squares.sqrt())
        return self.constant[:, None] + _summed(likeness, self.weights, code)[:, :, 0]

    def _mean_pulls(self, first: Tensor, last: Tensor, way: Tensor) -> tuple[Tensor, Tensor]:
        """(b, h) float32: means over a line of the pull of each training host, and of t times it.

        Args:
            first: (1, h), last: (b, h) squared distances of its ends; way: (b, p) between them.
        """
        first, last = first.float(), last.float()
        length = way.square().sum(1, keepdim=True).float()
        pull, later_pull = torch.zeros_like(last), torch.zeros_like(last)
        if last.device.type == "cpu":
            add_mean_pulls(
                quadrature(), first[0], last, length[:, 0], pull, later_pull,
                exponential=self._kernel.exponential,
            )  # fmt: skip
            return pull, later_pull
        for node, share in quadrature():
            squares = (1.0 - node) * first + node * last - node * (1.0 - node) * length
            found = share * self._kernel.pull(squares.clamp_min_(_LEAST_DISTANCE**2).sqrt_())
            pull += found
            later_pull += node * found
        return pull, later_pull

    def _toward_hosts(self, pull: Tensor, code: Tensor) -> Tensor:
        """(x, b, p) float32: sums over training hosts of weight, pull (b, h) and z, of code
        (x, b, 3).
        """
        used = code.flatten(0, 1).any(0).tolist()
        terms = [own for own in self._sorted_terms() if used[own.component]]
        sums = torch.stack([_scaled(pull, own.hosts, own.amounts) @ own.points for own in terms], 1)
        ions, components = [own.ion for own in terms], [own.component for own in terms]
        shares = code[:, :, components] * self.between_ions.float()[:, None, ions]
        return (shares.transpose(0, 1) @ sums).transpose(0, 1)

    def _sorted_terms(self) -> list[_Terms]:
        """The training rows by ion and component of f, kept between calls."""
        device = self.points.device
        if not self._terms or self._terms[0].points.device != device:
            code = self.amounts[:, None] * code_of(self.shares_of_row.double(), self.shares_weight)
            points, hosts = self.points.float(), self.host_of_row.long()
            self._terms = []
            for x in range(len(self.constant)):
                for c in range(N_CODE):
                    rows = torch.nonzero((self.ion_of_row == x) & (code[:, c] != 0))[:, 0]
                    own = hosts[rows]
                    self._terms.append(_Terms(x, c, own, code[rows, c].float(), points[own]))
        return self._terms

    @property
    def _kernel(self) -> Kernel:
        return list(KERNELS.values())[int(self.kernel)]


def _prepare(module: nn.Module, _: object) -> None:
    if isinstance(module, ProcessReadout):
        module.prepare()


def code_of(shares: Tensor, weight: Tensor) -> Tensor:
    """(..., 3): f of the shares (..., 2) of working ions among the atoms, of length 1."""
    ones = torch.ones_like(shares[..., :1])
    return functional.normalize(torch.cat((ones, weight * shares), dim=-1), dim=-1)


def _scaled(values: Tensor, columns: Tensor, factors: Tensor) -> Tensor:
    """(b, r): of values (b, h) the columns (r,), times factors (r,)."""
    if values.device.type == "cpu":
        return scaled_columns(values, columns, factors)
    return values[:, columns] * factors


def _summed(values: Tensor, weights: Tensor, code: Tensor) -> Tensor:
    """(x, b, 1): sums of values (b, h) times weights (x, 3, h), by code (x, b, 3)."""
    parts = values @ weights.flatten(0, 1).T
    parts = parts.view(len(values), *weights.shape[:2]).transpose(0, 1)
    return (parts * code).sum(2, keepdim=True)
