from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.model.helpers import random_crystal
from voltscreen.errors import FileFormatError, ModelError
from voltscreen.graph import INSERTION, NEAREST, build_graphs
from voltscreen.ions import ION_SYMBOLS
from voltscreen.model import predict_candidates
from voltscreen.model.element_table import build_element_table
from voltscreen.model.heads import IonHeads
from voltscreen.structures import HostState
from voltscreen.train import recipe
from voltscreen.train.dataset import LabelledElectrodes
from voltscreen.train.distill import (
    FinetuneOptions,
    Network,
    PotentialTargets,
    PretrainOptions,
    finetune,
    predict_hosts,
    pretrain,
    squash,
)
from voltscreen.train.heads import HeadOptions, fit_head
from voltscreen.train.parts import Options, PartKey, Step, make_parts, pretrained
from voltscreen.train.process import ProcessOptions, Rows, fit_process
from voltscreen.train.recipe import MODEL_RECIPE, TrainingRun, rerun_out_of_fold, train_model
from voltscreen.train.training_hosts import TrainingHosts
from voltscreen.train.trunk import TrunkOptions, pooled_features, train_trunk

QUICK = Options(
    PretrainOptions(epochs=2, batch_size=16),
    FinetuneOptions(epochs=2, batch_size=16),
    FinetuneOptions(epochs=2, batch_size=16),
    TrunkOptions(epochs=1, batch_size=16),
    HeadOptions(max_steps=20),
)
N_HOSTS, N_POOL = 24, 20


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> TrainingRun:
    """A made-up set: the voltage rises with the share of Fe and depends on the ion."""
    hosts = [random_crystal(seed, 6, (8, 25, 26)) for seed in range(N_HOSTS + N_POOL)]
    share = np.array([(h.atomic_numbers == 26).mean() for h in hosts])
    host_of_row = np.tile(np.arange(N_HOSTS), len(ION_SYMBOLS))
    ion = np.repeat(np.array(ION_SYMBOLS), N_HOSTS)
    voltage = 2 + 3 * share[host_of_row] + 0.1 * np.array([ION_SYMBOLS.index(i) for i in ion])
    group = np.array([f"system-{h % 9}" for h in host_of_row])
    data = LabelledElectrodes(
        hosts[:N_HOSTS], host_of_row, ion, voltage, group, np.full(len(voltage), np.nan),
        {"grouped": host_of_row % 9 % 2, "random": np.arange(len(voltage)) % 2},
    )  # fmt: skip
    values = np.full((len(hosts), len(ION_SYMBOLS), 4), np.nan, np.float32)
    values[:, ::3] = (2 * share - 1)[:, None, None]
    rng = np.random.default_rng(0)
    topotactic = np.full((len(hosts), len(ION_SYMBOLS)), np.nan, np.float32)
    topotactic[N_HOSTS:, 1] = 2 * share[N_HOSTS:] - 1
    targets = PotentialTargets(
        topotactic,
        values,
        rng.normal(size=(len(hosts), 64)).astype(np.float32),
        [np.zeros(len(host), np.float32) for host in hosts],
    )
    strange = np.arange(N_HOSTS, N_HOSTS + N_POOL - 2)
    training = TrainingHosts(hosts, N_HOSTS, targets, strange, "sha256")
    return TrainingRun(data, training, tmp_path_factory.mktemp("parts"), 2, QUICK)


@pytest.fixture(scope="module")
def quick_ladder():
    """Three rungs and the quickest baselines, instead of all."""
    patch = pytest.MonkeyPatch()
    every = recipe.ladder
    for name, kept in (("BASELINES", ("mean", "boosting")), ("FROZEN", ("frozen-ridge",))):
        recipes = getattr(recipe, name)
        patch.setattr(recipe, name, {key: recipes[key] for key in kept})
    patch.setattr(
        recipe, "ladder",
        lambda data: {k: v for k, v in every(data).items() if k in {"grouped", "random", "ion-Mg"}},
    )  # fmt: skip
    yield
    patch.undo()


@pytest.fixture(scope="module")
def trained(run, quick_ladder):
    seen: list[Step] = []
    return train_model(run, "tiny", "command", seen.append), seen


