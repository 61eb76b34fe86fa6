"""Who was given up, lives after all and goes on: it changes nothing of what others have done."""

from __future__ import annotations

import pytest

from voltscreen.campaign import refine
from voltscreen.campaign.rank import rank_campaign
from voltscreen.campaign.shift import Shift
from voltscreen.campaign.spec import parse_spec
from voltscreen.campaign.turn import Turn, TurnLostError
from voltscreen.campaign.writer import BatchWriter
from voltscreen.screening import RefineSpec
from voltscreen.store.documents import (
    BatchDocument,
    RefinementDocument,
    VoltageStatus,
    refinement_id,
)


class Potential:
    """Stands for CHGNet, which is not asked here."""

    label = "p"

    class device:  # noqa: N801
        type = "cpu"


def look(key: str, **fields) -> RefinementDocument:
    return RefinementDocument(
        id=refinement_id(key, "Mg", "p"), structure_id=key, ion="Mg", potential="p",
        formula="TiS2", status=VoltageStatus.OK, device="cpu", **fields,
    )  # fmt: skip


def test_a_late_second_look_leaves_the_one_on_record(store, monkeypatch) -> None:
    def looks(store, ids, ion, potential, spec):
        for key in ids:
            # Others take the look meanwhile, and the ranking adds the refined voltage to it.
            if key == "a":
                store.refinements.insert_one(look(key, voltage=2.5, model_id="m").to_mongo())
            yield look(key)

    monkeypatch.setattr(refine, "_refined", looks)
    refine.refine_structures(store, ["a", "b"], "Mg", Potential(), RefineSpec())
    found = {row["structure_id"]: row for row in store.refinements.find()}
    assert found.keys() == {"a", "b"}
    assert (found["a"]["voltage"], found["a"]["model_id"]) == (2.5, "m")


def test_a_batch_that_others_have_done_stays_done(store, oxides) -> None:
    before = store.batches.find_one({"kind": "predict"})
    assert before["state"] == "done"
    late = BatchWriter(store, BatchDocument.from_mongo(before), 99, Shift(), "cpu")
    late.begin()
    assert store.batches.find_one({"_id": before["_id"]}) == before
    late.count([VoltageStatus.FAILED])
    assert store.batches.find_one({"_id": before["_id"]}) == before
    late.fail(RuntimeError("too late"))
    after = store.batches.find_one({"_id": before["_id"]})
    # That it was at work is on record, and no more.
    assert [one.get("error") for one in after.pop("attempts")] == [None, "RuntimeError: too late"]
    before.pop("attempts")
    assert after == before


def test_a_ranking_that_others_have_begun_anew_is_theirs(store, oxides) -> None:
    name, model = oxides
    spec = parse_spec(store.campaigns.find_one({"_id": name})["spec"])
    late = Turn.begin(store, name)
    rank_campaign(store, spec, model.id)
    before = list(store.rankings.find()), list(store.ranking_columns.find())
    assert before[0]
    with pytest.raises(TurnLostError, match="ranked by another process"):
        rank_campaign(store, spec, model.id, late)
    assert (list(store.rankings.find()), list(store.ranking_columns.find())) == before
