"""Whatever the cluster does to it, the campaign ends complete, and with the same voltages."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.campaign.test_campaign import pool
from tests.cluster.cluster import Cluster
from tests.cluster.faults import all_faults

STRUCTURES = 90


@pytest.mark.timeout(3000)
def test_after_every_fault_the_voltages_are_those_of_an_undisturbed_run(
    slurm: Cluster, tmp_path: Path
) -> None:
    table = pool(tmp_path, STRUCTURES, bad=False)
    outcomes = list(all_faults(slurm, tmp_path / "runs", table, STRUCTURES))
    for outcome in outcomes:
        print(f"{outcome.fault}: {outcome.observed}; {outcome.seconds:.0f} s")
    assert len(outcomes) == 7
    assert {outcome.fault: outcome.problems for outcome in outcomes if outcome.problems} == {}
