"""The sites of a whole campaign on record: written when an ion is first asked for."""

from __future__ import annotations

from collections.abc import Callable

from voltscreen.campaign.plan import campaign_members
from voltscreen.errors import CampaignError
from voltscreen.explain.environments import write_environments
from voltscreen.ions import working_ion
from voltscreen.store import Store, get_campaign
from voltscreen.store.documents import CampaignState


def ensure_environments(
    store: Store, campaign: str, ion: str, progress: Callable[[int], None] | None = None
) -> str:
    """Write what the collection `environments` lacks of a campaign's members for an ion.

    Args:
        progress: called with the number of structures of every chunk that was looked at.

    Returns:
        Id of the campaign's model.

    Raises:
        CampaignError: no such campaign, or none of its members has a voltage for the ion.
    """
    working_ion(ion)
    document = get_campaign(store, campaign)
    members = list(campaign_members(store, campaign))
    if document.environments.get(ion) != len(members):
        count = write_environments(store, campaign, members, ion, document.model_id, progress)
        if not count:
            raise CampaignError(
                f"no structure of campaign {campaign!r} has a voltage for {ion}: finish it first "
                f"with voltscreen campaign run {campaign}"
            )
        # Of a campaign that still predicts, more may come; of one that is done, no more.
        if document.state is CampaignState.DONE:
            store.campaigns.update_one(
                {"_id": campaign}, {"$set": {f"environments.{ion}": len(members)}}
            )
    return document.model_id
