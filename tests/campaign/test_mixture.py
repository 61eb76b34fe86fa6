"""Bad structures mixed into a campaign; benchmarks/bad_structures.py does it with 100,000."""

from __future__ import annotations

from benchmarks.bad_structures import mixture
from tests.model.helpers import small_model
from voltscreen.campaign import control
from voltscreen.campaign.report import campaign_report
from voltscreen.campaign.spec import parse_spec
from voltscreen.graph import INSERTION
from voltscreen.model.files import save_model


def test_what_is_mixed_in_is_counted_out_and_the_command_ends_with_1(
    store, launchpad, run, tmp_path, voltscreen_home
) -> None:
    save_model(small_model(spec=INSERTION), voltscreen_home / "models" / "small.safetensors")
    spec, wanted = mixture(tmp_path, 300)
    control.submit(store, launchpad, parse_spec(spec))
    done = run("campaign", "run", "mixed")
    assert done.returncode == 1, done.stderr
    report = campaign_report(store, "mixed")
    assert {one.kind: one.count for one in report.failures} == wanted
    assert store.voltages.count_documents({"status": "ok"}) == 300 - sum(wanted.values())
