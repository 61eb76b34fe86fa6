"""Substitutions of a small campaign, with an untrained model."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from tests.model.helpers import small_model
from voltscreen.campaign import control
from voltscreen.campaign.spec import parse_spec
from voltscreen.campaign.substitute import Substitutions, substitute_campaign
from voltscreen.campaign.worker import work
from voltscreen.errors import CampaignError, SpecError
from voltscreen.model.uncertainty import Intervals
from voltscreen.screening import Proposal, SubstituteSpec, Swap
from voltscreen.screening.oxidation import formal_states
from voltscreen.store import get_campaign, get_structure, load_structures
from voltscreen.store.documents import CampaignState, SubstitutionDocument, Verdict
from voltscreen.structures import PackedStructure


def test_suggestions_are_scored_kept_and_found_again(store, oxides) -> None:
    name, model = oxides
    spec = SubstituteSpec(top=6, min_sites=1, min_probability=0.0)
    found = substitute_campaign(store, name, "Mg", model, spec)
    assert found
    assert store.substitutions.count_documents({}) == len({one.id for one in found})
    assert {one.id for one in substitute_campaign(store, name, "Mg", model, spec)} == {
        one.id for one in found
    }
    structures = load_structures(store, [one.structure_id for one in found if one.structure_id])
    for one in found:
        assert one.origin.startswith("mp-")
        assert one.change == pytest.approx(one.voltage_after - one.voltage_before)
        assert one.lo90 <= one.change <= one.hi90
        assert one.balanced or one.verdict is Verdict.UNBALANCED
        if one.balanced and not one.known:
            document = structures[one.structure_id]
            assert formal_states(document.element_counts) is not None
            assert document.properties["origin"] == one.origin


def test_a_structure_that_is_known_is_scored_instead_of_the_new_one(store, oxides) -> None:
    name, model = oxides
    spec = SubstituteSpec(top=6, suggestions=50, min_sites=1, min_probability=0.0)
    known = [one for one in substitute_campaign(store, name, "Mg", model, spec) if one.known]
    sources = {get_structure(store, one.structure_id).sources[0].source for one in known}
    # Ni for Co in CoNiO4, or for Mn in MnNiO4, is the NiO2 of the pool.
    assert sources == {"parquet"}


OPTIONS = {"top": 6, "suggestions": 4, "min_sites": 1, "min_probability": 0.0, "generations": 3}


def assert_a_search(store, found) -> None:
    """Every parent of a later generation is a child that improved beyond its interval."""
    by_child = {}
    for one in found:
        by_child.setdefault(one.structure_id, []).append(one)
    for one in found:
        assert one.lineage[-1] == one.parent
        if one.generation == 1:
            assert one.lineage == [one.parent]
            continue
        made = [p for p in by_child[one.parent] if p.generation == one.generation - 1]
        assert any(p.verdict is Verdict.IMPROVES and p.lo90 > 0 for p in made)
        assert one.lineage[:-1] in [p.lineage for p in made]
        assert one.origin == get_structure(store, one.parent).properties.get(
            "origin", get_structure(store, one.parent).sources[0].id
        )
        assert one.origin.startswith("mp-")


def test_generations_keep_their_lineage_and_end_when_nothing_improves(store, oxides) -> None:
    name, model = oxides
    found = substitute_campaign(store, name, "Mg", model, SubstituteSpec(**OPTIONS))
    assert {one.generation for one in found} >= {1, 2}
    assert_a_search(store, found)
    # A model that is sure of nothing finds nothing to go on with.
    vague = Intervals(*[np.full(3, 50.0)] * 3)
    store.substitutions.delete_many({})
    unsure = dataclasses.replace(model, intervals=vague)
    assert unsure.id != model.id
    store.campaigns.update_one({"_id": name}, {"$set": {"model_id": model.id}})
    ended = substitute_campaign(store, name, "Mg", unsure, SubstituteSpec(**OPTIONS))
    assert {one.generation for one in ended} == {1}


def test_every_structure_on_record_is_neutral_without_overlap_and_goes_back_to_its_source(
    store, oxides
) -> None:
    name, model = oxides
    spec = SubstituteSpec(**OPTIONS | {"suggestions": 30, "generations": 1})
    substitute_campaign(store, name, "Mg", model, spec)
    made = list(store.structures.find({"sources.source": "substitution"}))
    assert made
    for row in made:
        assert formal_states(row["element_counts"]) is not None
        structure = PackedStructure.from_bytes(row["packed"]).to_pymatgen()
        assert structure.is_valid(tol=1.0)
        assert row["properties"]["origin"].startswith("mp-")
        assert store.structures.find_one({"_id": row["properties"]["parent"]})


def test_what_no_states_balance_is_scored_and_leaves_no_structure(store, oxides) -> None:
    name, model = oxides
    run = Substitutions(store, name, "Mg", model, SubstituteSpec())
    row = store.structures.find_one({"formula": "MnO2", "sources.source": "parquet"})
    parent = run._parent(get_structure(store, row["_id"]), 1)
    swap = Swap("Mn", "Al", (0, 1, 2, 3), 0.1)
    before = store.structures.count_documents({})
    made = run._made(parent, Proposal((swap,), (1, 1, 1), 1.0, balanced=False))
    (document,) = run._scored(parent, [made], 1)
    assert (document.verdict, document.structure_id) == (Verdict.UNBALANCED, None)
    assert document.voltage_after is not None
    assert store.structures.count_documents({}) == before
    assert run.next_parents([document], 1) == []


def test_the_substitute_part_of_a_spec_is_worked_after_the_ranking(
    store, launchpad, oxides
) -> None:
    before = parse_spec(store.campaigns.find_one({"_id": oxides[0]})["spec"])
    spec = before.model_copy(update={"name": "s", "substitute": SubstituteSpec(**OPTIONS)})
    control.submit(store, launchpad, spec)
    work("s")
    names = [row["name"] for row in launchpad.fireworks.find({"spec.campaign": "s"})]
    assert {"s substitute Mg 1", "s substitute Mg 2"} <= set(names)
    assert launchpad.fireworks.count_documents({"state": {"$ne": "COMPLETED"}}) == 0
    document = get_campaign(store, "s")
    assert (document.state, document.errors) == (CampaignState.DONE, [])
    found = [SubstitutionDocument.from_mongo(row) for row in store.substitutions.find()]
    assert_a_search(store, found)
    assert max(one.generation for one in found) >= 2

    # The same as by hand, and a second time there is nothing to do.
    again = substitute_campaign(store, "s", "Mg", oxides[1], spec.substitute)
    assert {one.id for one in again} == {one.id for one in found}
    assert "Nothing to do" in control.submit(store, launchpad, spec).message

    # A Firework of it that was lost is worked again, and the campaign stays done.
    last = launchpad.fireworks.find_one({"name": "s substitute Mg 1"})
    launchpad.rerun_fw(last["fw_id"])
    control.resume(store, launchpad, "s")
    assert get_campaign(store, "s").state is CampaignState.DONE
    work("s")
    assert not control.open_fireworks(launchpad, "s")
    assert store.substitutions.count_documents({}) == len(found)


def test_what_substitute_prints_as_json(run, oxides, tmp_path) -> None:
    call = ("substitute", "--campaign", oxides[0], "--ion", "Mg", "--top", 2, "--suggestions", 2)
    done = run(*call, "--min-probability", 0, "--cif", tmp_path / "new", "--json")
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    for row in rows:
        assert list(row) == [
            "parent", "ion", "swap", "probability", "balanced", "voltage_before",
            "voltage_after", "change", "lo90", "hi90", "verdict", "structure_id",
        ]  # fmt: skip
    written = list((tmp_path / "new").glob("*.cif"))
    assert len(written) == len({row["structure_id"] for row in rows if row["structure_id"]})


def test_a_campaign_without_ranking_is_refused(store) -> None:
    with pytest.raises(CampaignError, match="no ranking for Mg"):
        substitute_campaign(store, "none", "Mg", small_model(), SubstituteSpec())


def test_a_wrong_key_of_the_substitute_part_is_named() -> None:
    given = {"name": "s", "ions": ["Mg"], "source": {"hosts": "all"}}
    with pytest.raises(SpecError, match="unknown key 'substitute.tops': did you mean 'top'"):
        parse_spec(given | {"substitute": {"tops": 3}})
    with pytest.raises(SpecError, match="'substitute.generations': .*got 99"):
        parse_spec(given | {"substitute": {"generations": 99}})
    # Without the part, the spec is the one it was before there was one.
    assert "substitute" not in parse_spec(given).canonical()
