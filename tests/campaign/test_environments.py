"""Sites of a campaign on record, and what the database says of them all."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from tests.screening.test_substitution import host
from voltscreen.campaign.environments import ensure_environments
from voltscreen.campaign.forget import forget_campaign
from voltscreen.errors import CampaignError
from voltscreen.explain.environments import oxygen_environments, write_environments
from voltscreen.explain.statistics import Definition, Environment, site_statistics
from voltscreen.store.documents import EnvironmentDocument


def every_site(store) -> list[tuple[EnvironmentDocument, object, int]]:
    documents = map(EnvironmentDocument.from_mongo, store.environments.find())
    return [(d, group, site) for d in documents for group in d.sites for site in group.sites]


def test_every_site_stands_once_and_their_voltages_add_up(store, oxides) -> None:
    name, _ = oxides
    ensure_environments(store, name, "Mg")
    voltages = {row["structure_id"]: row["ions"]["Mg"] for row in store.voltages.find()}
    documents = [EnvironmentDocument.from_mongo(row) for row in store.environments.find()]
    assert len(documents) == len(voltages)
    for document in documents:
        sites = sorted(site for group in document.sites for site in group.sites)
        assert sites == list(range(12))
        total = sum(group.additive * group.count for group in document.sites)
        row = voltages[document.structure_id]
        assert total / 12 + row["site"] == pytest.approx(row["voltage"], abs=1e-3)


def test_neighbours_flags_and_states_of_a_site(store, oxides) -> None:
    ensure_environments(store, oxides[0], "Mg")
    sites = every_site(store)
    assert all(sum(group.neighbors.values()) == 12 for _, group, _ in sites)
    nickel = [g for d, g, _ in sites if d.formula == "NiO2" and g.element == "Ni"]
    assert {g.oxidation_state for g in nickel} == {4.0}
    assert all(g.oxygen and g.nearest_oxygen and g.neighbors["O"] >= 6 for g in nickel)


def test_the_database_counts_what_the_sites_say(store, oxides) -> None:
    name, model = oxides
    ensure_environments(store, name, "Mg")
    sites = every_site(store)
    for definition, environment in itertools.product(Definition, Environment):
        values: dict[str, list[float]] = {}
        hosts: dict[str, set[str]] = {}
        for document, group, _ in sites:
            if all(getattr(group, k) == v for k, v in environment.condition.items()):
                values.setdefault(group.element, []).append(getattr(group, definition))
                hosts.setdefault(group.element, set()).add(document.structure_id)
        found = site_statistics(store, name, "Mg", model.id, definition, environment)
        assert {one.element for one in found} == set(values)
        for one in found:
            own = np.sort(values[one.element])
            assert (one.sites, one.hosts) == (len(own), len(hosts[one.element]))
            # The median of few values may lie anywhere between the middle two.
            middle = own[(len(own) - 1) // 2], own[len(own) // 2]
            assert middle[0] - 0.011 <= one.median <= middle[1] + 0.011
            assert one.mean == pytest.approx(own.mean(), abs=0.011)
            assert one.q25 <= one.median <= one.q75
            assert one.lo95 <= one.hi95


def test_states_stand_apart_and_elements_can_be_chosen(store, oxides) -> None:
    name, model = oxides
    ensure_environments(store, name, "Mg")
    every = site_statistics(store, name, "Mg", model.id, environment=Environment.ALL)
    some = site_statistics(
        store,
        name,
        "Mg",
        model.id,
        environment=Environment.ALL,
        elements=["Mn", "O"],
        by_state=True,
    )
    expected = {
        (group.element, round(group.oxidation_state))
        for _, group, _ in every_site(store)
        if group.element in ("Mn", "O")
    }
    assert {(one.element, one.oxidation_state) for one in some} == expected
    for element in ("Mn", "O"):
        total = sum(one.sites for one in every if one.element == element)
        assert sum(one.sites for one in some if one.element == element) == total


def test_a_second_campaign_of_the_same_structures_is_marked_and_forgotten(
    store, launchpad, oxides
) -> None:
    name, model = oxides
    assert ensure_environments(store, name, "Mg") == model.id
    ids = [row["structure_id"] for row in store.environments.find()]
    written = {row["_id"]: row["written_at"] for row in store.environments.find()}
    assert write_environments(store, "other", ids, "Mg", model.id) == len(ids)
    assert written == {row["_id"]: row["written_at"] for row in store.environments.find()}
    assert store.environments.count_documents({"campaigns": "other"}) == len(ids)
    # Known to be complete: nothing is read again.
    store.environments.delete_one({"structure_id": ids[0]})
    ensure_environments(store, name, "Mg")
    assert store.environments.count_documents({}) == len(ids) - 1
    forget_campaign(store, launchpad, name)
    assert store.environments.count_documents({"campaigns": name}) == 0


def test_an_ion_without_voltages_is_refused(store, oxides) -> None:
    with pytest.raises(CampaignError, match="has a voltage for Zn"):
        ensure_environments(store, oxides[0], "Zn")


def test_both_readings_of_an_oxygen_environment() -> None:
    oxide = host("Mn", "Mn", "Mn", "Mn")
    many, both = oxygen_environments([oxide])
    assert many[:4].all()
    assert both[:4].all()
    assert not both[4:].any()
    metal = oxide.take(np.arange(4))
    assert not np.concatenate(oxygen_environments([metal])).any()
