from __future__ import annotations

import pytest
import torch

from voltscreen.model.process import KERNELS
from voltscreen.model.readout import quadrature
from voltscreen.model.readout_kernels import add_mean_pulls


@pytest.mark.parametrize("name", KERNELS)
def test_mean_pulls_are_those_of_torch(name) -> None:
    torch.manual_seed(0)
    kernel = KERNELS[name]
    points, begin, way = torch.randn(40, 6), torch.randn(6), torch.randn(3, 6)
    first = (begin - points).square().sum(1)
    last = (begin + way[:, None] - points).square().sum(2)
    length = way.square().sum(1)
    pull, later = torch.zeros(3, 40), torch.zeros(3, 40)
    add_mean_pulls(quadrature(), first, last, length, pull, later, exponential=kernel.exponential)
    expected, expected_later = torch.zeros(3, 40).double(), torch.zeros(3, 40).double()
    for node, share in quadrature():
        on_line = (begin + node * way)[:, None].double() - points.double()
        found = share * kernel.pull(on_line.norm(dim=2))
        expected += found
        expected_later += node * found
    torch.testing.assert_close(pull.double(), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(later.double(), expected_later, rtol=1e-4, atol=1e-5)
