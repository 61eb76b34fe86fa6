"""A second look wherever results are shown: tables, filters, exports, dossiers and pages."""

from __future__ import annotations

import pandas as pd
import pytest

from tests.web.small_campaign import NAME
from voltscreen.campaign import rank
from voltscreen.campaign.spec import parse_spec
from voltscreen.cli.dossier import print_dossier
from voltscreen.cli.results import print_results
from voltscreen.report.dossier import stored_dossier
from voltscreen.report.pages import dossier_file, report_file
from voltscreen.report.summary import summarise
from voltscreen.report.tables import result_frame
from voltscreen.store import ResultQuery, get_campaign, get_structure, query_results
from voltscreen.store.documents import RefinementDocument, StabilityPart, VoltageStatus
from voltscreen.train.refined import RefinedVoltage

MG = ResultQuery(campaign=NAME, ion="Mg")
GOOD, FAILED = "mno2-beta", "fesio4"
REFINED = RefinedVoltage(voltage=9.87, sd=0.2, lo80=9.5, hi80=10.2, lo90=9.41, hi90=10.33)


def look(structure_id: str, **fields: object) -> RefinementDocument:
    return RefinementDocument(
        id=f"{structure_id}:Mg:p", structure_id=structure_id, ion="Mg", potential="p", formula="x",
        **{"status": VoltageStatus.OK, **fields},
    )  # fmt: skip


@pytest.fixture(scope="module")
def looked(filled):
    """The campaign `hosts` with two second looks for Mg, of which one succeeded."""
    good, failed = (get_structure(filled, name).id for name in (GOOD, FAILED))
    documents = [
        look(
            good, potential_voltage=2.34, volume_change=0.1234, ions_inserted=1,
            framework_kept=True,
            stability_host=StabilityPart(above_hull=0.056, phases=9, releases_oxygen=True),
            stability_discharged=StabilityPart(above_hull=0.078, phases=9),
        ),
        look(failed, status=VoltageStatus.FAILED, reason="no void", potential_voltage=7.77),
    ]  # fmt: skip
    filled.refinements.insert_many([one.to_mongo() for one in documents])
    campaign = get_campaign(filled, NAME)
    spec = parse_spec(campaign.spec)

    def refined(_store, fast, ion, _model):
        return {good: REFINED} if ion == "Mg" and good in fast else {}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rank, "refined_voltages", refined)
        rank.rank_campaign(filled, spec, campaign.model_id)
    yield filled
    filled.refinements.delete_many({})
    rank.rank_campaign(filled, spec, campaign.model_id)


def row_of(store, name: str):
    key = get_structure(store, name).id
    return next(row for row in query_results(store, MG) if row.structure_id == key)


def test_a_ranking_holds_the_refined_voltage_beside_the_fast_one(looked) -> None:
    row = row_of(looked, GOOD)
    assert (row.voltage, row.lo90, row.hi90) == (9.87, 9.41, 10.33)
    assert row.fast.voltage < 6
    assert row.fast.lo90 < row.fast.voltage < row.fast.hi90
    assert (row.refined.above_hull_host, row.refined.above_hull_discharged) == (0.056, 0.078)
    assert row.refined.releases_oxygen
    other = row_of(looked, FAILED)
    assert other.fast is None
    assert other.refined is None


def test_filters_go_by_the_refined_voltage(looked) -> None:
    key = get_structure(looked, GOOD).id
    (only,) = query_results(looked, MG.model_copy(update={"min_voltage": 9.8}))
    assert only.structure_id == key
    below = query_results(looked, MG.model_copy(update={"max_voltage": 9.8}))
    assert key not in {row.structure_id for row in below}
    best = query_results(looked, MG.model_copy(update={"sort": "voltage", "descending": True}))
    assert best[0].structure_id == key


def test_the_terminal_shows_both_voltages_volume_and_stabilities(looked, capsys) -> None:
    print_results([row_of(looked, GOOD), row_of(looked, FAILED)], "t", with_known=False)
    text = capsys.readouterr().out
    fast = row_of(looked, GOOD).fast
    for wanted in (
        "9.87", "9.41 to 10.33", f"{fast.voltage:.2f}", f"{fast.lo90:.2f} to {fast.hi90:.2f}",
        "2.34", "12.3", "kept", "0.056", "0.078", "released",
    ):  # fmt: skip
        assert wanted in text
    assert "7.77" not in text


def test_an_export_has_all_of_it_in_columns(looked) -> None:
    table = result_frame(query_results(looked, MG)).set_index("structure_id")
    row = table.loc[get_structure(looked, GOOD).id]
    assert row["voltage"] == row["refined_voltage"] or pd.isna(row["refined_voltage"])
    assert row["fast_voltage"] < 6
    assert row["refined_volume_change"] == 0.1234
    assert (row["refined_above_hull_host"], row["refined_above_hull_discharged"]) == (0.056, 0.078)
    empty = result_frame(query_results(looked, MG.model_copy(update={"min_voltage": 50})))
    assert set(empty.columns) >= set(table.columns) - {"label"}


def test_a_dossier_shows_what_was_found_and_why_a_look_failed(looked, capsys) -> None:
    print_dossier(stored_dossier(looked, GOOD), [])
    text = capsys.readouterr().out
    for wanted in ("2.34", "12.3", "0.056", "0.078", "released"):
        assert wanted in text
    html = dossier_file(stored_dossier(looked, GOOD))
    assert "0.056 / 0.078" in html
    assert "12.3 %" in html

    failed = stored_dossier(looked, FAILED)
    print_dossier(failed, [])
    assert "Second look for Mg failed: no void" in capsys.readouterr().out
    assert "no void" in dossier_file(failed)
    assert "7.77" not in dossier_file(failed)


def test_a_report_shows_both_voltages(looked) -> None:
    html = report_file(summarise(looked, MG))
    fast = row_of(looked, GOOD).fast
    for wanted in ("9.41 to 10.33", f"{fast.lo90:.2f} to {fast.hi90:.2f}", "0.056 / 0.078"):
        assert wanted in html
