"""What a person can find out: reports, log lines, and a sentence on what a campaign waits for."""

from __future__ import annotations

import json
import stat

import pytest

from tests.campaign.test_campaign import pool, spec_of
from tests.campaign.test_doctor import DEAD, lost
from tests.model.helpers import small_model
from voltscreen.campaign import control
from voltscreen.campaign.report import campaign_report
from voltscreen.campaign.standing import standing
from voltscreen.campaign.worker import work
from voltscreen.graph import INSERTION
from voltscreen.logs import about, log, log_to
from voltscreen.masking import mask
from voltscreen.model.files import save_model


@pytest.fixture
def small(voltscreen_home):
    save_model(small_model(spec=INSERTION), voltscreen_home / "models" / "small.safetensors")


def test_a_report_and_its_log(store, launchpad, tmp_path, small, run, voltscreen_home) -> None:
    control.submit(store, launchpad, spec_of(pool(tmp_path, 20), model="small"))
    work("c")
    found = campaign_report(store, "c")
    assert [one.stage for one in found.stages] == ["ingest", "plan", "predict", "rank"]
    assert all(one.seconds > 0 for one in found.stages)
    assert [(one.kind, one.count) for one in found.failures] == [("overlapping atoms", 1)]
    assert found.device_hours.keys() == {"cpu"}
    assert found.attempts == next(one.runs for one in found.stages if one.stage == "predict")
    assert (found.repeated, found.attempts_failed, found.workers) == (0, 0, 1)
    assert found.rate > 0

    logs = sorted((voltscreen_home / "logs").glob("*.jsonl"), key=lambda p: p.stat().st_mtime)
    assert stat.S_IMODE(logs[-1].stat().st_mode) == 0o600
    lines = [json.loads(line) for line in logs[-1].read_text().splitlines()]
    events = [line["event"] for line in lines]
    assert events[0] == "worker begins"
    assert events[-1] == "worker ends"
    batches = {line["batch"] for line in lines if line.get("stage") == "predict"}
    assert batches == {row["_id"] for row in store.batches.find({"kind": "predict"})}
    assert {line["campaign"] for line in lines if "stage" in line} == {"c"}

    printed = run("campaign", "report", "c")
    assert printed.returncode == 0, printed.stderr
    for words in ("ingest", "overlapping atoms", "structures/s", "h cpu"):
        assert words in printed.stdout
    assert json.loads(run("campaign", "report", "c", "--json").stdout)["structures"] == 20


def test_status_says_what_a_campaign_waits_for(store, launchpad, tmp_path, small, run) -> None:
    control.submit(store, launchpad, spec_of(pool(tmp_path, 20), model="small"))
    assert "no worker works them" in standing(store, launchpad, "c")
    assert "voltscreen campaign run c" in run("campaign", "status", "c").stdout
    work("c")
    assert standing(store, launchpad, "c") == "It is done."

    lost(store, launchpad, None)
    said = standing(store, launchpad, "c")
    assert said.startswith("It is stuck: 1 Firework is in hand of a worker that is gone")
    assert said.endswith("voltscreen campaign resume c")

    launchpad.fireworks.update_many({"state": "RUNNING"}, {"$set": {"state": "FIZZLED"}})
    store.campaigns.update_one(
        {"_id": "c"}, {"$set": {"state": "running", "errors": [{"reason": "no disk"}]}}
    )
    assert "failed, the last time because no disk" in standing(store, launchpad, "c")

    launchpad.fireworks.update_many({}, {"$set": {"state": "WAITING"}})
    assert "doctor --repair" in standing(store, launchpad, "c")

    launchpad.fireworks.delete_many({})
    assert "its submit was cut off" in standing(store, launchpad, "c")
    assert DEAD


def test_a_log_masks_secrets_and_says_what_it_is_about(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("MP_API_KEY", "abcdefgh12345678")
    with log_to(tmp_path) as path:
        with about(campaign="c", batch="c:000001", job=None):
            log("asks", uri="mongodb://anna:geheim@host/x", key="abcdefgh12345678", n=3)
        log("after")
    first, second = (json.loads(line) for line in path.read_text().splitlines())
    assert (first["campaign"], first["batch"], first["n"]) == ("c", "c:000001", 3)
    assert first["uri"] == "mongodb://***@host/x"
    assert first["key"] == "***"
    assert "campaign" not in second
    assert "job" not in first


def test_a_log_that_cannot_be_written_stops_nothing(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with log_to(tmp_path / "file" / "folder") as path:
        log("unheard")
    assert path is None


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("at mongodb://anna:ge%40heim@h1:1,h2:2/x?y=1 no", "at mongodb://***@h1:1,h2:2/x?y=1 no"),
        ("mongodb+srv://u:p@cluster.net", "mongodb+srv://***@cluster.net"),
        ("https://user:token@host/path", "https://***@host/path"),
        ("{'x-api-key': 'S3cr3tS3cr3t'}", "{'x-api-key': '***'}"),
        ("api_key=S3cr3tS3cr3t&x=1", "api_key=***&x=1"),
        ("password: geheim, more", "password: ***, more"),
        ("mail anna@host and http://host/a@b", "mail anna@host and http://host/a@b"),
    ],
)
def test_secrets_are_masked(text, masked) -> None:
    assert mask(text) == masked
