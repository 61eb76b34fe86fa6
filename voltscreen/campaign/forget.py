"""Take a campaign out of the database; what was predicted stays."""

from __future__ import annotations

from voltscreen.campaign.launchpad import VoltscreenLaunchPad
from voltscreen.campaign.liveness import Liveness
from voltscreen.campaign.register import begun_otherwise
from voltscreen.campaign.spec import CampaignSpec
from voltscreen.errors import CampaignError
from voltscreen.store import Store
from voltscreen.store.ranking_columns import drop_columns


def forget_campaign(store: Store, launchpad: VoltscreenLaunchPad, name: str) -> bool:
    """Remove a campaign's document, batches, rankings and workflows; False when there is none.

    Structures, voltages and models stay, so that a campaign of the same candidates and model
    predicts nothing twice. Killed on the way, it goes on when it is called again: the document
    goes last.

    Raises:
        CampaignError: a living worker has one of its batches in hand.
    """
    if store.campaigns.find_one({"_id": name}, {"_id": 1}) is None:
        return False
    running = list(
        launchpad.fireworks.find(
            {"spec.campaign": name, "state": "RUNNING"}, {"fw_id": 1, "claim": 1, "updated_on": 1}
        )
    )
    if not all(verdict.lost for verdict in Liveness(launchpad).judge(running).values()):
        raise CampaignError(
            f"campaign {name!r} has batches running: cancel it, or wait until its workers have "
            f"ended (`voltscreen campaign status {name}`)"
        )
    for row in launchpad.fireworks.find({"spec.campaign": name}, {"fw_id": 1}):
        # Gone already when it belongs to the same workflow as one before it.
        if launchpad.workflows.find_one({"nodes": row["fw_id"]}, {"_id": 1}):
            launchpad.delete_wf(row["fw_id"])
    drop_columns(store, name)
    store.rankings.delete_many({"campaign": name})
    store.environments.update_many({"campaigns": name}, {"$pull": {"campaigns": name}})
    store.batches.delete_many({"campaign": name})
    store.campaigns.delete_one({"_id": name})
    return True


def replace_campaign(store: Store, launchpad: VoltscreenLaunchPad, spec: CampaignSpec) -> bool:
    """Forget the campaign of this name if it was begun with another spec or model.

    Returns:
        Whether it was.
    """
    return begun_otherwise(store, spec) is not None and forget_campaign(store, launchpad, spec.name)
