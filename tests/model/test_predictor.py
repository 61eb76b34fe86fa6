from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from tests.model.helpers import IONS, random_crystal, small_model, two_branch_model
from voltscreen.errors import ModelError
from voltscreen.graph import INSERTION, NEAREST, PAPER, build_graphs
from voltscreen.model import predict_candidates, predict_columns
from voltscreen.model.local_voltage import fit_linear_local
from voltscreen.model.trunk import GraphTensors
from voltscreen.structures import HostState, PackedStructure


@pytest.mark.parametrize("spec", [NEAREST, PAPER, INSERTION], ids=lambda s: s.name)
def test_additive_local_voltages_have_the_voltage_as_their_mean(spec) -> None:
    crystals = [random_crystal(seed, n) for seed, n in enumerate((1, 5, 17, 40))]
    for prediction in predict_candidates(small_model(spec=spec), crystals):
        for ion in IONS:
            found = prediction.ions[ion]
            mean = found.additive.astype(np.float64).mean()
            assert abs(found.voltage - found.site - mean) < 1e-6


@pytest.mark.parametrize(
    "make", [small_model, partial(small_model, spec=INSERTION), two_branch_model]
)
def test_predictions_do_not_depend_on_the_batch(make) -> None:
    model = make()
    crystals = [random_crystal(seed, 3 + seed % 30) for seed in range(90)]
    together = predict_candidates(model, crystals)
    order = np.random.default_rng(0).permutation(len(crystals))
    shuffled = predict_candidates(model, [crystals[i] for i in order])
    for place, i in enumerate(order):
        alone = predict_candidates(model, [crystals[i]])[0]
        for ion in IONS:
            expected = together[i].ions[ion]
            for other in (alone.ions[ion], shuffled[place].ions[ion]):
                assert abs(other.voltage - expected.voltage) < 1e-5
                np.testing.assert_allclose(other.additive, expected.additive, rtol=1e-5, atol=1e-5)
                np.testing.assert_allclose(other.linear, expected.linear, rtol=1e-5, atol=1e-5)


def test_the_same_candidates_give_the_same_numbers_to_the_last_bit() -> None:
    model = two_branch_model()
    crystals = [random_crystal(seed, 3 + seed % 30, (3, 8, 25)) for seed in range(30)]
    one, other = (predict_columns(model, crystals) for _ in range(2))
    for name in ("voltage", "site", "uncertainty", "out_of_domain", "linear", "additive"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_linear_local_voltages_average_to_the_ridge_fit() -> None:
    rng = np.random.default_rng(0)
    pooled, voltages = rng.normal(size=(80, 64)), rng.normal(size=80)
    weights, bias = fit_linear_local(pooled, voltages, ridge=10.0)
    from sklearn.linear_model import Ridge

    reference = Ridge(alpha=10.0).fit(pooled, voltages)
    np.testing.assert_allclose(weights, reference.coef_, rtol=1e-8, atol=1e-12)
    assert bias == pytest.approx(float(reference.intercept_))


def test_ions_in_the_candidate_are_removed_for_their_own_host_only() -> None:
    model = small_model()
    crystal = random_crystal(3, 12, elements=(3, 8, 25))
    prediction = predict_candidates(model, [crystal])[0]
    n_lithium = int((crystal.atomic_numbers == 3).sum())
    assert prediction.ions["Li"].host_state is HostState.ION_REMOVED
    assert len(prediction.ions["Li"].additive) == 12 - n_lithium
    assert prediction.ions["Mg"].host_state is HostState.AS_GIVEN
    assert len(prediction.ions["Mg"].additive) == 12
    given = predict_candidates(model, [crystal], ["Li"], HostState.AS_GIVEN)[0]
    assert len(given.ions["Li"].linear) == 12


def test_bad_structures_are_named_and_stop_nothing() -> None:
    good = random_crystal(0)
    overlap = PackedStructure.from_arrays(np.eye(3) * 6, [[0, 0, 0], [0.01, 0, 0]], [8, 8])
    superheavy = PackedStructure.from_arrays(np.eye(3) * 4, [[0, 0, 0]], [110])
    metal = PackedStructure.from_arrays(np.eye(3) * 3, [[0, 0, 0]], [3])
    results = predict_candidates(small_model(), [overlap, good, superheavy, metal])
    assert all("overlapping" in results[0].errors[ion] for ion in IONS)
    assert results[0].ions == {}
    assert set(results[1].ions) == set(IONS)
    assert "no node features for Ds" in results[2].errors["Mg"]
    assert set(results[3].errors) == {"Li"}
    assert set(results[3].ions) == {"Mg", "Al"}
    np.testing.assert_allclose(
        results[1].ions["Mg"].voltage,
        predict_candidates(small_model(), [good])[0].ions["Mg"].voltage,
        atol=1e-5,
    )


def test_undercoordinated_atoms_are_counted() -> None:
    gas = PackedStructure.from_arrays(np.eye(3) * 20, [[0, 0, 0], [0.1, 0, 0]], [8, 8])
    found = predict_candidates(small_model(), [gas, random_crystal(0)], ["Mg"])
    assert found[0].ions["Mg"].undercoordinated == 2
    assert found[1].ions["Mg"].undercoordinated == 0
    assert np.isfinite(found[0].ions["Mg"].voltage)


def test_intervals_and_domain_come_from_the_model() -> None:
    model = small_model()
    found = predict_candidates(model, [random_crystal(0)])[0].ions["Mg"]
    graph = GraphTensors.from_batch(build_graphs([random_crystal(0)], NEAREST), model.device)
    pooled = model.readout.pool(model.trunk(graph).double(), graph)
    wider = model.domain.difficulty(pooled.numpy())[IONS.index("Mg"), 0]
    assert found.sd == pytest.approx(0.6 * wider)
    for low, high, half in ((found.lo80, found.hi80, 0.8), (found.lo90, found.hi90, 1.0)):
        assert high - found.voltage == pytest.approx(half * wider)
        assert found.voltage - low == pytest.approx(half * wider)
    assert 0 <= found.out_of_domain <= 100
    bare = predict_candidates(small_model(trained=False), [random_crystal(0)])[0].ions["Mg"]
    assert bare.sd is bare.lo90 is bare.hi90 is bare.out_of_domain is bare.linear is None
    assert bare.voltage == found.voltage


def test_an_ion_without_a_head_is_refused() -> None:
    with pytest.raises(ModelError, match="does not know Zn.*predicts Li, Mg, Al"):
        predict_candidates(small_model(), [random_crystal(0)], ["Zn"])


def test_no_structures_give_no_predictions() -> None:
    assert predict_candidates(small_model(), []) == []
