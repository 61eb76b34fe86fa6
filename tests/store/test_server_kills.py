"""The embedded server killed with -9 during writes; benchmarks/server_kills.py does it 50 times."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest


def load_benchmark():
    path = Path(__file__).parents[2] / "benchmarks" / "server_kills.py"
    spec = importlib.util.spec_from_file_location("server_kills", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.timeout(300)
# Forked children of a process with threads: they only write to the database.
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_no_acknowledged_write_is_lost_and_no_id_given_twice(tmp_path) -> None:
    found = load_benchmark().run(tmp_path, kills=4, processes=4)
    assert found["acknowledged documents"] >= 4
    assert found["acknowledged and lost"] == 0
    assert found["ids given twice"] == 0
