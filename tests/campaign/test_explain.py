"""`voltscreen explain` on a small campaign, as a user calls it."""

from __future__ import annotations

import json

import numpy as np

from voltscreen.campaign.environments import ensure_environments
from voltscreen.explain.maps import map_environments
from voltscreen.explain.plots import environment_figure
from voltscreen.explain.statistics import Definition, Environment


def test_sites_as_a_table_and_as_json(run, oxides) -> None:
    call = ("explain", "sites", "--campaign", oxides[0], "--ion", "Mg", "--min-sites", 1)
    printed = run(*call)
    assert printed.returncode == 0, printed.stderr
    assert "additive local voltages, at least two O among 12 neighbours" in printed.stdout
    data = json.loads(run(*call, "--element", "Mn,Ni", "--by-state", "--json").stdout)
    assert {row["element"] for row in data} == {"Mn", "Ni"}
    assert all(row["lo95"] <= row["median"] <= row["hi95"] for row in data)
    for wrong, sentence in (
        (("--environment", "sulfur"), "choose from all, oxygen, nearest-oxygen, other"),
        (("--definition", "square"), "choose from additive, linear"),
        (("--element", "Xx"), "unknown element 'Xx'"),
    ):
        refused = run(*call, *wrong)
        assert refused.returncode == 2
        assert sentence in refused.stderr
    assert (
        "no campaign 'none'" in run("explain", "sites", "--campaign", "none", "--ion", "Mg").stderr
    )


def test_maps_of_environments_hold_every_kind_of_site(store, oxides, tmp_path) -> None:
    name, model = oxides
    ensure_environments(store, name, "Mg")
    found = map_environments(
        store, name, "Mg", model, Definition.LINEAR, Environment.ALL, per_element=20
    )
    assert set(found.symbols) == {"O", "Ti", "V", "Mn", "Co", "Ni"}
    assert max(found.symbols.count(symbol) for symbol in found.symbols) <= 20
    assert found.pca.shape == found.tsne.shape == (len(found.symbols), 2)
    # The linear local voltage is a plane over 64 components, so some of it over two.
    assert 0 <= found.r2 <= 1
    assert abs(np.linalg.norm(found.direction) - 1) < 1e-9
    for method in ("pca", "tsne"):
        paths = environment_figure(f"map-{method}", found, method, "title").save(tmp_path)
        assert all(path.stat().st_size > 1000 for path in paths)
