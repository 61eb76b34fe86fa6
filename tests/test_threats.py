"""What docs/threats.md promises, tried: nothing runs code, and no secret leaks."""

from __future__ import annotations

import json
import os
import pickle
import shlex
import subprocess
import time
import zipfile
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.fuzz.targets import SEEDS, TARGETS
from tests.campaign.test_campaign import pool, spec_of
from tests.model.helpers import small_model
from voltscreen.campaign import control
from voltscreen.campaign.spec import load_spec, parse_spec
from voltscreen.campaign.worker import work
from voltscreen.cluster.script import Array, render
from voltscreen.cluster.site import Site
from voltscreen.errors import ModelError, SpecError, VoltscreenError
from voltscreen.graph import INSERTION
from voltscreen.model.catalog import read_card
from voltscreen.model.element_table import build_element_table
from voltscreen.model.files import load_model, model_to_bytes, save_model
from voltscreen.model.paper_checkpoint import import_checkpoint


class Bomb:
    """What an attacker's pickle does when it is loaded."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


# --- no code of others ------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["plain pickle", "torch archive", "torch's own"])
def test_a_checkpoint_that_would_run_code_is_refused_and_runs_none(tmp_path, layout) -> None:
    marker, path = tmp_path / "ran", tmp_path / "model.pth.tar"
    content = {"state_dict": {"embedding.weight": Bomb(str(marker))}, "normalizer": {}}
    if layout == "plain pickle":
        path.write_bytes(pickle.dumps(content))
    elif layout == "torch archive":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a/data.pkl", pickle.dumps(content))
            archive.writestr("a/version", "3")
    else:
        torch.save(content, path)
    with pytest.raises(ModelError):
        import_checkpoint(path, build_element_table(), "Mg", "x")
    assert not marker.exists()


def test_yaml_makes_no_objects_and_aliases_do_not_blow_up(tmp_path) -> None:
    (tmp_path / "a.yaml").write_text(f"!!python/object/apply:os.mkdir ['{tmp_path}/ran']")
    with pytest.raises(SpecError):
        load_spec(tmp_path / "a.yaml")
    assert not (tmp_path / "ran").exists()
    laughs = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    laughs += [f"{c}: &{c} [{', '.join([f'*{p}'] * 9)}]" for p, c in pairwise("abcdefghi")]
    (tmp_path / "b.yaml").write_text("\n".join(laughs))
    begun = time.process_time()
    with pytest.raises(SpecError) as caught:
        load_spec(tmp_path / "b.yaml")
    assert time.process_time() - begun < 2
    assert len(str(caught.value)) < 2000


@pytest.mark.parametrize("name", ["a; rm x", "$(touch x)", "../x", "a\n#SBATCH", "a b", "-x", ""])
def test_a_campaigns_name_cannot_be_a_command_or_a_path(name) -> None:
    with pytest.raises(SpecError, match="name"):
        parse_spec({"name": name, "ions": ["Mg"], "source": {"hosts": "all"}})


def test_what_goes_into_a_batch_script_is_quoted(tmp_path) -> None:
    hostile = f"$(mkdir {tmp_path}/ran); `mkdir {tmp_path}/ran2` 'x' \"y\""
    array = Array("n", hostile, 1, ("worker", "--campaign", hostile), tmp_path)
    script = render(Site(environment={"X": hostile}), array)
    assert shlex.quote(hostile) in script
    exports = "\n".join(line for line in script.splitlines() if line.startswith("export X="))
    told = subprocess.run(
        ["bash", "-c", f'{exports}\nprintf %s "$X"'], capture_output=True, text=True, check=True
    )
    assert told.stdout == hostile
    assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0
    assert not (tmp_path / "ran").exists()


# --- wrong pieces -----------------------------------------------------------------------------


def test_weights_with_another_element_table_are_refused(tmp_path) -> None:
    path = tmp_path / "a.safetensors"
    model = small_model(spec=INSERTION)
    data = model_to_bytes(model)
    length = int.from_bytes(data[:8], "little")
    where = json.loads(data[8 : 8 + length])["element_table.features"]["data_offsets"]
    start = 8 + length + where[0]
    table = np.frombuffer(data[start : 8 + length + where[1]], np.float32)
    path.write_bytes(
        data[:start] + (1 - table).astype("<f4").tobytes() + data[start + table.nbytes :]
    )
    with pytest.raises(ModelError, match="weights and element table do not match its id"):
        load_model(str(path))


def test_a_model_of_a_newer_voltscreen_is_refused_before_a_campaign_begins(
    tmp_path, store, launchpad
) -> None:
    data = model_to_bytes(small_model(spec=INSERTION))
    newer = data.replace(b"voltscreen-model-", b"voltscreen-model_")
    path = tmp_path / "newer.safetensors"
    path.write_bytes(newer)
    for reader in (load_model, read_card):
        with pytest.raises(ModelError, match="not a model of this version"):
            reader(str(path))
    with pytest.raises(ModelError, match="not a model of this version"):
        control.submit(store, launchpad, spec_of(pool(tmp_path, 4, bad=False), model=str(path)))
    assert store.campaigns.count_documents({}) == 0


@pytest.mark.parametrize(("version", "reason"), [(3, "is of version 3"), (0, "version")])
def test_a_spec_of_another_version_is_refused(version: int, reason: str) -> None:
    content = {"name": "a", "ions": ["Mg"], "source": {"hosts": "all"}, "version": version}
    with pytest.raises(SpecError, match=reason):
        parse_spec(content)


# --- secrets ----------------------------------------------------------------------------------


def test_no_stored_document_holds_a_password_or_a_key(
    store, launchpad, tmp_path, monkeypatch, voltscreen_home
) -> None:
    from voltscreen.campaign import firetasks
    from voltscreen.store import embedded

    monkeypatch.setenv("MP_API_KEY", "k3y-k3y-k3y-k3y")
    state = embedded.start(voltscreen_home)
    save_model(small_model(spec=INSERTION), voltscreen_home / "models" / "small.safetensors")
    control.submit(store, launchpad, spec_of(pool(tmp_path, 6, bad=False), model="small"))

    def fails(*_: object, **__: object) -> None:
        raise RuntimeError(f"cannot reach {state.uri} with k3y-k3y-k3y-k3y")

    monkeypatch.setattr(firetasks, "rank_campaign", fails)
    work("c")
    stored = [
        repr(row)
        for name in store.database.list_collection_names()
        if not name.endswith((".chunks", ".files"))
        for row in store.database[name].find()
    ]
    logs = [path.read_text() for path in (voltscreen_home / "logs").glob("*.jsonl")]
    assert any("cannot reach mongodb://***@127.0.0.1" in text for text in stored)
    assert any("cannot reach mongodb://***@127.0.0.1" in text for text in logs)
    for text in (*stored, *logs, repr(launchpad), repr(store.database.name)):
        assert state.password not in text
        assert "k3y-k3y" not in text


def test_an_uncaught_exception_is_printed_without_its_secrets(run) -> None:
    import sys

    code = (
        "import sys; from voltscreen.cli import app\n"
        "app.app = lambda: 1 / 0 if False else exec(\"raise KeyError('mongodb://u:geheim@h/')\")\n"
        "app.main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "mongodb://***@h/" in done.stderr
    assert "geheim" not in done.stderr.replace(code, "")


# --- readers under random input ---------------------------------------------------------------


@pytest.mark.parametrize("target", TARGETS)
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), database=None)
@given(data=st.data())
def test_no_reader_crashes_on_damaged_input(target, data) -> None:
    seed = bytearray(data.draw(st.sampled_from(SEEDS[target])))
    for _ in range(data.draw(st.integers(0, 6))):
        at = data.draw(st.integers(0, max(len(seed) - 1, 0)))
        cut = data.draw(st.integers(0, 12))
        seed[at : at + cut] = data.draw(st.binary(max_size=12))
    begun = time.process_time()
    TARGETS[target](bytes(seed))
    assert time.process_time() - begun < 2


FOUND = {
    "an empty stack": ("checkpoint", b"\0\x80\x02}s."),
    "no pickle at all": ("checkpoint", b"\xff"),
    "a memo that is not there": ("checkpoint", b"\0\x80\x02h\x05."),
    "a key with a bracket": ("spec", b"name: a\nions: [Mg]\nsource: {hosts: all}\nb[x: 1\n"),
    "a claim of more atoms than memory": ("poscar", b"x\n1\n4 0 0\n0 4 0\n0 0 4\nO\n9999999999\n"),
}


@pytest.mark.parametrize("case", FOUND)
def test_what_fuzzing_found_is_refused(case) -> None:
    target, data = FOUND[case]
    TARGETS[target](data)


def test_every_error_of_a_reader_is_ours(tmp_path) -> None:
    path = tmp_path / "a.pth.tar"
    path.write_bytes(b"\x80\x02}s.")
    with pytest.raises(VoltscreenError, match="is not a CGCNN checkpoint"):
        import_checkpoint(path, build_element_table(), "Mg", "x")
