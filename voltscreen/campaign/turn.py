"""Whose ranking counts: that of the process that began last.

A process that was given up while it ranked may live after all (a stalled machine, a network that
came back), and go on when others have ranked the campaign anew, perhaps with more structures. It
asks before each of its writes, and leaves what is newer than itself alone.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from voltscreen.errors import CampaignError
from voltscreen.store import Store
from voltscreen.store.connection import Row


class TurnLostError(CampaignError):
    """Another process has begun to rank the campaign since."""


@dataclass(frozen=True, slots=True)
class Turn:
    """The right to write the rankings of a campaign, until another process takes it.

    ours: filter for the campaign's document that fits nothing once the turn is lost.
    """

    store: Store
    ours: Row

    @classmethod
    def begin(cls, store: Store, campaign: str) -> Turn:
        """Take the turn, from whoever has it."""
        mark = uuid.uuid4().hex
        store.campaigns.update_one({"_id": campaign}, {"$set": {"ranker": mark}})
        return cls(store, {"_id": campaign, "ranker": mark})

    def check(self) -> None:
        """Whether the turn is still ours.

        Raises:
            TurnLostError: it is not.
        """
        if self.store.campaigns.find_one(self.ours, {"_id": 1}) is None:
            raise TurnLostError(f"campaign {self.ours['_id']!r} is ranked by another process")
