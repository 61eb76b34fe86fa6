"""How hard a host is, where its features are: what `Domain` says, without leaving the device.

Index letters: x ions, b structures, p pooled features, h training hosts, k candidates.
"""

from __future__ import annotations

import torch
from torch import Tensor

from voltscreen.model.nearest import SPARE
from voltscreen.model.uncertainty import N_NEAREST, N_PERCENTILES, Domain


class DeviceDomain:
    """A domain on one device."""

    def __init__(self, domain: Domain, device: torch.device) -> None:
        own = domain.neighborhood
        self._center, self._spread, self._weights, self._percentiles = (
            torch.from_numpy(array).to(device)
            for array in (own.center, own.spread, domain.weights, domain.percentiles)
        )
        self._hosts, self._roughness, self._misfit = (
            torch.from_numpy(array).to(device) for array in (own.hosts, own.roughness, own.misfit)
        )
        self._lengths = self._hosts.double().square().sum(1)
        self._members = [torch.nonzero(row)[:, 0] for row in torch.from_numpy(own.trained_on)]
        self._members = [members.to(device) for members in self._members]

    def difficulty(self, pooled: Tensor, squares: Tensor | None = None) -> Tensor:
        """(x, b) float64: `Domain.difficulty` of pooled features (b, p) float64.

        squares: (b, h), the squared distances to the hosts, where somebody has them already.
        """
        points = ((pooled[:, -len(self._center) :] - self._center) / self._spread).float()
        if squares is None:
            # Less what is the same for all hosts.
            squares = self._lengths - 2.0 * (points @ self._hosts.T).double()
        order = squares.float()
        signs = [
            self._signs(points, order[:, members], members, self._roughness[x])
            for x, members in enumerate(self._members)
        ]
        level = torch.stack(signs, 1).mul_(self._weights[:, None, None]).sum(0)
        return torch.exp(level - self._percentiles[:, [N_PERCENTILES // 2]])

    def _signs(self, points: Tensor, order: Tensor, members: Tensor, roughness: Tensor) -> Tensor:
        """(3, b): distance, roughness and misfit of the nearest hosts of one ion, of points (b, p)
        and what grows with the distance to the ion's hosts (b, members).
        """
        some = min(N_NEAREST + SPARE, len(members))
        # Candidates by host, so that of equally near ones the first counts.
        found = order.topk(some, dim=1, largest=False).indices.sort(1).values
        which = members[found]
        between = points[:, None].double() - self._hosts[which].double()
        exact, place = between.square().sum(2).sort(dim=1, stable=True)
        which = which.gather(1, place)[:, :N_NEAREST]
        near = exact[:, :N_NEAREST].sqrt().mean(1).clamp_min_(1e-6).log_()
        return torch.stack(
            (near, roughness[which].double().mean(1), self._misfit[which].double().mean(1))
        )

    def percentile(self, difficulty: Tensor) -> Tensor:
        """(x, b): `Domain.percentile` of difficulties (x, b)."""
        level = difficulty.log() + self._percentiles[:, [N_PERCENTILES // 2]]
        above = torch.searchsorted(self._percentiles, level, right=True).clamp(1, N_PERCENTILES - 1)
        low, high = (self._percentiles.gather(1, place) for place in (above - 1, above))
        share = torch.where(high > low, (level - low) / (high - low), 1.0).clamp(0.0, 1.0)
        return (above - 1 + share) * (100.0 / (N_PERCENTILES - 1))
