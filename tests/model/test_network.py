from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from pymatgen.core import Lattice, Structure
from torch.nn import functional

from tests.model.helpers import (
    IONS,
    random_crystal,
    random_process,
    small_model,
    two_branch_model,
)
from voltscreen.graph import (
    INSERTION,
    NEAREST,
    PAPER,
    SHARED,
    GraphBatch,
    GraphSpec,
    build_graphs,
    merge_alike,
)
from voltscreen.model import predict_candidates
from voltscreen.model.device_trunk import DeviceTrunk
from voltscreen.model.folded import FoldedTrunk
from voltscreen.model.heads import IonHeads
from voltscreen.model.process import KERNELS
from voltscreen.model.trunk import GatedConvolution, GraphTensors, Trunk, mean_pool
from voltscreen.structures import PackedStructure

CPU = torch.device("cpu")


def rock_salt() -> PackedStructure:
    """Eight atoms of two kinds."""
    salt = Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.2), ["Mg", "O"], [[0] * 3, [0.5] * 3])
    return PackedStructure.from_pymatgen(salt)


def made_up_graph(n: int = 6, seed: int = 0) -> GraphTensors:
    """The graph of a small random crystal, with weights that are not all 1."""
    batch = build_graphs([random_crystal(seed, n)], SHARED)
    return GraphTensors.from_batch(batch, CPU)


@pytest.mark.parametrize("edge_norm", [True, False])
def test_convolution_is_equation_1_written_pair_by_pair(edge_norm) -> None:
    torch.manual_seed(0)
    conv = GatedConvolution(5, 4, edge_norm=edge_norm).double().eval()
    if edge_norm:
        conv.bn1.running_mean.normal_()
    conv.bn2.running_var.uniform_(0.5, 2)
    graph = made_up_graph()
    atoms, edges = torch.randn(6, 5).double(), torch.rand(len(graph.neighbors), 4).double()
    found = conv(atoms, edges, graph)
    for i in range(6):
        total = torch.zeros(5).double()
        for e in range(graph.edge_offsets[i], graph.edge_offsets[i + 1]):
            z = conv.fc_full(torch.cat((atoms[i], atoms[graph.neighbors[e]], edges[e])))
            if edge_norm:
                z = conv.bn1(z[None])[0]
            gate, core = z.chunk(2)
            total += graph.weights[e] * torch.sigmoid(gate) * functional.softplus(core)
        expected = functional.softplus(atoms[i] + conv.bn2(total[None])[0])
        torch.testing.assert_close(found[i], expected)


def fused(trunk: Trunk, batch: GraphBatch) -> torch.Tensor:
    """The path that training takes."""
    with torch.no_grad():
        return trunk(GraphTensors.from_batch(batch, CPU))


def folded(trunk: Trunk, batch: GraphBatch) -> torch.Tensor:
    return torch.from_numpy(FoldedTrunk(trunk, batch.spec)(batch))


def merged(trunk: Trunk, batch: GraphBatch) -> torch.Tensor:
    """The path that predictions take."""
    found = merge_alike(batch)
    return folded(trunk, found.graphs)[found.kind_of_node]


def by_torch_operations(trunk: Trunk, batch: GraphBatch) -> torch.Tensor:
    """The path that predictions take on a GPU."""
    with torch.inference_mode():
        return DeviceTrunk([trunk], batch.spec)(GraphTensors.from_batch(batch, CPU, windows=False))


PATHS = pytest.mark.parametrize("path", [fused, folded, merged, by_torch_operations])
SPECS = pytest.mark.parametrize(
    "spec", [NEAREST, PAPER, SHARED, INSERTION], ids=lambda spec: spec.name
)


def random_trunk(spec: GraphSpec, *, edge_norm: bool) -> Trunk:
    torch.manual_seed(0)
    trunk = Trunk(torch.rand(101, 6), spec, edge_norm=edge_norm).eval()
    for convolution in trunk.convs:
        convolution.bn2.running_var.uniform_(0.5, 2)
        if edge_norm:
            convolution.bn1.running_mean.normal_()
            convolution.bn1.running_var.uniform_(0.5, 2)
    return trunk


@PATHS
@SPECS
@pytest.mark.parametrize("edge_norm", [True, False])
def test_every_path_gives_the_vectors_of_the_reference(path, spec, edge_norm) -> None:
    trunk = random_trunk(spec, edge_norm=edge_norm)
    crystals = [random_crystal(seed, n) for seed, n in enumerate((1, 4, 9))] + [rock_salt()]
    batch = build_graphs(crystals, spec)
    found = path(trunk, batch)
    with torch.no_grad():
        reference = trunk.double()(GraphTensors.from_batch(batch, CPU))
    torch.testing.assert_close(found.double(), reference, atol=2e-5, rtol=1e-5)


