"""Whatever the cluster does to it, the campaign ends complete, and with the same voltages."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path

import pytest

from tests.campaign.test_campaign import pool
from tests.cluster.cluster import Cluster
from tests.cluster.faults import AT_ONCE, Campaign, campaign, disturbed, undisturbed

STRUCTURES = 90


def problems(made: Campaign, fault: Callable[..., str], expected: dict) -> list[str]:
    """What is not as it should be after a fault; prints the row of the table."""
    outcome = disturbed(made, fault)
    print(f"{outcome.fault}: {outcome.observed}; {outcome.seconds:.0f} s")
    batches = list(made.store.batches.find({"kind": "predict"}))
    tried = [one for row in batches for one in row["attempts"]]
    unfinished = made.launchpad.fireworks.count_documents({"state": {"$ne": "COMPLETED"}})
    checks = {
        "other voltages": made.voltages() == expected,
        "a batch is not done": {row["state"] for row in batches} == {"done"},
        "counts": sum(row["predicted"] for row in batches) == STRUCTURES,
        "a Firework is not completed": unfinished == 0,
    }
    if fault.__name__.startswith("database"):
        checks["computed twice"] = len(tried) == len(batches)
        checks["not spooled once"] = [one.get("spooled") for one in tried].count(True) == 1
    return [f"{fault.__name__}: {name}" for name, holds in checks.items() if not holds]


@pytest.mark.timeout(3000)
def test_after_every_fault_the_voltages_are_those_of_an_undisturbed_run(
    slurm: Cluster, tmp_path: Path
) -> None:
    table = pool(tmp_path, STRUCTURES, bad=False)
    with campaign(slurm, tmp_path / "calm", table, STRUCTURES) as made:
        expected = undisturbed(made)
    assert len(expected) == STRUCTURES

    def one_after_another(faults: tuple[Callable[..., str], ...]) -> list[str]:
        found = []
        for fault in faults:
            with campaign(slurm, tmp_path / fault.__name__, table, STRUCTURES) as made:
                found += problems(made, fault, expected)
        return found

    with ThreadPoolExecutor(len(AT_ONCE)) as threads:
        assert list(chain.from_iterable(threads.map(one_after_another, AT_ONCE))) == []
