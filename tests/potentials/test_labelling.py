"""Batches of labels: each once, resumable, shared, and refused where they do not fit."""

from __future__ import annotations

import dataclasses
import json
import os
import socket
import subprocess
import sys

import numpy as np
import pytest

from tests.potentials.helpers import METALS, layered_host, lonely_atom, with_ions
from voltscreen.errors import FileFormatError, VoltscreenError
from voltscreen.potentials.claims import claim, guarded, holder
from voltscreen.potentials.insertion import insertion_energies
from voltscreen.potentials.jobs import InsertionJob, TopotacticJob
from voltscreen.potentials.label_table import read_labels
from voltscreen.potentials.labelling import (
    label_batches,
    merge_labels,
    open_folder,
    read_manifest,
)
from voltscreen.potentials.topotactic import topotactic_voltages

IONS = ("Li", "Zn")


def jobs(count: int = 5) -> list[InsertionJob]:
    return [
        InsertionJob(f"host-{metal}", layered_host(metal), IONS, "Mg" if metal == 23 else None)
        for metal in METALS[:count]
    ]


def label(potential, path, listed, batch_size=2, finished=lambda _: None):
    folder = open_folder(path, listed, "chgnet test", batch_size)
    label_batches(potential, listed, folder, finished)
    return folder


