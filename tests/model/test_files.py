from __future__ import annotations

import json
import struct

import numpy as np
import pytest
import torch

from tests.model.helpers import random_crystal, small_model, two_branch_model
from voltscreen.errors import ModelError
from voltscreen.graph import INSERTION
from voltscreen.model import (
    available_models,
    load_model,
    model_from_bytes,
    model_to_bytes,
    predict_candidates,
    read_card,
    save_model,
    whole_file,
)
from voltscreen.model.element_table import build_element_table, read_element_table
from voltscreen.model.paper_checkpoint import import_checkpoint


@pytest.mark.parametrize(
    "make", [small_model, lambda: small_model(trained=False), two_branch_model]
)
def test_a_saved_model_is_the_same_model(tmp_path, make) -> None:
    model = make()
    save_model(model, tmp_path / "small.safetensors")
    again = load_model(str(tmp_path / "small.safetensors"))
    assert again.id == model.id
    assert again.card == model.card
    assert read_card(str(tmp_path / "small.safetensors")) == (model.id, model.card)
    crystals = [random_crystal(seed) for seed in range(3)]
    for old, new in zip(
        predict_candidates(model, crystals), predict_candidates(again, crystals), strict=True
    ):
        assert new.ions["Mg"].voltage == old.ions["Mg"].voltage
        assert new.ions["Mg"].out_of_domain == old.ions["Mg"].out_of_domain
        np.testing.assert_array_equal(new.ions["Mg"].additive, old.ions["Mg"].additive)


def test_a_renamed_file_gives_the_model_its_new_name(tmp_path) -> None:
    save_model(small_model(), tmp_path / "small.safetensors")
    (tmp_path / "small.safetensors").rename(tmp_path / "other.safetensors")
    model = load_model(str(tmp_path / "other.safetensors"))
    assert (model.name, model.card.name, model.id) == ("other", "other", small_model().id)


def test_a_file_borrows_what_another_holds_and_is_whole_without_it_when_asked(tmp_path) -> None:
    single, both = small_model(spec=INSERTION), two_branch_model()
    first, second = tmp_path / "single.safetensors", tmp_path / "both.safetensors"
    save_model(single, first)
    save_model(both, second, first)
    assert second.stat().st_size < len(model_to_bytes(both)) - 300_000
    assert load_model(str(second)).id == both.id
    whole = whole_file(str(second))
    first.unlink()
    with pytest.raises(ModelError, match=r"needs the model file single\.safetensors beside it"):
        load_model(str(second))
    assert model_from_bytes(whole, "x").id == both.id
    second.write_bytes(whole)
    assert whole_file(str(second)) == whole


def test_the_id_depends_on_weights_and_element_table() -> None:
    model = small_model()
    assert small_model().id == model.id
    assert small_model(seed=1).id != model.id
    changed = small_model()
    changed.table.features[8, 0] += 1
    assert model_from_bytes(model_to_bytes(model), "x").id != changed.id


