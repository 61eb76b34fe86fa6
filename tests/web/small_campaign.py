"""A finished campaign over a few known hosts, worked in this process with the shipped model."""

from __future__ import annotations

from voltscreen.campaign.plan import ingest_campaign, plan_campaign
from voltscreen.campaign.predict import predict_batch
from voltscreen.campaign.rank import rank_campaign
from voltscreen.campaign.register import register
from voltscreen.campaign.spec import parse_spec
from voltscreen.model import load_model
from voltscreen.store import Store
from voltscreen.store.documents import CampaignState, ElectrodeDocument, now

NAME = "hosts"
HOSTS = ["mno2-lambda", "mno2-beta", "mno2-ramsdellite", "v2o5-alpha", "mos2-2h", "fesio4"]


def make_campaign(store: Store) -> None:
    """Six hosts, ranked for Mg and Zn; the Materials Project knows one of them with Mg."""
    from voltscreen.sources.known_hosts import known_hosts

    names = {host.name for host in known_hosts()}
    chosen = [name for name in HOSTS if name in names]
    spec = parse_spec({"name": NAME, "ions": ["Mg", "Zn"], "source": {"hosts": chosen}})
    campaign = register(store, spec)
    ingest_campaign(store, spec)
    electrode = ElectrodeDocument(
        id="mp-1_Mg", ion="Mg", voltage=2.61, charged_id="mno2-lambda", db_version="test"
    )
    store.electrodes.insert_one(electrode.to_mongo())
    plan_campaign(store, NAME, campaign.model_id, spec.batch.max_atoms)
    model = load_model("default")
    for row in list(store.batches.find({"campaign": NAME}, {"_id": 1})):
        predict_batch(store, row["_id"], model, None)
    counts = rank_campaign(store, spec, campaign.model_id)
    store.campaigns.update_one(
        {"_id": NAME},
        {"$set": {"state": CampaignState.DONE, "counts": counts, "finished_at": now()}},
    )
