"""A small ranked campaign, with an untrained model."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest

from tests.model.helpers import small_model
from tests.screening.test_substitution import host
from voltscreen.campaign.plan import ingest_campaign, plan_campaign
from voltscreen.campaign.predict import predict_batch
from voltscreen.campaign.rank import rank_campaign
from voltscreen.campaign.register import register
from voltscreen.campaign.spec import parse_spec
from voltscreen.graph import INSERTION
from voltscreen.model import save_model
from voltscreen.model.uncertainty import Domain, Intervals, find_neighborhood
from voltscreen.store.documents import CampaignState

METALS = ["Ti Ti Mn Mn", "V V Ni Ni", "Mn Mn Ni Ni", "Mn Mn Mn Mn", "Co Co Ni Ni", "Ni Ni Ni Ni"]


@pytest.fixture
def oxides(store, tmp_path):
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
    # Far apart and sure of itself, so that some substitutions improve beyond their interval.
    tight = Intervals(*[np.full(3, width) for width in (0.001, 0.002, 0.003)])
    model = small_model(spec=INSERTION)
    # Training hosts so far from each other that no host is farther from them.
    rng = np.random.default_rng(0)
    labels, voltages = rng.uniform(1, 4, (2, 3, 30))
    features = rng.normal(scale=1000, size=(30, model.readout.n_pooled))
    domain = Domain.of(find_neighborhood(features, labels, voltages), np.array([0.3, 0.3, 0.2]))
    model = dataclasses.replace(model, intervals=tight, domain=domain)
    model.readout.scale.fill_(30.0)
    save_model(model, tmp_path / "small.safetensors")
    spec = parse_spec(
        {
            "name": "c",
            "ions": ["Mg"],
            "source": {"parquet": str(tmp_path / "pool.parquet")},
            "model": str(tmp_path / "small.safetensors"),
        }
    )
    register(store, spec)
    ingest_campaign(store, spec)
    plan_campaign(store, "c", model.id, 10_000)
    for row in list(store.batches.find({"campaign": "c"})):
        predict_batch(store, row["_id"], model, None)
    rank_campaign(store, spec, model.id)
    store.campaigns.update_one({"_id": "c"}, {"$set": {"state": CampaignState.DONE}})
    return "c", model
