"""`voltscreen refine`: labels from the command line, through kill -9, as an undisturbed run."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pandas as pd
import pytest

from tests.potentials.helpers import METALS, layered_host, lonely_atom, with_ions
from voltscreen.campaign.reconcile import reconcile
from voltscreen.potentials.labelling import read_labels
from voltscreen.structures import PackedStructure

pytest.importorskip("chgnet")

HOSTS = len(METALS)
IONS = ("--ions", "Li,Mg")


@pytest.fixture
def pool(tmp_path):
    """A table of candidates: layered hosts, one atom alone, and a host with Mg inside."""
    structures = {f"mp-{metal}": layered_host(metal) for metal in METALS}
    structures["mp-0"] = lonely_atom()
    host = layered_host()
    structures["mp-1"] = PackedStructure.from_arrays(
        host.lattice, [*host.frac_coords, [0, 0, 0.5]], [*host.atomic_numbers, 12]
    )
    rows = [
        {
            "material_id": name,
            "lattice": structure.lattice.ravel(),
            "atomic_numbers": structure.atomic_numbers,
            "frac_coords": structure.frac_coords.ravel(),
        }
        for name, structure in structures.items()
    ]
    pd.DataFrame(rows).to_parquet(tmp_path / "pool.parquet")
    return tmp_path / "pool.parquet"


def test_labels_survive_kill_9_and_equal_an_undisturbed_run(run, pool, tmp_path) -> None:
    options = ["--parquet", pool, "--limit", HOSTS, *IONS, "--batch", 2, "--device", "cpu"]
    undisturbed = run("refine", "label", *options, "--output", tmp_path / "one")
    assert undisturbed.returncode == 0, undisturbed.stderr
    assert f"{HOSTS} hosts: {2 * HOSTS} labels, 0 failed" in undisturbed.stderr

    folder = tmp_path / "two"
    command = [sys.executable, "-m", "voltscreen", "refine", "label", *options, "--output", folder]
    process = subprocess.Popen([str(part) for part in command], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list(folder.glob("labels-*.parquet")) and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    time.sleep(0.5)
    first = {path.name: path.stat().st_mtime_ns for path in folder.glob("labels-*.parquet")}
    assert 0 < len(first) < HOSTS / 2
    time.sleep(0.5)
    assert len(list(folder.glob("labels-*.parquet"))) == len(first), "a worker outlived its parent"

    again = run("refine", "label", *options, "--output", folder, "--workers", 2)
    assert again.returncode == 0, again.stderr
    found = read_labels(folder)
    assert found["host_id"].to_pylist() == [f"mp-{metal}" for metal in METALS]
    assert found.equals(read_labels(tmp_path / "one"))
    for name, time_written in first.items():
        assert (folder / name).stat().st_mtime_ns == time_written


def test_hosts_picked_from_a_list_with_failures_counted_and_merged(run, pool, tmp_path) -> None:
    hosts = tmp_path / "hosts.csv"
    hosts.write_text("host_id,removed\nmp-0,\nmp-1,Mg\nmp-22,\nmp-23,Li\n")
    options = ["--parquet", pool, "--hosts", hosts, "--output", tmp_path / "labels"]
    done = run("refine", "label", *options, "--ions-per-host", 3)
    assert done.returncode == 1
    assert "4 hosts: 6 labels, 2 failed" in done.stderr
    assert "Failed: 1 hosts, isolated atom" in done.stderr
    assert "Failed: 1 hosts, no Li to take out" in done.stderr

    merged = tmp_path / "labels.parquet"
    assert run("refine", "merge", tmp_path / "labels", merged).returncode == 0
    lonely, emptied, given = read_labels(merged).to_pylist()
    assert lonely["error"].startswith("isolated atom")
    # The ion that was taken out is among those drawn.
    assert (emptied["host_id"], emptied["removed"], emptied["n_atoms"]) == ("mp-1", "Mg", 3)
    assert emptied["ions"][0] == "Mg"
    assert len(set(given["ions"])) == 3

    other = run("refine", "label", *options, *IONS)
    assert other.returncode == 2
    assert "was begun for other labels" in other.stderr
    for wrong in (["--device", "cuda:99"], ["--device", "x"], ["--ions-per-host", 3]):
        refused = run("refine", "label", *options, *IONS, *wrong)
        assert refused.returncode == 2
        assert refused.stderr.startswith("Error: ")
        assert refused.stderr.count("\n") == 1


def test_topotactic_voltages_of_the_structures_that_hold_ions(run, pool, tmp_path) -> None:
    table = pd.read_parquet(pool)
    more = with_ions()
    row = {
        "material_id": "mp-2", "lattice": more.lattice.ravel(),
        "atomic_numbers": more.atomic_numbers, "frac_coords": more.frac_coords.ravel(),
    }  # fmt: skip
    pd.concat([table, pd.DataFrame([row])]).to_parquet(pool)
    hosts, folder = tmp_path / "hosts.csv", tmp_path / "voltages"
    assert run("refine", "hosts", "--parquet", pool, "--output", hosts).returncode == 2
    chosen = run("refine", "hosts", "--parquet", pool, "--with-ions", "--output", hosts)
    assert chosen.returncode == 0, chosen.stderr
    assert set(pd.read_csv(hosts)["host_id"]) == {"mp-1", "mp-2"}

    done = run("refine", "voltage", "--parquet", pool, "--hosts", hosts, "--output", folder)
    assert done.returncode == 0, done.stderr
    assert "2 hosts: 3 labels, 0 failed" in done.stderr
    found = {row["host_id"]: row for row in read_labels(folder).to_pylist()}
    assert found["mp-1"]["ions"] == ["Mg"]
    assert found["mp-2"]["ions"] == ["Li", "Mg"]
    assert found["mp-2"]["count"] == [1, 1]

    other = run("refine", "label", "--parquet", pool, *IONS, "--output", folder)
    assert other.returncode == 2
    assert "was begun for other labels (kind is topotactic, not insertion" in other.stderr
    hosts.write_text("host_id\nmp-22\nmp-1\n")
    listed = run(
        "refine", "voltage", "--parquet", pool, "--hosts", hosts, "--ions", "Mg",
        "--output", tmp_path / "listed",
    )  # fmt: skip
    assert listed.returncode == 1
    assert "Failed: 1 hosts, no working ion to take out" in listed.stderr


def test_a_table_of_labels_is_the_list_of_its_hosts_and_ions(run, pool, tmp_path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    options = ["refine", "label", "--parquet", pool]
    assert run(*options, "--limit", 3, "--ions-per-host", 2, "--output", first).returncode == 0
    assert run("refine", "merge", first, tmp_path / "labels.parquet").returncode == 0
    again = run(*options, "--hosts", tmp_path / "labels.parquet", "--output", second)
    assert again.returncode == 0, again.stderr
    assert read_labels(second).equals(read_labels(first))


@pytest.mark.timeout(600)
def test_labels_as_fireworks_are_each_made_once_through_kill_9(
    run, pool, tmp_path, launchpad
) -> None:
    """A worker dies with a batch in hand; the next one does what is left, and no label again."""
    folder = tmp_path / "labels"
    options = ["--parquet", pool, "--limit", HOSTS, *IONS, "--batch", 1, "--device", "cpu"]
    submit = ["refine", "label", *options, "--output", folder, "--submit"]
    first = run(*submit)
    assert first.returncode == 0, first.stderr
    assert f"{HOSTS} hosts in {HOSTS} batches: 0 have labels, 0 have a Firework, {HOSTS} were" in (
        first.stderr
    )
    assert f"0 have labels, {HOSTS} have a Firework, 0 were submitted" in run(*submit).stderr

    process = subprocess.Popen(
        [sys.executable, "-m", "voltscreen", "worker", "--quiet"], stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 240
    while not list(folder.glob("labels-*.parquet")) and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = {path.name: path.stat().st_mtime_ns for path in folder.glob("labels-*.parquet")}
    assert 0 < len(before) < HOSTS

    # The Firework that died with its worker is found lost; its batches, too, are done here.
    reconcile(launchpad)
    assert run("worker").returncode == 0
    found = read_labels(folder)
    assert found["host_id"].to_pylist() == [f"mp-{metal}" for metal in METALS]
    assert all(len(ions) == 2 for ions in found["ions"].to_pylist())
    for name, time_written in before.items():
        assert (folder / name).stat().st_mtime_ns == time_written
    assert f"{HOSTS} have labels, 0 have a Firework, 0 were submitted" in run(*submit).stderr