@PATHS
def test_exponents_beyond_float32_are_right_too(path) -> None:
    trunk = random_trunk(SHARED, edge_norm=False)
    with torch.no_grad():
        trunk.convs[1].fc_full.weight *= 60
    batch = build_graphs([random_crystal(0, 9), rock_salt()], SHARED)
    found = path(trunk, batch)
    with torch.no_grad():
        reference = trunk.double()(GraphTensors.from_batch(batch, CPU))
    assert reference.abs().max() > 50
    torch.testing.assert_close(found.double(), reference, atol=0.05, rtol=1e-3)


def test_a_graph_without_windows_takes_the_plain_path() -> None:
    batch = build_graphs([random_crystal(0, 6)], SHARED)
    trunk = random_trunk(SHARED, edge_norm=False)
    graphs = [GraphTensors.from_batch(batch, CPU, windows=each) for each in (True, False)]
    with torch.inference_mode():
        fast, plain = (trunk(graph) for graph in graphs)
    torch.testing.assert_close(fast, plain, rtol=1e-4, atol=1e-4)


def test_fused_gradients_equal_autograd() -> None:
    torch.manual_seed(0)
    graph = made_up_graph(8)
    trunk = Trunk(torch.rand(101, 6), SHARED, edge_norm=False).eval()
    twin = copy.deepcopy(trunk).double()
    for network in (trunk, twin):
        network(graph).square().sum().backward()
    for (name, own), other in zip(trunk.named_parameters(), twin.parameters(), strict=True):
        scale = other.grad.abs().max()
        assert ((own.grad - other.grad).abs().max() / scale) < 1e-4, name


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
    assert len(graph.neighbors) == 0
    assert torch.isfinite(model.trunk(graph)).all()