def test_a_row_holds_what_was_computed(potential, tmp_path) -> None:
    listed = jobs(3)
    folder = label(potential, tmp_path, listed)
    assert folder.open_batches() == []
    rows = read_labels(tmp_path).to_pylist()
    assert [row["host_id"] for row in rows] == [job.host_id for job in listed]
    assert [row["removed"] for row in rows] == [None, "Mg", None]
    expected = insertion_energies(potential, listed[1].structure, IONS)
    row = rows[1]
    assert row["n_atoms"] == 3
    assert row["ions"] == list(IONS)
    assert row["error"] is None
    assert row["host_energy"] == pytest.approx(expected.energy, abs=1e-9)
    assert row["clearance"] == pytest.approx(expected.site.clearance, abs=1e-5)
    np.testing.assert_allclose(row["site"], expected.site.frac_coords, atol=1e-6)
    np.testing.assert_allclose(row["moments"], expected.moments, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(row["crystal"], expected.crystal, rtol=1e-3, atol=1e-3)
    for name in ("insertion_energy", "ion_site_energy", "host_shift", "moment_change"):
        values = [getattr(item, name) for item in expected.ions]
        np.testing.assert_allclose(row[name], values, rtol=1e-6, atol=1e-6)


def test_a_host_that_fails_is_a_row_with_its_reason(potential, tmp_path) -> None:
    listed = [jobs(1)[0], InsertionJob("lonely", lonely_atom(), IONS)]
    label(potential, tmp_path, listed)
    good, bad = read_labels(tmp_path).to_pylist()
    assert good["error"] is None
    assert bad["host_id"] == "lonely"
    assert bad["error"].startswith("isolated atom")
    assert bad["insertion_energy"] is None


def test_a_row_of_topotactic_voltages(potential, tmp_path) -> None:
    structure = with_ions()
    listed = [
        TopotacticJob("both", structure, ("Li", "Mg")),
        TopotacticJob("lonely", lonely_atom(), ("Li",)),
    ]
    label(potential, tmp_path, listed)
    good, bad = read_labels(tmp_path).to_pylist()
    expected = topotactic_voltages(potential, structure, ("Li", "Mg"))
    assert (good["host_id"], good["n_atoms"], good["ions"]) == ("both", 5, ["Li", "Mg"])
    assert good["count"] == [1, 1]
    assert good["energy"] == pytest.approx(expected.energy, abs=1e-9)
    np.testing.assert_allclose(good["voltage"], [v.voltage for v in expected.ions], atol=1e-5)
    assert bad["error"].startswith("isolated atom")
    assert bad["voltage"] is None
    assert json.loads((tmp_path / "manifest.json").read_text())["kind"] == "topotactic"


def test_a_rerun_labels_only_what_is_missing(potential, tmp_path) -> None:
    listed = jobs()
    done: list[int] = []
    folder = label(potential, tmp_path, listed, finished=done.append)
    assert done == [2, 2, 1]
    whole = read_labels(tmp_path)
    folder.part(1).unlink()
    done.clear()
    label(potential, tmp_path, listed, finished=done.append)
    assert done == [2]
    assert read_labels(tmp_path).equals(whole)
    assert not list(tmp_path.glob("*.claim"))


def test_an_unfinished_file_does_not_count(potential, tmp_path) -> None:
    listed = jobs(2)
    folder = open_folder(tmp_path, listed, "chgnet test", 2)
    unfinished = folder.part(0).with_name(folder.part(0).name + ".part")
    unfinished.write_bytes(b"half a file")
    assert folder.open_batches() == [0]
    label_batches(potential, listed, folder)
    assert read_labels(tmp_path).num_rows == 2
    assert not unfinished.exists()


def test_merged_labels_read_as_those_of_the_folder(potential, tmp_path) -> None:
    listed = jobs()
    label(potential, tmp_path / "labels", listed)
    assert merge_labels(tmp_path / "labels", tmp_path / "all.parquet") == 5
    assert read_labels(tmp_path / "all.parquet").equals(read_labels(tmp_path / "labels"))
    some = read_labels(tmp_path / "all.parquet", ["host_id", "ions"])
    assert some.column_names == ["host_id", "ions"]


def test_a_folder_begun_for_something_else_is_refused(tmp_path) -> None:
    open_folder(tmp_path, jobs(), "chgnet 1", 2)
    others = [
        (jobs(4), "chgnet 1", 2, "hosts is 5, not 4"),
        (jobs()[::-1], "chgnet 1", 2, "host_list is"),
        ([dataclasses.replace(job, ions=("Li",)) for job in jobs()], "chgnet 1", 2, "ions is"),
        (jobs(), "chgnet 2", 2, "potential is chgnet 1, not chgnet 2"),
        (jobs(), "chgnet 1", 3, "batch_size is 2, not 3"),
    ]
    for listed, version, size, difference in others:
        with pytest.raises(VoltscreenError, match=difference):
            open_folder(tmp_path, listed, version, size)
    assert open_folder(tmp_path, jobs(), "chgnet 1", 2).n_batches == 3
    assert read_manifest(tmp_path).hosts == 5


def test_bad_input_is_one_sentence(tmp_path) -> None:
    with pytest.raises(VoltscreenError, match="1 hosts are listed twice"):
        open_folder(tmp_path / "new", [*jobs(2), jobs(1)[0]], "chgnet 1")
    with pytest.raises(FileFormatError, match="holds no labels yet"):
        read_labels(tmp_path)
    with pytest.raises(FileFormatError, match="is no folder of labels"):
        read_manifest(tmp_path)
    (tmp_path / "manifest.json").write_text(json.dumps({"hosts": 1}))
    with pytest.raises(FileFormatError, match="is damaged"):
        read_manifest(tmp_path)
    (tmp_path / "other.parquet").write_text("no table")
    with pytest.raises(FileFormatError, match="is not a Parquet file"):
        read_labels(tmp_path / "other.parquet")


def test_a_batch_in_the_hands_of_a_live_process_is_left_to_it(tmp_path) -> None:
    folder = open_folder(tmp_path, jobs(), "chgnet 1", 2)
    code = (
        "import sys, pathlib; from voltscreen.potentials.claims import claim; "
        "print(claim(pathlib.Path(sys.argv[1])), flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "labels-000001.claim")]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "True\n"
        assert [folder.take(batch) for batch in range(3)] == [True, False, True]
        assert folder.held_by(1) == socket.gethostname()
        other.kill()
        other.wait()
    assert folder.held_by(1) is None
    assert folder.take(1)
    assert not folder.take(1)


@pytest.mark.parametrize(
    "text",
    ["", "nonsense", f"{socket.gethostname()}|{os.getpid()}|1"],
    ids=["", "?", "other start"],
)
def test_a_claim_without_a_living_owner_is_taken_over(tmp_path, text) -> None:
    path = tmp_path / "x.claim"
    path.write_text(text)
    assert holder(path) is None
    with guarded(tmp_path):
        assert claim(path)
    assert holder(path) == socket.gethostname()


def test_a_batch_of_another_machine_is_neither_taken_nor_waited_for(potential, tmp_path) -> None:
    listed = jobs()
    folder = open_folder(tmp_path, listed, "chgnet test", 2)
    (tmp_path / "labels-000001.claim").write_text("elsewhere|1|1")
    label_batches(potential, listed, folder)
    assert folder.open_batches() == [1]
    assert folder.held_by(1) == "elsewhere"
