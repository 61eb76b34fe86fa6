from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

from tests.model.helpers import random_crystal, small_model
from voltscreen.graph import NEAREST, build_graphs
from voltscreen.model.heads import IonHeads
from voltscreen.model.trunk import GatedConvolution, GraphTensors, Trunk, mean_pool
from voltscreen.structures import PackedStructure

CPU = torch.device("cpu")


def test_convolution_is_equation_1_written_pair_by_pair() -> None:
    torch.manual_seed(0)
    conv = GatedConvolution(5, 4).double().eval()
    conv.bn1.running_mean.normal_()
    conv.bn2.running_var.uniform_(0.5, 2)
    atoms, edges = torch.randn(3, 5).double(), torch.rand(3, 2, 4).double()
    neighbors = torch.tensor([[1, 2], [0, 0], [2, 1]])
    filled = torch.tensor([[True, True], [True, False], [True, True]])
    found = conv(atoms, edges, neighbors, filled)
    for i in range(3):
        total = torch.zeros(5).double()
        for k in range(2):
            if filled[i, k]:
                z = torch.cat((atoms[i], atoms[neighbors[i, k]], edges[i, k]))
                gate, core = conv.bn1(conv.fc_full(z)[None])[0].chunk(2)
                total += torch.sigmoid(gate) * functional.softplus(core)
        expected = functional.softplus(atoms[i] + conv.bn2(total[None])[0])
        torch.testing.assert_close(found[i], expected)


def test_empty_slots_do_not_count_in_batch_statistics() -> None:
    torch.manual_seed(0)
    filled = torch.tensor([[True, True], [True, False]])
    atoms, edges = torch.randn(2, 5), torch.rand(2, 2, 4)
    statistics = []
    for empty_neighbor in (0, 1):
        torch.manual_seed(1)
        conv = GatedConvolution(5, 4).train()
        conv(atoms, edges, torch.tensor([[1, 0], [0, empty_neighbor]]), filled)
        statistics.append(conv.bn1.running_mean.clone())
    torch.testing.assert_close(*statistics, rtol=0, atol=0)


def test_gradients_of_trunk_and_head_equal_finite_differences() -> None:
    torch.manual_seed(0)
    trunk = Trunk(torch.rand(101, 6), NEAREST).double().eval()
    heads = IonHeads(2).double()
    graph = GraphTensors.from_batch(build_graphs([random_crystal(1, 4)], NEAREST), CPU)

    def voltage(weight: torch.Tensor) -> torch.Tensor:
        parameters = {"convs.1.fc_full.weight": weight}
        atoms = torch.func.functional_call(trunk, parameters, (graph,))
        return heads(mean_pool(atoms, graph))[0, 0]

    weight = trunk.convs[1].fc_full.weight.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(voltage(weight), weight)
    step = 1e-5
    for row, column in ((0, 0), (5, 70), (100, 130), (127, 168)):
        shifted = weight.detach().clone()
        shifted[row, column] += step
        up = voltage(shifted)
        shifted[row, column] -= 2 * step
        difference = (up - voltage(shifted)) / (2 * step)
        torch.testing.assert_close(gradient[row, column], difference, rtol=1e-3, atol=1e-9)


def test_head_gradient_in_closed_form_equals_autograd() -> None:
    torch.manual_seed(0)
    heads = IonHeads(3).double()
    heads.scale.fill_(1.7)
    pooled = torch.rand(4, 64).double().requires_grad_()
    closed = heads.gradient(pooled)
    for ion in range(3):
        (expected,) = torch.autograd.grad(heads(pooled)[ion].sum(), pooled)
        torch.testing.assert_close(closed[ion], expected)


def test_isolated_atom_gives_a_finite_vector_without_messages() -> None:
    model = small_model()
    lonely = PackedStructure.from_arrays(np.eye(3) * 30, [[0, 0, 0]], [8])
    graph = GraphTensors.from_batch(build_graphs([lonely], NEAREST), CPU)
    assert not graph.filled.any()
    assert torch.isfinite(model.trunk(graph)).all()
