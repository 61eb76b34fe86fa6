from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from voltscreen.errors import FileFormatError
from voltscreen.ions import WORKING_IONS
from voltscreen.train.pool_hosts import choose_hosts


def write_pool(path, structures: dict[str, list[int]]) -> None:
    pd.DataFrame(
        {"material_id": list(structures), "atomic_numbers": list(structures.values())}
    ).to_parquet(path)


def test_only_useful_chemistry_without_labels_is_chosen(tmp_path) -> None:
    useful = {f"good-{k}": [3, 25, 15] + [8] * (k + 2) for k in range(40)}
    useless = {
        "no redox element": [12, 14, 8, 8],
        "no anion": [25, 26, 29],
        "one element besides ions": [3, 25],
        "uranium": [25, 92, 8, 8],
        "too large": [25, 15] + [8] * 39,
        "labelled": [11, 26, 8, 8],
    }
    write_pool(tmp_path / "pool.parquet", {**useful, **useless})
    labelled = [np.array([3, 26, 8, 8, 8], np.uint8)]
    chosen = choose_hosts(tmp_path / "pool.parquet", labelled)
    assert {host.host_id for host in chosen} == {k for k, z in useful.items() if len(z) <= 40}
    assert {host.removed for host in chosen} == {"", "Li"}
    assert 0.3 < np.mean([host.removed == "Li" for host in chosen]) < 0.9
    assert [host.host_id for host in chosen] != sorted(host.host_id for host in chosen)
    assert choose_hosts(tmp_path / "pool.parquet", labelled) == chosen


def test_a_missing_pool_is_named(tmp_path) -> None:
    with pytest.raises(FileFormatError, match="none.parquet"):
        choose_hosts(tmp_path / "none.parquet", [])


def test_the_shipped_labels_are_of_the_hosts_that_the_command_chooses(shared_data) -> None:
    from pathlib import Path

    labels = pd.read_parquet(
        Path(__file__).parents[2] / "training" / "insertion-labels-pool.parquet",
        columns=["host_id", "removed", "ions"],
    )
    electrodes = pd.concat(
        pd.read_parquet(shared_data / f"electrode_{end}.parquet", columns=["atomic_numbers"])
        for end in ("hosts", "discharged")
    )
    chosen = choose_hosts(shared_data / "mp_pool.parquet", electrodes["atomic_numbers"].to_list())
    expected = {(host.host_id, host.removed) for host in chosen}
    assert set(zip(labels["host_id"], labels["removed"].fillna(""), strict=True)) <= expected
    assert set(labels["ions"].dropna().explode()) == set(WORKING_IONS)
