"""A Gaussian process for all ions as a readout: the voltages of the training rows, by likeness.

The voltage of ion x on a host with pooled vector p and context c is

    V = m_x + sum_r a_r B(x, x_r) [s k(|z - z_r|) f(c) . f(c_r) + b],    z = (p - center) * factor

over the training rows r, each an ion x_r on a host: k is the likeness of hosts, B that of ions, f
tells hosts that hold working ions from those that do not. See C. Rasmussen and C. Williams,
Gaussian Processes for Machine Learning, MIT Press, 2006, eq. 2.25; products of kernels with a
coregionalisation matrix: E. Bonilla et al., Multi-task Gaussian process prediction, NIPS 2007.

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
from voltscreen.model.readout import Shares, quadrature
from voltscreen.model.readout_kernels import add_mean_pulls
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
        self._single: tuple[Tensor, Tensor] | None = None
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
        self._single = None

    @property
    def training_hosts(self) -> NDArray[np.float32] | None:
        """(h, p), in the metric of the kernel."""
        hosts: NDArray[np.float32] = self.points.float().cpu().numpy()
        return hosts

    def voltages(self, pooled: Tensor, graph: GraphTensors) -> Tensor:
        """(x, b) volt."""
        return self._voltages((pooled - self.center) * self.factor, self._code(graph))

    def shares(
        self,
        nodes: Tensor,
        pooled: Tensor,
        voltages: Tensor,
        graph: GraphTensors,
        baseline: Tensor,
        wanted: Tensor,
    ) -> Shares:
        """See `HostReadout.apart`.

        On the line z(t) = z0 + t (z - z0) the gradient is -sum_h w_h pull_h(t) (z(t) - z_h), so
        that its mean needs the means over t of pull_h and of t pull_h alone.
        """
        code = self._code(graph)
        begin = ((baseline - self.center) * self.factor)[None]
        start = self._voltages(begin, code)
        way = (pooled - self.center) * self.factor - begin
        pull, later_pull = self._mean_pulls(begin, way)
        points, weights = self._in_single_precision()
        begin, way, code = begin.float(), way.float(), code.float()
        gradient = pull.new_zeros(*wanted.shape, self.n_pooled)
        for x in torch.nonzero(wanted.any(1))[:, 0].tolist():
            weight = code[x] @ weights[x]
            near = weight * pull
            later = (weight * later_pull).sum(1, keepdim=True)
            gradient[x] = near @ points - near.sum(1, keepdim=True) * begin - later * way
        gradient *= self.factor.float()
        return self.apart(nodes, pooled, voltages, graph, baseline, gradient, start, wanted)

    def of_hosts(self, pooled: Tensor, shares: Tensor) -> Tensor:
        """(x, b) volt, of pooled vectors (b, p) and the shares of working ions (x, b, 2)."""
        code = code_of(shares, self.shares_weight)
        return self._voltages((pooled - self.center) * self.factor, code)

    def _code(self, graph: GraphTensors) -> Tensor:
        return code_of(self.context(graph)[:, :, :N_SHARES].double(), self.shares_weight)

    def _voltages(self, z: Tensor, code: Tensor) -> Tensor:
        """(x, b) volt, of z (b, p), or (1, p) for all, and code (x, b, 3)."""
        likeness = self._kernel.of(distances(z, self.points))
        parts = likeness @ self.weights.transpose(1, 2)
        return self.constant[:, None] + (parts * code).sum(2)

    def _mean_pulls(self, begin: Tensor, way: Tensor) -> tuple[Tensor, Tensor]:
        """(b, h) float32: means over the line from begin (1, p) along way (b, p) of the pull of
        each training host, and of t times it.
        """
        first = distances(begin, self.points).square().float()
        along = ((way @ begin[0])[:, None] - way @ self.points.T).float()
        length = way.square().sum(1, keepdim=True).float()
        pull = torch.zeros_like(along)
        later_pull = torch.zeros_like(along)
        if along.device.type == "cpu":
            add_mean_pulls(
                quadrature(), first[0], along, length[:, 0], pull, later_pull,
                exponential=self._kernel.exponential,
            )  # fmt: skip
            return pull, later_pull
        for node, share in quadrature():
            squares = first + 2.0 * node * along + node * node * length
            found = share * self._kernel.pull(squares.clamp_min_(_LEAST_DISTANCE**2).sqrt_())
            pull += found
            later_pull += node * found
        return pull, later_pull

    def _in_single_precision(self) -> tuple[Tensor, Tensor]:
        """Points and weights in float32, kept between calls."""
        if self._single is None or self._single[0].device != self.points.device:
            self._single = self.points.float(), self.weights.float()
        return self._single

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


def distances(points: Tensor, others: Tensor) -> Tensor:
    """(b, h) of (b, p) and (h, p), from one product of matrices."""
    squares = points.square().sum(1)[:, None] + others.square().sum(1) - 2.0 * points @ others.T
    return squares.clamp_min(0.0).sqrt()
