"""Substitutions of a small campaign, with an untrained model."""

from __future__ import annotations

import pytest

from tests.model.helpers import small_model
from voltscreen.campaign.substitute import substitute_campaign
from voltscreen.errors import CampaignError
from voltscreen.screening import SubstituteSpec
from voltscreen.screening.oxidation import formal_states
from voltscreen.store import get_structure, load_structures
from voltscreen.store.documents import Verdict


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
        document = structures[one.structure_id]
        if one.balanced and not one.known:
            assert formal_states(document.element_counts) is not None
            assert document.properties["origin"] == one.origin


def test_a_structure_that_is_known_is_scored_instead_of_the_new_one(store, oxides) -> None:
    name, model = oxides
    spec = SubstituteSpec(top=6, suggestions=50, min_sites=1, min_probability=0.0)
    known = [one for one in substitute_campaign(store, name, "Mg", model, spec) if one.known]
    sources = {get_structure(store, one.structure_id).sources[0].source for one in known}
    # Ni for Co in CoNiO4, or for Mn in MnNiO4, is the NiO2 of the pool.
    assert sources == {"parquet"}


def test_a_campaign_without_ranking_is_refused(store) -> None:
    with pytest.raises(CampaignError, match="no ranking for Mg"):
        substitute_campaign(store, "none", "Mg", small_model(), SubstituteSpec())
