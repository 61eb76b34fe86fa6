"""One loaded potential for all tests of a process."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def potential():
    pytest.importorskip("chgnet")
    import torch

    from voltscreen.potentials.chgnet import ChgnetPotential

    torch.set_num_threads(1)
    return ChgnetPotential("cpu")
