from __future__ import annotations

import pandas as pd
import pytest

from voltscreen.errors import FileFormatError, SpecError
from voltscreen.sources import candidates, estimate
from voltscreen.structures import Refused


@pytest.fixture
def table(tmp_path):
    rows = [
        {
            "material_id": f"mp-{i}",
            "formula": "MnO",
            "nsites": 2,
            "lattice": [4.0 + i / 10000, 0, 0, 0, 4, 0, 0, 0, 4],
            "atomic_numbers": [25, 8],
            "frac_coords": [0.0, 0, 0, 0.5, 0.5, 0.5],
            "energy_above_hull": i / 100,
        }
        for i in range(2500)
    ]
    rows[7]["frac_coords"] = [0.0, 0, 0, 0.001, 0, 0]
    rows[8]["lattice"] = [1.0]
    rows[9]["atomic_numbers"] = None
    pd.DataFrame(rows).to_parquet(tmp_path / "pool.parquet", row_group_size=700)
    return tmp_path


def test_rows_become_candidates_and_bad_rows_are_refused(table) -> None:
    items = list(candidates("parquet", "pool.parquet", table))
    assert len(items) == 2500 == estimate("parquet", "pool.parquet", table)
    refused = [item for item in items if isinstance(item, Refused)]
    assert [item.ref.id for item in refused] == ["mp-7", "mp-8", "mp-9"]
    assert "overlapping" in refused[0].reason
    assert items[3].ref.source == "parquet"
    assert items[3].properties == {"energy_above_hull": 0.03}


@pytest.mark.parametrize(
    ("start", "limit"), [(0, 10), (995, 10), (690, 1500), (2495, None), (3000, 5)]
)
def test_start_and_limit_cut_rows(table, start, limit) -> None:
    value = {"path": "pool.parquet", "start": start, "limit": limit}
    ids = [item.ref.id for item in candidates("parquet", value, table)]
    end = 2500 if limit is None else min(start + limit, 2500)
    assert ids == [f"mp-{i}" for i in range(start, end)]
    assert estimate("parquet", value, table) == len(ids)


def test_a_file_of_another_kind_is_one_sentence(tmp_path) -> None:
    (tmp_path / "text.parquet").write_text("hello")
    pd.DataFrame({"a": [1]}).to_parquet(tmp_path / "other.parquet")
    for name, reason in (
        ("text.parquet", "not a Parquet file"),
        ("none.parquet", "No such file"),
        ("other.parquet", "missing columns"),
    ):
        with pytest.raises(FileFormatError, match=reason):
            list(candidates("parquet", name, tmp_path))


@pytest.mark.parametrize(
    "value", [3, {"path": "x", "strat": 1}, {"start": 1}, {"path": "x", "limit": 0}, None]
)
def test_a_wrong_value_names_the_key(tmp_path, value) -> None:
    with pytest.raises(SpecError, match=r"source\.parquet"):
        list(candidates("parquet", value, tmp_path))