def test_a_trained_model_predicts_and_its_card_says_how_well(run, trained) -> None:
    done, seen = trained
    model, store = done.model, done.out_of_fold
    assert {
        "pretrained.strange.all.0",
        "pretrained.strange.all.1",
        "distilled.grouped.0.0",
        "process.grouped.0.0",
        "paper.random.1.0",
    } <= {step.part for step in seen if not step.epoch}
    assert {(step.epoch, step.epochs) for step in seen if step.part == "distilled.grouped.0.0"} == {
        (1, 2), (2, 2), (0, 0),
    }  # fmt: skip
    assert all(np.isfinite(step.loss) and step.done <= step.total for step in seen)
    assert model.ions == ION_SYMBOLS
    pooled = {
        (e.recipe, e.split): e for e in model.card.ladder if e.ion == "all" and e.rows == "all"
    }
    assert pooled[MODEL_RECIPE, "grouped"].n == len(run.data)
    assert pooled[MODEL_RECIPE, "ion-Mg"].n == N_HOSTS
    for name in ("mean", "boosting", "paper", "pooled-ions", "frozen-ridge"):
        assert np.isfinite(pooled[name, "random"].mae)
        assert store.descriptions[name]
    assert model.card.data.rows == dict.fromkeys(ION_SYMBOLS, N_HOSTS)
    assert done.single.card.own_recipe == "distilled"
    assert done.single.card.data == model.card.data
    found = predict_candidates(model, run.data.hosts[:3], host_state=HostState.AS_GIVEN)
    for prediction in found:
        for ion in ION_SYMBOLS:
            assert prediction.ions[ion].lo90 < prediction.ions[ion].lo80
            assert prediction.ions[ion].lo80 < prediction.ions[ion].voltage
            assert prediction.ions[ion].out_of_domain < 100


def test_a_second_run_finds_every_part_and_gives_the_same_model(run, trained) -> None:
    seen: list[Step] = []
    again = train_model(run, "tiny", "command", seen.append)
    assert seen == []
    assert again.model.id == trained[0].model.id
    assert again.single.id == trained[0].single.id


@pytest.mark.parametrize("name", ["distilled", "process", MODEL_RECIPE, "blend", "paper"])
def test_one_rung_again_is_the_rung_of_the_whole_run(run, trained, name) -> None:
    stored = trained[0].out_of_fold.get(name, "grouped", run.data).prediction
    again = recipe.rerun_rung(run, name, "grouped")
    np.testing.assert_allclose(again, stored, atol=1e-4)


def test_a_recipe_or_split_that_there_is_not_is_refused(run, quick_ladder) -> None:
    with pytest.raises(ModelError, match="no recipe 'alchemy'"):
        recipe.rerun_rung(run, "alchemy", "grouped")
    with pytest.raises(FileFormatError, match="no split 'odd'"):
        recipe.rerun_rung(run, "paper", "odd")


def test_a_missing_part_alone_is_made_again_and_comes_out_the_same(run, trained) -> None:
    shop = run.workshop()
    key = PartKey("distilled", "grouped", 0, 1)
    before = shop.read(key)
    shop.path(key).unlink()
    seen: list[Step] = []
    make_parts(shop, [key, pretrained(0)], 1, seen.append)
    assert {step.part for step in seen} == {key.name}
    np.testing.assert_array_equal(shop.read(key).voltages, before.voltages)


def test_test_rows_leave_no_trace_in_the_parts_that_predict_them(run, trained, tmp_path) -> None:
    """Other labels on the rows of a fold change nothing in what its part predicts."""
    from dataclasses import replace

    fold = run.data.folds["grouped"]
    voltage = np.where(fold == 0, 9.0, run.data.voltage)
    values = run.hosts.targets.insertion.copy()
    tested = np.unique(run.data.host_of_row[fold == 0])
    values[tested] = 7.0
    other = replace(
        run,
        data=replace(run.data, voltage=voltage),
        hosts=replace(run.hosts, targets=replace(run.hosts.targets, insertion=values)),
        folder=tmp_path,
    )
    for name in ("distilled", "process", "paper", "pooled-ions-site"):
        key = PartKey(name, "grouped", 0)
        make_parts(other.workshop(), [key], 1)
        expected = run.workshop().read(key).voltages
        np.testing.assert_array_equal(other.workshop().read(key).voltages, expected)


def test_the_frozen_trunk_is_byte_equal_after_fitting_heads(run) -> None:
    data, table = run.data, build_element_table()
    graphs = build_graphs(data.hosts, NEAREST)
    own = data.rows_of("Li")
    trunk, head = train_trunk(
        graphs, data.host_of_row[own], data.voltage[own], table, QUICK.paper_trunk
    )
    before = {key: value.clone() for key, value in trunk.state_dict().items()}
    assert any("running_mean" in key for key in before)
    pooled = pooled_features(trunk, graphs)
    for ion in ("Mg", "Al"):
        rows = data.rows_of(ion)
        features = pooled[data.host_of_row[rows]]
        fit_head(features, data.voltage[rows], data.group[rows], head, QUICK.paper_head)
    assert pooled_features(trunk, graphs).tobytes() == pooled.tobytes()
    for key, value in trunk.state_dict().items():
        assert value.numpy().tobytes() == before[key].numpy().tobytes(), key


