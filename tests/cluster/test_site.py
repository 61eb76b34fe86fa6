"""Site profiles and the script that comes of them, without a cluster."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time

import pytest

from tests.cluster.cluster import REPOSITORY, until
from voltscreen.cluster.commands import SlurmError
from voltscreen.cluster.job import Job
from voltscreen.cluster.script import Array, render
from voltscreen.cluster.site import Site, described, load_site, wall_seconds
from voltscreen.errors import SpecError
from voltscreen.settings import load_settings

SITES = sorted((REPOSITORY / "slurm" / "sites").glob("*.yaml"))


def script(site: Site, tmp_path, **settings) -> str:
    array = Array("vs-c", "voltscreen:x:c", 3, ("worker", "--campaign", "c"), tmp_path / "spool")
    return render(site, array, load_settings(home=tmp_path, **settings))


@pytest.mark.parametrize(
    "path", [path for path in SITES if path.stem != "every-field"], ids=lambda path: path.stem
)
def test_the_profiles_that_come_along_give_scripts_that_bash_reads(path, tmp_path) -> None:
    text = script(load_site(path), tmp_path)
    subprocess.run(["bash", "-n"], input=text, text=True, check=True)
    assert "%%" not in text
    assert "--array=0-2" in text


def test_the_described_profile_is_that_of_the_code_and_is_one(tmp_path) -> None:
    path = REPOSITORY / "slurm" / "sites" / "every-field.yaml"
    assert path.read_text() == described()
    filled = tmp_path / "site.yaml"
    # Every line that gives a default, uncommented.
    filled.write_text(re.sub(r"^# (\w+: \S.*)$", r"\1", described(), flags=re.MULTILINE))
    assert load_site(filled) == Site()


def test_what_a_profile_says_stands_in_the_script(tmp_path) -> None:
    site = Site(
        partition="gpu", account="me", qos="low", gpus="a100:2", cpus=8, workers=2, memory="16G",
        wall_time="1-00:00:00", constraint="a|b", modules=["cuda"], setup=["source env"],
        environment={"A": "x y"}, options=["--nice=5"], signal_seconds=0,
    )  # fmt: skip
    text = script(site, tmp_path)
    for line in (
        "#SBATCH --partition=gpu", "#SBATCH --account=me", "#SBATCH --qos=low",
        "#SBATCH --gres=gpu:a100:2", "#SBATCH --cpus-per-task=8", "#SBATCH --mem=16G",
        "#SBATCH --time=1-00:00:00", "#SBATCH --constraint='a|b'", "#SBATCH --nice=5",
        "#SBATCH --requeue", "module load cuda", "source env", "export A='x y'",
        "export VOLTSCREEN_THREADS=4",
    ):  # fmt: skip
        assert line in text.splitlines()
    assert "#SBATCH --signal" not in text
    assert "i < 2" in text


def test_no_password_stands_in_the_script(tmp_path) -> None:
    text = script(Site(), tmp_path, mongo_uri="mongodb://me:hush@db/", database="d")
    assert "hush" not in text
    assert "export VOLTSCREEN_DATABASE=d" in text


def test_workers_of_a_job_have_gpus_in_turn_hear_signals_and_the_largest_code_counts(
    tmp_path,
) -> None:
    python = tmp_path / "python"
    python.write_text(
        "#!/bin/bash\n"
        "trap 'echo told; exit 5' USR1\n"
        'echo "gpu $CUDA_VISIBLE_DEVICES"; echo ready >> "$READY"\n'
        '[ "$CUDA_VISIBLE_DEVICES" = 3 ] && exit 0\n'
        "while :; do sleep 0.1; done\n"
    )
    python.chmod(0o755)
    ready = tmp_path / "ready"
    text = script(Site(workers=3, python=str(python), gpus="2"), tmp_path)
    (tmp_path / "script.sh").write_text(text)
    job = subprocess.Popen(
        ["bash", str(tmp_path / "script.sh")],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "2,3", "READY": str(ready)},
        stdout=subprocess.PIPE,
        text=True,
    )
    until(lambda: ready.exists() and len(ready.read_text().split()) == 3, 60)
    time.sleep(0.3)
    job.send_signal(signal.SIGUSR1)
    said, _ = job.communicate(timeout=60)
    assert job.returncode == 5
    assert sorted(said.split("\n")) == ["", "gpu 2", "gpu 2", "gpu 3", "told", "told"]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("partitoin: gpu", "unknown key 'partitoin'; allowed: partition"),
        ("wall_time: 90", "'wall_time' (longest time of a job"),
        ("wall_time: '00:00:30'", "a minute at least"),
        ("gpus: many", "'gpus' (GPUs of a job"),
        ("cpus: 0", "'cpus'"),
        ('account: "a\\nb"', "one line"),
        ("- a", "not a site profile"),
        ("a: [", "not YAML"),
    ],
)
def test_a_wrong_profile_is_refused_in_one_sentence(tmp_path, content, sentence) -> None:
    path = tmp_path / "site.yaml"
    path.write_text(content)
    with pytest.raises(SpecError, match=re.escape(sentence)):
        load_site(path)


def test_wall_times() -> None:
    assert wall_seconds("04:00:00") == 14_400
    assert wall_seconds("1-00:00:30") == 86_430


def test_a_job_is_read_from_its_environment() -> None:
    assert Job.current({}) is None
    job = Job.current(
        {"SLURM_JOB_ID": "14", "SLURM_ARRAY_JOB_ID": "12", "SLURM_ARRAY_TASK_ID": "3",
         "SLURM_RESTART_COUNT": "2", "SLURM_CLUSTER_NAME": "c", "SLURMD_NODENAME": "n1",
         "SLURM_JOB_USER": "me", "CUDA_VISIBLE_DEVICES": "1"}
    )  # fmt: skip
    assert job == Job("c", "14", "12_3", 2, "n1", "me", "1")
    assert Job.from_plain(job.to_plain()) == job


def test_without_slurm_its_commands_say_so(monkeypatch, run, tmp_path, store) -> None:
    from voltscreen.cluster.commands import ask

    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SlurmError, match="run this on a machine that submits to SLURM"):
        ask("squeue")