def test_changed_weights_are_noticed() -> None:
    data = bytearray(model_to_bytes(small_model()))
    data[len(data) // 2] ^= 0xFF
    with pytest.raises(ModelError, match="do not match its id"):
        model_from_bytes(bytes(data), "m.safetensors")


@pytest.mark.parametrize(
    "data",
    [b"", b"\x00" * 8, b"not a model at all", struct.pack("<Q", 10**9) + b"{}",
     struct.pack("<Q", 2) + b"{}"],
)  # fmt: skip
def test_foreign_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(ModelError, match="evil"):
        model_from_bytes(data, "evil.safetensors")


def test_an_unknown_model_lists_the_known_ones() -> None:
    assert "default" in available_models()
    with pytest.raises(ModelError, match="default"):
        load_model("no-such-model")
    with pytest.raises(ModelError, match="there is no model file"):
        load_model("/nowhere/m.safetensors")


def checkpoint(path, **changes):
    """A file of the original code's layout, with random weights."""
    torch.manual_seed(0)

    def small(*shape):
        return 0.1 * torch.randn(*shape)

    state = {"embedding.weight": small(64, 92), "embedding.bias": small(64)}
    for i in range(3):
        key = f"convs.{i}."
        state |= {key + "fc_full.weight": small(128, 169), key + "fc_full.bias": small(128)}
        for name, size in (("bn1", 128), ("bn2", 64)):
            state |= {
                f"{key}{name}.weight": torch.rand(size), f"{key}{name}.bias": torch.randn(size),
                f"{key}{name}.running_mean": torch.randn(size),
                f"{key}{name}.running_var": torch.rand(size) + 0.5,
                f"{key}{name}.num_batches_tracked": torch.tensor(7),
            }  # fmt: skip
    state |= {
        "conv_to_fc.weight": small(128, 64), "conv_to_fc.bias": small(128),
        "fc_out.weight": small(1, 128), "fc_out.bias": small(1),
    }  # fmt: skip
    normalizer = {"mean": torch.tensor(2.0), "std": torch.tensor(1.5)}
    torch.save({"state_dict": state, "normalizer": normalizer, "args": {}, **changes}, path)
    return path


def table_file(path):
    table = build_element_table()
    rows = {str(z): table.features[z].tolist() for z in range(1, 101)}
    path.write_text(json.dumps(rows))
    return path


def test_a_checkpoint_is_imported_for_one_ion(tmp_path) -> None:
    table = read_element_table(table_file(tmp_path / "table.json"))
    model = import_checkpoint(checkpoint(tmp_path / "m.pth.tar"), table, "Mg", "paper-Mg")
    assert model.ions == ("Mg",)
    assert model.graph_spec.name == "paper-1"
    found = predict_candidates(model, [random_crystal(0)])[0].ions["Mg"]
    assert found.sd is None
    assert found.voltage == pytest.approx(found.additive.astype(np.float64).mean(), rel=1e-7)


class Evil:
    def __reduce__(self):
        import os

        return os.system, ("touch /tmp/voltscreen-evil",)


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path) -> None:
    path = checkpoint(tmp_path / "evil.pth.tar", extra=Evil())
    with pytest.raises(ModelError, match="could run code"):
        import_checkpoint(path, build_element_table(), "Mg", "evil")


@pytest.mark.parametrize(
    "changes",
    [
        {"state_dict": {}},
        {"state_dict": None},
        {"normalizer": {}},
        {"normalizer": {"mean": 1, "std": 2}},
    ],
)
def test_a_checkpoint_of_another_kind_is_refused(tmp_path, changes) -> None:
    with pytest.raises(ModelError):
        import_checkpoint(
            checkpoint(tmp_path / "m.pth.tar", **changes), build_element_table(), "Mg", "m"
        )


def test_not_a_checkpoint_or_missing_is_one_sentence(tmp_path) -> None:
    (tmp_path / "text.pth.tar").write_text("hello")
    for name in ("text.pth.tar", "missing.pth.tar"):
        with pytest.raises(ModelError, match=name):
            import_checkpoint(tmp_path / name, build_element_table(), "Mg", "m")


@pytest.mark.parametrize("text", ["", "[]", '{"x": [1]}', '{"1": [1, 2]}', '{"1": "abc"}', "{}"])
def test_a_wrong_element_table_is_refused(tmp_path, text) -> None:
    (tmp_path / "t.json").write_text(text)
    with pytest.raises(ModelError, match="t.json"):
        read_element_table(tmp_path / "t.json")


def test_element_table_has_one_bit_a_property() -> None:
    table = build_element_table()
    assert table.features.shape == (101, 92)
    iron = np.flatnonzero(table.features[26])
    # group 8, period 4, block d in the order of the table
    assert iron[0] == 8
    assert iron[1] == 19 + 3
    assert 78 + 2 in iron
    assert table.features[1:].sum(axis=1).max() == 9
    assert table.unknown_elements(np.array([8, 104], np.uint8)) == ["Rf"]