@pytest.mark.parametrize("kind", ["conditioned", *KERNELS])
def test_shares_are_integrated_gradients_of_the_readout(kind: str) -> None:
    """Atom by atom against autograd along the same line, with many more nodes."""
    model = small_model(spec=INSERTION)
    crystals = [random_crystal(seed, n, (3, 8, 25)) for seed, n in enumerate((4, 9))]
    graph = GraphTensors.from_batch(build_graphs(crystals, INSERTION), CPU)
    readout, baseline = model.readout, torch.from_numpy(model.baseline)
    if kind in KERNELS:
        readout = random_process(kernel=kind)
    vectors = model.trunk(graph)
    nodes, reading = vectors.double(), readout.read(vectors, graph)
    pooled, voltages = readout.pool(nodes, graph), reading.voltages
    torch.testing.assert_close(reading.pooled, pooled, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(voltages, readout.voltages(pooled, graph), rtol=0, atol=1e-5)
    everything = torch.ones_like(voltages, dtype=torch.bool)
    shares = readout.shares(reading, graph, baseline, everything)
    mean_gradient = torch.zeros(len(IONS), *pooled.shape).double()
    steps = 100
    for k in range(steps):
        point = (baseline + (k + 0.5) / steps * (pooled - baseline)).requires_grad_()
        for x in range(len(IONS)):
            (gradient,) = torch.autograd.grad(readout.voltages(point, graph)[x].sum(), point)
            mean_gradient[x] += gradient / steps
    change = mean_gradient * (pooled - baseline)
    n = 3 * 64
    site = change[:, :, 128:n].sum(2) + change[:, :, n + 1 :].sum(2)
    # Random weights bend more between the nodes of the quadrature than trained ones.
    torch.testing.assert_close(shares.site, site, atol=3e-3, rtol=0)
    owner = graph.structure_of_node[~graph.is_site]
    features = readout.atom_features(nodes[~graph.is_site]) - baseline[:128]
    own = torch.einsum("af,xaf->xa", features, mean_gradient[:, owner, :128])
    found = shares.atoms - shares.atoms[:, [0]]
    expected = own - own[:, [0]]
    first = owner == 0
    torch.testing.assert_close(found[:, first], expected[:, first], atol=3e-3, rtol=0)
    mean = torch.zeros_like(voltages).index_add_(1, owner, shares.atoms) / graph.n_atoms
    torch.testing.assert_close(mean + shares.site, voltages, atol=1e-9, rtol=0)


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_process_says_what_its_formula_says(kernel) -> None:
    """Row by row, in the words of the module."""
    process = random_process(kernel=kernel)
    rng = np.random.default_rng(5)
    pooled, shares = rng.uniform(0, 1, process.n_pooled), rng.uniform(0, 0.3, (3, 1, 2))
    found = process.of_hosts(torch.from_numpy(pooled[None]), torch.from_numpy(shares))[:, 0]
    z = (pooled - process.center.numpy()) * process.factor.numpy()

    def code(own):
        whole = np.array([1.0, *(own * process.shares_weight.numpy())])
        return whole / np.linalg.norm(whole)

    for x in range(3):
        total = float(process.constant[x])
        for row, amount in enumerate(process.amounts.numpy()):
            host = process.hosts[process.host_of_row[row]].numpy() * process.step.numpy()
            likeness = float(KERNELS[kernel].of(torch.tensor(np.linalg.norm(z - host))))
            codes = code(shares[x, 0]) @ code(process.shares_of_row[row].numpy())
            ions = float(process.between_ions[x, int(process.ion_of_row[row])])
            total += amount * ions * likeness * codes
        assert float(found[x]) == pytest.approx(total, abs=1e-9)


def test_two_branches_are_the_mean_of_both_in_voltages_and_local_voltages() -> None:
    model = two_branch_model()
    crystals = [random_crystal(seed, n, (3, 8, 25)) for seed, n in enumerate((4, 9))]
    graph = GraphTensors.from_batch(build_graphs(crystals, INSERTION), CPU)
    baseline = torch.from_numpy(model.baseline)
    reading = model.readout.read(model.trunk(graph), graph)
    everything = torch.ones_like(reading.voltages, dtype=torch.bool)
    shares = model.readout.shares(reading, graph, baseline, everything)
    volts, atoms, sites = 0.0, 0.0, 0.0
    for trunk, part, p0 in zip(
        model.trunk.trunks, model.readout.parts, baseline.chunk(2), strict=True
    ):
        own = part.read(trunk(graph), graph)
        of_part = part.shares(own, graph, p0, everything)
        volts, atoms, sites = (
            volts + own.voltages / 2,
            atoms + of_part.atoms / 2,
            sites + of_part.site / 2,
        )
    torch.testing.assert_close(reading.voltages, volts)
    torch.testing.assert_close(shares.atoms, atoms)
    torch.testing.assert_close(shares.site, sites)
    for index, prediction in enumerate(predict_candidates(model, crystals)):
        for ion in IONS[1:]:
            found = prediction.ions[ion]
            assert found.linear.shape == found.additive.shape == (len(crystals[index]),)
            assert found.voltage == pytest.approx(
                found.additive.astype(float).mean() + found.site, abs=1e-6
            )
            assert found.lo90 < found.voltage < found.hi90
            assert 0 <= found.out_of_domain <= 100


@pytest.mark.parametrize("make", [lambda: small_model(spec=INSERTION), two_branch_model])
def test_the_size_of_the_cell_does_not_enter_the_voltage(make) -> None:
    model = make()
    crystal = random_crystal(3, 7, (3, 8, 25)).to_pymatgen()
    twice = PackedStructure.from_pymatgen(crystal.make_supercell([2, 1, 1], in_place=False))
    once = PackedStructure.from_pymatgen(crystal)
    one, two = predict_candidates(model, [once, twice])
    for ion in IONS:
        assert abs(one.ions[ion].voltage - two.ions[ion].voltage) < 1e-5


@pytest.mark.parametrize("make", [lambda: small_model(spec=INSERTION), two_branch_model])
def test_shares_that_are_not_wanted_change_no_other(make) -> None:
    model = make()
    crystals = [random_crystal(seed, 6, (3, 8, 25)) for seed in range(3)]
    graph = GraphTensors.from_batch(build_graphs(crystals, INSERTION), CPU)
    readout, baseline = model.readout, torch.from_numpy(model.baseline)
    reading = readout.read(model.trunk(graph), graph)
    everything = torch.ones_like(reading.voltages, dtype=torch.bool)
    wanted = everything.clone()
    wanted[0, :2] = wanted[1, 2] = False
    shares, few = (
        readout.shares(reading, graph, baseline, which) for which in (everything, wanted)
    )
    torch.testing.assert_close(few.site[wanted], shares.site[wanted], atol=1e-5, rtol=0)
    of_atom = wanted[:, graph.structure_of_node[~graph.is_site]]
    torch.testing.assert_close(few.atoms[of_atom], shares.atoms[of_atom], atol=1e-5, rtol=0)
