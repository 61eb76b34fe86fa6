from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.model.helpers import random_crystal
from voltscreen.errors import FileFormatError
from voltscreen.graph import NEAREST, build_graphs
from voltscreen.ions import ION_SYMBOLS
from voltscreen.model import predict_candidates
from voltscreen.model.element_table import build_element_table
from voltscreen.model.heads import IonHeads
from voltscreen.structures import HostState
from voltscreen.train.dataset import LabelledElectrodes, load_electrodes
from voltscreen.train.heads import HeadOptions, fit_head
from voltscreen.train.recipe import Recipe, train_model
from voltscreen.train.trunk import TrunkOptions, train_trunk

QUICK = Recipe(TrunkOptions(epochs=2, batch_size=16), HeadOptions(max_steps=20))


@pytest.fixture(scope="module")
def electrodes() -> LabelledElectrodes:
    """A made-up set: the voltage rises with the share of Fe and depends on the ion."""
    hosts = [random_crystal(seed, 6, (8, 25, 26)) for seed in range(40)]
    host_of_row = np.tile(np.arange(40), len(ION_SYMBOLS))
    ion = np.repeat(np.array(ION_SYMBOLS), 40)
    share = np.array([(h.atomic_numbers == 26).mean() for h in hosts])[host_of_row]
    voltage = 2 + 3 * share + 0.1 * np.array([ION_SYMBOLS.index(i) for i in ion])
    group = np.array(
        ["-".join(sorted(set(hosts[h].element_counts))) + str(h % 9) for h in host_of_row]
    )
    fold = host_of_row % 2
    return LabelledElectrodes(
        hosts, host_of_row, ion, voltage, group, np.full(len(voltage), np.nan),
        {"grouped": fold, "random": np.arange(len(voltage)) % 2},
    )  # fmt: skip


def test_a_trained_model_predicts_and_its_card_says_how_well(electrodes, tmp_path) -> None:
    seen = []
    model = train_model(
        electrodes, "tiny", tmp_path, "command", QUICK, progress=lambda *a: seen.append(a)
    )
    assert {part for part, *_ in seen} == {
        "grouped-0", "grouped-1", "random-0", "random-1", "final"
    }  # fmt: skip
    assert model.ions == ION_SYMBOLS
    pooled = {e.split: e for e in model.card.held_out if e.ion == "all"}
    assert set(pooled) == {"grouped", "random"}
    assert pooled["grouped"].n == len(electrodes)
    assert model.card.data.rows == dict.fromkeys(ION_SYMBOLS, 40)
    found = predict_candidates(model, electrodes.hosts[:3], host_state=HostState.AS_GIVEN)
    assert all(np.isfinite(p.ions[ion].voltage) for p in found for ion in ION_SYMBOLS)
    assert found[0].ions["Mg"].out_of_domain < 100

    # A second run finds every part and gives the same model.
    seen.clear()
    again = train_model(electrodes, "tiny", tmp_path, "command", QUICK, lambda *a: seen.append(a))
    assert seen == []
    assert again.id == model.id


def test_the_frozen_trunk_is_byte_equal_after_fitting_heads(electrodes, monkeypatch) -> None:
    from voltscreen.train import recipe
    from voltscreen.train.trunk import train_trunk as real

    kept = {}

    def spy(*args, **kwargs):
        trunk, head = real(*args, **kwargs)
        kept["before"] = {k: v.clone() for k, v in trunk.state_dict().items()}
        kept["trunk"] = trunk
        return trunk, head

    monkeypatch.setattr(recipe, "train_trunk", spy)
    graphs = build_graphs(electrodes.hosts, NEAREST)
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        recipe._part(
            Path(folder) / "x.pt", electrodes, graphs, build_element_table(),
            np.arange(len(electrodes)), QUICK, None,
        )  # fmt: skip
    after = kept["trunk"].state_dict()
    assert any("running_mean" in key for key in after)
    for key, value in kept["before"].items():
        assert value.numpy().tobytes() == after[key].numpy().tobytes(), key
    assert not kept["trunk"].training
    assert not any(p.requires_grad for p in kept["trunk"].parameters())


def test_training_lowers_the_loss_and_repeats(electrodes) -> None:
    graphs = build_graphs(electrodes.hosts, NEAREST)
    rows = electrodes.rows_of("Li")
    options = TrunkOptions(epochs=12, batch_size=10)
    courses = []
    for _ in range(2):
        losses = []
        trunk, _ = train_trunk(
            graphs, electrodes.host_of_row[rows], electrodes.voltage[rows],
            build_element_table(), options, lambda epoch, loss: losses.append(loss),
        )  # fmt: skip
        courses.append((losses, trunk.state_dict()))
    assert courses[0][0][-1] < 0.5 * courses[0][0][0]
    assert courses[0][0] == courses[1][0]
    for key, value in courses[0][1].items():
        assert torch.equal(value, courses[1][1][key])


def test_a_head_learns_and_its_steps_are_chosen_inside() -> None:
    rng = np.random.default_rng(0)
    pooled = rng.normal(size=(200, 64))
    voltage = 2 + np.tanh(pooled[:, 0]) + 0.05 * rng.normal(size=200)
    group = np.array([str(i // 4) for i in range(200)])
    torch.manual_seed(0)
    head, steps = fit_head(pooled, voltage, group, IonHeads(1), HeadOptions(max_steps=300))
    assert steps > 0
    predicted = head(torch.from_numpy(pooled).float())[0].detach().numpy()
    assert np.abs(predicted - voltage).mean() < 0.5 * np.abs(voltage - voltage.mean()).mean()


def test_missing_files_are_one_sentence(tmp_path) -> None:
    with pytest.raises(FileFormatError, match="cannot read labelled electrodes"):
        load_electrodes(tmp_path)