def test_the_frozen_trunk_of_the_model_is_byte_equal_to_the_pretrained_one(run, trained) -> None:
    start = run.workshop().read(pretrained(0)).state
    frozen = trained[0].model.trunk.trunks[1].state_dict()
    assert any("running_var" in name for name in frozen)
    for name, value in frozen.items():
        assert value.numpy().tobytes() == start[f"trunk.{name}"].numpy().tobytes(), name


def test_a_process_follows_its_rows_and_says_each_without_itself() -> None:
    rng = np.random.default_rng(0)
    pooled = rng.normal(size=(60, 195))
    host, ion = np.tile(np.arange(60), 2), np.repeat([0, 5], 60)
    voltage = 2 + pooled[host, 0] + 0.5 * (ion == 5)
    rows = Rows(host, ion, voltage, np.array([f"g{h % 20}" for h in host]))
    shares = np.zeros((60, len(ION_SYMBOLS), 2))
    options = ProcessOptions(rows=120, steps=25)
    process, alone = fit_process(pooled, shares, torch.nn.Linear(64, 64), rows, options)
    said = process.of_hosts(torch.from_numpy(pooled), torch.from_numpy(shares).transpose(0, 1))
    assert np.corrcoef(said.numpy()[ion, host], voltage)[0, 1] > 0.99
    # Without a row, by its formula and by leaving it out; what it learned stays as it was.
    kept = rows.of(np.arange(1, len(rows)))
    learned = ProcessOptions(rows=120, steps=0, kernels=("exponential",))
    _, without_first = fit_process(pooled, shares, torch.nn.Linear(64, 64), rows, learned)
    less, _ = fit_process(pooled, shares, torch.nn.Linear(64, 64), kept, learned)
    first = less.of_hosts(
        torch.from_numpy(pooled[:1]), torch.from_numpy(shares[:1]).transpose(0, 1)
    )
    assert float(first[0, 0]) == pytest.approx(without_first[0], abs=0.02)
    assert np.abs(alone - voltage).mean() < np.abs(voltage - voltage.mean()).mean()


def test_pretraining_learns_what_finetuning_starts_from(run) -> None:
    table, graphs = build_element_table(), build_graphs(run.hosts.structures, INSERTION)
    options = PretrainOptions(epochs=40, batch_size=10, noise=0.0)
    network = pretrain(graphs, run.hosts.pool, run.hosts.targets, table, options)
    outputs, _ = predict_hosts(network, graphs, run.hosts.pool)
    insertion = run.hosts.targets.insertion[run.hosts.pool][:, 0, 0]
    topotactic = run.hosts.targets.topotactic[run.hosts.pool][:, 1]
    assert np.corrcoef(outputs[:, 1, 1], topotactic)[0, 1] > 0.8
    assert np.corrcoef(outputs[:, 0, 2], insertion)[0, 1] > 0.8
    rows = (np.arange(5), np.zeros(5, int), np.full(5, 3.0))
    start = Network(table, INSERTION)
    start.load_state_dict(network.state_dict())
    tuned = finetune(start, graphs, rows, None, table, FinetuneOptions(epochs=1, batch_size=5))
    assert not torch.equal(tuned.trunk.embedding.weight, start.trunk.embedding.weight)
    assert torch.equal(start.trunk.embedding.weight, network.trunk.embedding.weight)


def test_squash_is_the_identity_near_zero_and_logarithmic_beyond() -> None:
    values = np.array([-1.5, 0.3, 2.0, 2.0 + np.e - 1, -(2.0 + np.e**2 - 1)])
    np.testing.assert_allclose(squash(values), [-1.5, 0.3, 2.0, 3.0, -4.0])


def test_a_head_follows_a_linear_target_and_stops_where_inner_folds_say() -> None:
    rng = np.random.default_rng(0)
    pooled = rng.uniform(0, 1, (200, 64))
    voltages = 2 + pooled[:, 0] - pooled[:, 1]
    torch.manual_seed(0)
    head, steps = fit_head(
        pooled, voltages, np.arange(200).astype(str), IonHeads(1), HeadOptions(max_steps=300)
    )
    error = head(torch.from_numpy(pooled).float())[0].detach().numpy() - voltages
    assert steps > 50
    assert np.abs(error).mean() < 0.12


def test_rerun_reproduces_the_stored_predictions(run, trained) -> None:
    again = rerun_out_of_fold(run)
    for name in (MODEL_RECIPE, "distilled", "boosting", "blend"):
        np.testing.assert_array_equal(
            again.get(name, "grouped", run.data).prediction,
            trained[0].out_of_fold.get(name, "grouped", run.data).prediction,
        )
