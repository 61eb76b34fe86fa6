"""Tables, figures, exports and reports of a small campaign."""

from __future__ import annotations

import json
import zipfile

import numpy as np
import pandas as pd
import pytest

from tests.web.small_campaign import NAME
from voltscreen.cli.export import writer_of
from voltscreen.errors import QueryError
from voltscreen.report.colors import text_color, voltage_color
from voltscreen.report.database import Results, make_query
from voltscreen.report.dossier import stored_dossier
from voltscreen.report.drawings import lowered, pareto_plot, periodic_table
from voltscreen.report.figures import KINDS, data, save
from voltscreen.report.grouping import fold, folded_page
from voltscreen.report.pages import dossier_file, report_file
from voltscreen.report.summary import plot_points, summarise
from voltscreen.store import ResultQuery, query_results, unpack
from voltscreen.store.ranking_columns import load_columns
from voltscreen.store.structures import ingest
from voltscreen.structures import Candidate, PackedStructure, SourceRef

MG = ResultQuery(campaign=NAME, ion="Mg")


def test_a_notebook_gets_a_table_with_the_same_numbers(filled) -> None:
    results = Results(filled)
    table = results.results(NAME, "Mg", sort="voltage", descending=True)
    rows = query_results(filled, MG.model_copy(update={"sort": "voltage", "descending": True}))
    assert table["voltage"].tolist() == [row.voltage for row in rows]
    assert table["known_voltage"].dropna().tolist() == [2.61]
    assert list(results.results(NAME, "Mg", min_voltage=50).columns[:2]) == ["rank", "structure_id"]
    assert results.campaigns()["name"].tolist() == [NAME]
    assert len(results.structure("mno2-beta")) == 6
    with pytest.raises(QueryError, match="unknown filter 'colour'"):
        results.results(NAME, "Mg", colour="red")


def test_exports_hold_what_the_query_finds(filled, tmp_path) -> None:
    rows = query_results(filled, MG)
    for suffix in ("csv", "json", "parquet", "html", "zip"):
        path = tmp_path / f"mg.{suffix}"
        assert writer_of(path, cif=False)(filled, MG, path) == len(rows)
    voltages = [row.voltage for row in rows]
    assert pd.read_csv(tmp_path / "mg.csv")["voltage"].tolist() == pytest.approx(voltages)
    assert pd.read_parquet(tmp_path / "mg.parquet")["voltage"].tolist() == voltages
    assert [row["voltage"] for row in json.loads((tmp_path / "mg.json").read_text())] == voltages
    with zipfile.ZipFile(tmp_path / "mg.zip") as bundle:
        table = pd.read_csv(bundle.open("candidates.csv"))
        assert set(bundle.namelist()) == {"candidates.csv", *table["cif"]}
        assert b"_cell_length_a" in bundle.read(table["cif"][0])
    with pytest.raises(QueryError, match="cannot tell the format"):
        writer_of(tmp_path / "mg.xls", cif=False)


def test_a_report_names_the_candidates_and_asks_for_nothing(filled) -> None:
    summary = summarise(filled, MG)
    html = report_file(summary)
    assert f"{NAME}: Mg" in html
    for row in summary.rows:
        assert row.structure_id
        assert lowered(row.formula) in html
    assert "<script" not in html
    assert "http" not in html.replace("http-equiv", "")


@pytest.mark.parametrize("kind", KINDS)
def test_figures_are_written_with_their_numbers(filled, tmp_path, kind) -> None:
    for suffix in ("png", "svg", "html"):
        path = tmp_path / f"{kind}.{suffix}"
        table = save(filled, kind, MG, path)
        assert path.stat().st_size > 5000
        pd.testing.assert_frame_equal(
            pd.read_csv(table), data(filled, kind, MG), check_dtype=False, check_index_type=False
        )
    with pytest.raises(QueryError, match="cannot draw"):
        save(filled, kind, MG, tmp_path / "x.gif")
    with pytest.raises(QueryError, match="nothing to draw"):
        save(filled, kind, make_query(NAME, "Mg", {"min_voltage": 50}), tmp_path / "x.png")


def test_a_figure_that_nobody_knows_is_refused(filled) -> None:
    with pytest.raises(QueryError, match="no figure 'pie'"):
        data(filled, "pie", MG)


def test_labels_of_strangers_stay_text(filled) -> None:
    packed = PackedStructure.from_arrays(np.eye(3) * 4, [[0, 0, 0], [0.5, 0.5, 0.5]], [25, 8])
    evil = "<script>alert(1)</script>"
    candidate = Candidate(packed, SourceRef("files", evil), label=evil, properties={evil: evil})
    for _ in ingest(filled, [candidate]):
        pass
    html = dossier_file(stored_dossier(filled, evil))
    filled.structures.delete_one({"_id": packed.content_hash})
    assert html.count("<script>") == 1  # our own
    assert "&lt;script&gt;alert(1)" in html


def test_like_frameworks_are_folded_into_the_best_of_them(filled) -> None:
    rows = query_results(filled, MG)
    first = rows[0]
    packed = unpack_of(filled, first.structure_id)
    larger = PackedStructure.from_arrays(
        packed.lattice * 1.02, packed.frac_coords, packed.atomic_numbers
    )
    for _ in ingest(filled, [Candidate(larger, SourceRef("files", "larger.cif"))]):
        pass
    copy = first.model_copy(update={"structure_id": larger.content_hash, "rank": 99})
    folded = fold(filled, [*rows, copy], "Mg")
    filled.structures.delete_one({"_id": larger.content_hash})
    assert [each.row.rank for each in folded] == [row.rank for row in rows]
    assert [each.rank for each in folded[0].also] == [99]
    assert all(not each.also for each in folded[1:])
    page, shown = folded_page(filled, MG.model_copy(update={"skip": 1, "top": 2}))
    assert [each.row.rank for each in shown] == [2, 3]
    assert page.total == len(rows)


def unpack_of(store, key: str) -> PackedStructure:
    from voltscreen.store import get_structure

    return unpack(get_structure(store, key))


def test_the_plot_leads_to_every_candidate_of_the_front(filled) -> None:
    columns = load_columns(filled, NAME, "Mg")
    points = plot_points(columns, np.arange(columns.n))
    drawing = pareto_plot(points, lambda point: f"/structures/{point.structure_id}")
    front = [point for point in points if point.pareto]
    assert front
    for point in front:
        assert f'href="/structures/{point.structure_id}"' in drawing
    assert drawing.count("<circle") == len(points)
    assert pareto_plot([]) == ""


def test_a_periodic_table_shows_every_value_in_readable_ink() -> None:
    drawing = periodic_table({"Mn": (2.5, 10), "O": (3.5, 20)})
    assert "2.50" in drawing
    assert "median of 20 sites" in drawing
    assert (voltage_color(0, 0, 1), voltage_color(9, 0, 1)) == ("#313695", "#a50026")
    assert text_color("#ffffff") == "#111111"
    assert text_color("#313695") == "#ffffff"
