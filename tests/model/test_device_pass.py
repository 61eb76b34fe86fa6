"""Predictions by torch operations against those of the compiled loops of the CPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.graph.on_device.helpers import DEVICES
from tests.model.helpers import IONS, random_crystal, small_model, two_branch_model
from voltscreen.graph import INSERTION, NEAREST, PAPER, SHARED, build_graphs
from voltscreen.graph.on_device import ahead, build
from voltscreen.model import (
    VoltageModel,
    load_model,
    predict_candidates,
    predict_columns,
    predictor,
)
from voltscreen.model import device_pass as module
from voltscreen.model.device_domain import DeviceDomain
from voltscreen.model.predictor import PredictionColumns
from voltscreen.model.trunk import GraphTensors
from voltscreen.sources import candidates
from voltscreen.structures import Candidate, PackedStructure

VOLT = 1e-4
"""What a prediction may differ by between devices."""
BOTH = pytest.mark.parametrize("on_device", [False, True], ids=["loops", "torch"])


@pytest.fixture(scope="module")
def known_hosts() -> list[PackedStructure]:
    hosts = [c.structure for c in candidates("hosts", "all", Path()) if isinstance(c, Candidate)]
    assert len(hosts) > 10
    return hosts


@pytest.fixture(scope="module")
def default() -> VoltageModel:
    return load_model("default")


def assert_equal_columns(
    found: PredictionColumns, expected: PredictionColumns, atol: float = VOLT
) -> None:
    """Of every ion and host that a candidate has in common."""
    np.testing.assert_array_equal(found.host, expected.host)
    np.testing.assert_array_equal(found.undercoordinated, expected.undercoordinated)
    assert found.errors == expected.errors
    assert found.host_state == expected.host_state
    meant = np.zeros(expected.voltage.shape, np.bool_)
    for x, hosts in enumerate(expected.host):
        meant[x, hosts[hosts >= 0]] = True
    assert meant.any()
    of_atom = np.repeat(meant, np.diff(expected.offsets), axis=1)
    for name, mask, tolerance in (
        ("voltage", meant, atol), ("site", meant, atol), ("uncertainty", meant, atol),
        ("out_of_domain", meant, 0.1), ("linear", of_atom, atol), ("additive", of_atom, atol),
    ):  # fmt: skip
        one, other = getattr(found, name), getattr(expected, name)
        np.testing.assert_allclose(
            one[..., mask], other[..., mask], atol=tolerance, rtol=0, err_msg=name
        )


@DEVICES
def test_the_default_model_says_the_same_of_the_known_hosts(device, default, known_hosts) -> None:
    expected = predict_columns(default, known_hosts)
    model = default if device.type == "cpu" else load_model("default").to(device)
    assert_equal_columns(predict_columns(model, known_hosts, on_device=True), expected)


@DEVICES
def test_sites_that_threads_find_ahead_are_those_of_the_device(device, monkeypatch) -> None:
    model = small_model(spec=INSERTION).to(device)
    structures = [random_crystal(seed, 3 + seed % 9, (3, 8, 25)) for seed in range(12)]
    expected = predict_columns(model, structures, on_device=True)
    monkeypatch.setattr(predictor, "THREADS_FOR_SITES", 1)
    monkeypatch.setitem(predictor.ATOMS_PER_CHUNK, device.type, 20)
    monkeypatch.setattr(ahead, "_PIECE", 5)

    def not_here(crystals):
        raise AssertionError

    monkeypatch.setattr(build, "find_sites", not_here)
    found = predict_columns(model, structures, on_device=True)
    # Random trunks give vectors of hundreds.
    np.testing.assert_allclose(found.voltage, expected.voltage, atol=VOLT, rtol=1e-5)
    np.testing.assert_allclose(found.additive, expected.additive, rtol=1e-3, atol=1e-3)


@DEVICES
def test_the_default_model_says_the_same_of_the_pool(device, default, shared_data) -> None:
    import pyarrow.parquet as pq

    table = pq.read_table(shared_data / "mp_pool.parquet")
    rows = table.take(np.sort(np.random.default_rng(1).choice(table.num_rows, 40, replace=False)))
    columns = (rows[name].to_pylist() for name in ("lattice", "frac_coords", "atomic_numbers"))
    structures = [PackedStructure.from_arrays(*row) for row in zip(*columns, strict=True)]
    expected = predict_columns(default, structures)
    model = default if device.type == "cpu" else load_model("default").to(device)
    assert_equal_columns(predict_columns(model, structures, on_device=True), expected)


@DEVICES
@pytest.mark.parametrize("spec", [NEAREST, PAPER, SHARED, INSERTION], ids=lambda spec: spec.name)
@pytest.mark.parametrize("trained", [True, False])
def test_every_kind_of_model_says_the_same(spec, trained, device) -> None:
    structures = [random_crystal(seed, 3 + seed % 9, (3, 8, 25)) for seed in range(12)]
    lonely = PackedStructure.from_arrays(np.eye(3) * 30, [[0, 0, 0]], [8])
    structures.append(lonely)
    expected = predict_candidates(small_model(spec=spec, trained=trained), structures)
    model = small_model(spec=spec, trained=trained).to(device)
    found = predict_candidates(model, structures, on_device=True)
    assert "isolated atom: site 0 (O)" in found[-1].errors["Mg"]
    for one, other in zip(found, expected, strict=True):
        assert one.errors == other.errors
        assert set(one.ions) == set(other.ions)
        for ion, known in other.ions.items():
            own = one.ions[ion]
            # Random trunks give vectors of hundreds.
            assert own.voltage == pytest.approx(known.voltage, abs=VOLT, rel=1e-5)
            np.testing.assert_allclose(own.additive, known.additive, rtol=1e-3, atol=1e-3)
            if trained:
                np.testing.assert_allclose(own.linear, known.linear, rtol=1e-3, atol=1e-3)
                assert own.lo90 == pytest.approx(known.lo90, abs=1e-3, rel=1e-4)
            else:
                assert own.linear is own.lo90 is own.out_of_domain is None


@DEVICES
def test_results_do_not_depend_on_what_else_is_in_the_batch(device, default, known_hosts) -> None:
    model = default if device.type == "cpu" else load_model("default").to(device)
    some = known_hosts[:8]
    together = predict_columns(model, some, on_device=True)
    shuffled = predict_columns(model, [*known_hosts[8:], *some[::-1]], on_device=True)
    for place, structure in enumerate(some):
        (alone,) = predict_candidates(model, [structure], on_device=True)
        for other in (shuffled.of(len(known_hosts) - 1 - place), together.of(place)):
            for ion, known in alone.ions.items():
                assert abs(other.ions[ion].voltage - known.voltage) < 1e-5
                np.testing.assert_allclose(
                    other.ions[ion].additive, known.additive, atol=VOLT, rtol=0
                )


def permuted(s: PackedStructure, rng: np.random.Generator) -> PackedStructure:
    return s.take(rng.permutation(len(s)))


def shifted(s: PackedStructure, rng: np.random.Generator) -> PackedStructure:
    coords = s.frac_coords + rng.uniform(0, 1, 3)
    return PackedStructure.from_arrays(s.lattice, coords, s.atomic_numbers)


def turned(s: PackedStructure, rng: np.random.Generator) -> PackedStructure:
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    return PackedStructure.from_arrays(s.lattice @ turn, s.frac_coords, s.atomic_numbers)


def doubled(s: PackedStructure, rng: np.random.Generator) -> PackedStructure:
    scale = rng.permutation([2, 1, 1])
    return PackedStructure.from_pymatgen(s.to_pymatgen() * scale.tolist())


def other_cell(s: PackedStructure, rng: np.random.Generator) -> PackedStructure:
    del rng
    return PackedStructure.from_pymatgen(s.to_pymatgen().get_reduced_structure("niggli"))


@BOTH
@pytest.mark.parametrize("change", [permuted, shifted, turned, doubled, other_cell])
def test_a_crystal_written_in_another_way_has_the_same_voltages(
    change, on_device, default, known_hosts
) -> None:
    rng = np.random.default_rng(0)
    some = [host for host in known_hosts if len(host) <= 30]
    before = predict_columns(default, some, on_device=on_device)
    after = predict_columns(default, [change(s, rng) for s in some], on_device=on_device)
    for candidate in range(len(some)):
        one, other = before.of(candidate), after.of(candidate)
        assert set(one.ions) == set(other.ions)
        for ion, known in one.ions.items():
            assert abs(other.ions[ion].voltage - known.voltage) < 5e-4, (candidate, ion)


@DEVICES
def test_memory_that_runs_out_halves_the_batch(device, monkeypatch) -> None:
    model = small_model(spec=INSERTION).to(device)
    structures = [random_crystal(seed, 5, (8, 25)) for seed in range(4)]
    expected = predict_columns(model, structures, on_device=True)
    sizes = []
    whole = module.build_on_device

    def scarce(crystals, spec, sites):
        sizes.append(len(crystals))
        if len(crystals) > 1 or len(sizes) == 6:  # the third host alone
            raise torch.OutOfMemoryError
        return whole(crystals, spec, sites)

    monkeypatch.setattr(module, "build_on_device", scarce)
    found = predict_columns(model, structures, on_device=True)
    assert sizes == [4, 2, 1, 1, 2, 1, 1]
    assert "out of memory: 5 atoms" in found.errors[2]["Li"]
    kept = [0, 1, 3]
    np.testing.assert_allclose(found.voltage[:, kept], expected.voltage[:, kept], atol=1e-5)


def test_a_model_that_moved_is_made_ready_again() -> None:
    model = small_model(spec=INSERTION)
    ready = model.on_device
    assert model.on_device is ready
    model.to(torch.device("cpu"))
    assert model.on_device is not ready


@DEVICES
def test_difficulty_and_percentile_are_those_of_the_domain(device) -> None:
    model = two_branch_model()
    structures = [random_crystal(seed, 6, (3, 8, 25)) for seed in range(9)]
    graph = GraphTensors.from_batch(build_graphs(structures, INSERTION), torch.device("cpu"))
    pooled = model.readout.pool(model.trunk(graph).double(), graph)
    # One of the training hosts themselves, and one far away.
    own = model.domain.neighborhood
    pooled[0, -len(own.center) :] = torch.from_numpy(own.hosts[3] * own.spread + own.center)
    pooled[1] += 1e4
    expected = model.domain.difficulty(pooled.numpy())
    domain = DeviceDomain(model.domain, device)
    found = domain.difficulty(pooled.to(device))
    np.testing.assert_allclose(found.cpu().numpy(), expected, rtol=1e-6)
    np.testing.assert_allclose(
        domain.percentile(found).cpu().numpy(), model.domain.percentile(expected), atol=1e-3
    )
    assert set(IONS) == set(model.ions)
