"""Figures and what stands behind them, without a database."""

from __future__ import annotations

import itertools
import xml.etree.ElementTree as ET

import numpy as np
import pandas as pd
import pytest
from scipy.stats import pearsonr

from tests.model.helpers import random_crystal, small_model
from voltscreen.explain.elements import (
    correlations,
    known_elements,
    map_elements,
    property_of,
)
from voltscreen.explain.families import FAMILIES, family_of
from voltscreen.explain.periodic_table import LAST_ELEMENT, periodic_table, place_of
from voltscreen.explain.plots import element_figure, radius_figure
from voltscreen.explain.statistics import SiteStatistics
from voltscreen.explain.trends import descriptors, family_trends, settled
from voltscreen.graph import INSERTION
from voltscreen.model.vectors import atom_vectors, element_vectors
from voltscreen.structures.packed import element_symbol

SYMBOLS = [element_symbol(z) for z in range(1, 84) if z not in {2, 10, 18, 36, 54}]


def statistics(level, sites: int = 100) -> list[SiteStatistics]:
    """Medians by a function of the symbol."""
    return [
        SiteStatistics(
            element=symbol, sites=sites, hosts=10, median=level(symbol), q25=level(symbol) - 0.2,
            q75=level(symbol) + 0.2, mean=level(symbol), lo95=level(symbol) - 0.05,
            hi95=level(symbol) + 0.05,
        )
        for symbol in SYMBOLS
    ]  # fmt: skip


def test_every_element_has_a_place_of_its_own_and_a_family() -> None:
    symbols = [element_symbol(z) for z in range(1, LAST_ELEMENT + 1)]
    places = [place_of(symbol) for symbol in symbols]
    assert len(set(places)) == LAST_ELEMENT
    assert all(1 <= column <= 18 and 1 <= row <= 9 for column, row in places)
    assert {family_of(symbol) for symbol in symbols} == set(FAMILIES)
    assert [family_of(s) for s in ("H", "Mn", "Fe", "La", "Al")] == [
        "main group", "early transition metal", "late transition metal", "f-block", "main group",
    ]  # fmt: skip


def test_correlations_are_those_of_scipy_and_holm_never_lowers_a_p_value() -> None:
    radius = property_of("covalent_radius", SYMBOLS)
    values = -2 * radius + np.random.default_rng(0).normal(scale=0.1, size=len(radius))
    found = correlations(SYMBOLS, {"x": values})
    own = next(one for one in found if one.property == "covalent_radius")
    expected = pearsonr(values, radius)
    assert (own.pearson, own.p_pearson) == pytest.approx((expected.statistic, expected.pvalue))
    assert own.n == len(SYMBOLS)
    assert max(found, key=lambda one: abs(one.pearson)) is own
    assert all(one.p_pearson <= one.p_adjusted <= 1 for one in found)
    ordered = sorted(found, key=lambda one: one.p_pearson)
    assert all(a.p_adjusted <= b.p_adjusted for a, b in itertools.pairwise(ordered))


def test_a_family_that_lies_high_is_said_to_and_one_that_does_not_is_not() -> None:
    rng = np.random.default_rng(1)
    noise = {symbol: rng.normal(scale=0.1) for symbol in SYMBOLS}
    late = {symbol for symbol in SYMBOLS if family_of(symbol) == "late transition metal"}
    trends = {
        one.family: one for one in family_trends(statistics(lambda s: 2.0 + (s in late) + noise[s]))
    }
    assert trends["late transition metal"].verdict == "high"
    assert trends["late transition metal"].above == pytest.approx(1.0, abs=0.15)
    assert trends["alkaline earth"].verdict != "high"
    flat = family_trends(statistics(lambda s: 2.0 + noise[s]))
    assert sum(one.verdict == "undecided" for one in flat) >= 5


def test_the_descriptor_that_orders_the_medians_comes_first() -> None:
    radius = dict(zip(SYMBOLS, property_of("covalent_radius", SYMBOLS), strict=True))
    first, *_ = descriptors(statistics(lambda s: 3.0 - radius[s]))
    assert first.correlation.property == "covalent_radius"
    assert first.correlation.spearman == pytest.approx(-1)
    assert first.first > 0.9
    assert first.lo95 <= first.correlation.spearman + 1e-9


def test_figures_are_kept_in_four_forms_that_say_the_same(tmp_path) -> None:
    found = [
        one.model_copy(update={"sites": 3}) if one.element == "Tl" else one
        for one in statistics(lambda s: float(len(s)))
    ]
    solid = settled(found, 10)
    assert {one.element for one in found} - {one.element for one in solid} == {"Tl"}
    related = descriptors(solid)[0].correlation
    for figure in (
        periodic_table("table", found, "Mg", 10),
        radius_figure("radius", solid, related, "Mg"),
    ):
        png, svg, html, csv = figure.save(tmp_path)
        assert png.read_bytes().startswith(b"\x89PNG")
        ET.parse(svg)
        page = html.read_text()
        # The library is in the page, not fetched.
        assert "Plotly.newPlot" in page
        assert "<script src=" not in page
        table = pd.read_csv(csv, keep_default_na=False).set_index("element")
        assert table.loc["Fe", "median_V"] == 2.0


def test_the_map_of_elements_shows_the_trunk_and_leaves_out_noble_gases(tmp_path) -> None:
    model = small_model(spec=INSERTION)
    numbers = known_elements(model, None)
    assert not {2, 10, 18} & set(numbers)
    found = map_elements(model, numbers)
    vectors = element_vectors(model, np.array(numbers))
    centred = vectors - vectors.mean(axis=0)
    singular = np.linalg.svd(centred, compute_uv=False)
    np.testing.assert_allclose(np.linalg.norm(found.coordinates, axis=0), singular[:2], rtol=1e-5)
    assert found.explained.sum() < 1
    columns = {"PC1": found.coordinates[:, 0], "PC2": found.coordinates[:, 1]}
    paths = element_figure("elements", found, correlations(found.symbols, columns)).save(tmp_path)
    assert len(pd.read_csv(paths[3])) == len(numbers)


def test_vectors_of_atoms_do_not_depend_on_the_other_hosts() -> None:
    model = small_model(spec=INSERTION)
    hosts = [random_crystal(seed) for seed in range(3)]
    together = atom_vectors(model, hosts)
    assert together.shape == (24, 64)
    np.testing.assert_allclose(together[8:16], atom_vectors(model, hosts[1:2]), atol=1e-5)
    assert atom_vectors(model, []).shape == (0, 64)
