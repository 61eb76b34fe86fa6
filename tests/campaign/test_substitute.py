"""Substitutions of a small campaign, with an untrained model."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tests.model.helpers import small_model
from tests.screening.test_substitution import host
from voltscreen.campaign.plan import ingest_campaign, plan_campaign
from voltscreen.campaign.predict import predict_batch
from voltscreen.campaign.rank import rank_campaign
from voltscreen.campaign.spec import parse_spec
from voltscreen.campaign.substitute import substitute_campaign
from voltscreen.errors import CampaignError
from voltscreen.explain.local_voltages import oxygen_environments, site_voltages
from voltscreen.graph import INSERTION
from voltscreen.screening import SubstituteSpec
from voltscreen.screening.oxidation import formal_states
from voltscreen.store import get_structure, load_structures
from voltscreen.store.documents import Verdict

METALS = ["Ti Ti Mn Mn", "V V Ni Ni", "Mn Mn Ni Ni", "Mn Mn Mn Mn", "Co Co Ni Ni", "Ni Ni Ni Ni"]


@pytest.fixture
def campaign(store, tmp_path):
    """A ranked campaign of six oxides: its name and its model."""
    crystals = [host(*metals.split()) for metals in METALS]
    pd.DataFrame(
        {
            "material_id": [f"mp-{i}" for i in range(len(crystals))],
            "lattice": [crystal.lattice.ravel() for crystal in crystals],
            "atomic_numbers": [crystal.atomic_numbers.astype(int) for crystal in crystals],
            "frac_coords": [crystal.frac_coords.ravel() for crystal in crystals],
        }
    ).to_parquet(tmp_path / "pool.parquet")
    spec = parse_spec(
        {"name": "c", "ions": ["Mg"], "source": {"parquet": str(tmp_path / "pool.parquet")}}
    )
    model = small_model(spec=INSERTION)
    ingest_campaign(store, spec)
    plan_campaign(store, "c", model.id, 10_000)
    for row in list(store.batches.find({"campaign": "c"})):
        predict_batch(store, row["_id"], model, None)
    rank_campaign(store, spec, model.id)
    return "c", model


def test_suggestions_are_scored_kept_and_found_again(store, campaign) -> None:
    name, model = campaign
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


def test_a_structure_that_is_known_is_scored_instead_of_the_new_one(store, campaign) -> None:
    name, model = campaign
    spec = SubstituteSpec(top=6, suggestions=50, min_sites=1, min_probability=0.0)
    known = [one for one in substitute_campaign(store, name, "Mg", model, spec) if one.known]
    sources = {get_structure(store, one.structure_id).sources[0].source for one in known}
    # Ni for Co in CoNiO4, or for Mn in MnNiO4, is the NiO2 of the pool.
    assert sources == {"parquet"}


def test_sites_carry_their_environment_and_add_up_to_the_voltage(store, campaign) -> None:
    model = campaign[1]
    ids = [row["_id"] for row in store.structures.find({"sources.source": "parquet"})]
    sites = site_voltages(store, ids, "Mg", model.id)
    assert len(sites) == 12 * len(METALS)
    assert sites.host.max() == len(METALS) - 1
    rows = {row["structure_id"]: row["ions"]["Mg"] for row in store.voltages.find()}
    totals = sorted(row["voltage"] - row["site"] for row in rows.values())
    means = sorted(sites.additive[sites.host == i].mean() for i in range(len(METALS)))
    np.testing.assert_allclose(means, totals, atol=1e-4)


def test_both_readings_of_an_oxygen_environment() -> None:
    oxide = host("Mn", "Mn", "Mn", "Mn")
    many, both = oxygen_environments([oxide])
    assert many[:4].all()
    assert both[:4].all()
    assert not both[4:].any()
    metal = oxide.take(np.arange(4))
    assert not np.concatenate(oxygen_environments([metal])).any()


def test_a_campaign_without_ranking_is_refused(store) -> None:
    with pytest.raises(CampaignError, match="no ranking for Mg"):
        substitute_campaign(store, "none", "Mg", small_model(), SubstituteSpec())
