"""Whatever the cluster does to it, the campaign ends complete, and with the same voltages."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.campaign.test_campaign import pool
from tests.cluster.faults import FAULTS, campaign, disturbed, undisturbed

pytestmark = pytest.mark.timeout(1500)

STRUCTURES = 90


@pytest.fixture(scope="module")
def table(tmp_path_factory) -> Path:
    return pool(tmp_path_factory.mktemp("pool"), STRUCTURES, bad=False)


@pytest.fixture(scope="module")
def expected(_cluster, table, tmp_path_factory):
    with campaign(_cluster, tmp_path_factory.mktemp("calm") / "c", table, STRUCTURES) as made:
        return undisturbed(made)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_after_a_fault_the_voltages_are_those_of_an_undisturbed_run(
    fault, slurm, table, expected, tmp_path
) -> None:
    with campaign(slurm, tmp_path / "c", table, STRUCTURES) as made:
        outcome = disturbed(made, fault)
        assert made.voltages() == expected
        assert len(expected) == STRUCTURES
        batches = list(made.store.batches.find({"kind": "predict"}))
        assert {row["state"] for row in batches} == {"done"}
        assert sum(row["predicted"] for row in batches) == STRUCTURES
        assert made.launchpad.fireworks.count_documents({"state": {"$ne": "COMPLETED"}}) == 0
        if fault.__name__.startswith("database"):
            # Nothing was computed a second time.
            tried = [one for row in batches for one in row["attempts"]]
            assert len(tried) == len(batches)
            assert [one.get("spooled") for one in tried].count(True) == 1
        print(f"{outcome.fault}: {outcome.observed}; {outcome.seconds:.0f} s")
