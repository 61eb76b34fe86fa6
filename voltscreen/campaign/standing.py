"""Why a campaign does not move, in a sentence."""

from __future__ import annotations

from collections import Counter
from typing import Any

from voltscreen.campaign.control import open_fireworks
from voltscreen.campaign.launchpad import VoltscreenLaunchPad
from voltscreen.campaign.liveness import Liveness, Verdict
from voltscreen.store import Store, get_campaign
from voltscreen.store.documents import CampaignDocument, CampaignState


def standing(store: Store, launchpad: VoltscreenLaunchPad, name: str) -> str:
    """What a campaign waits for and what to do, in a sentence.

    Raises:
        CampaignError: no campaign of that name.
    """
    campaign = get_campaign(store, name)
    if campaign.state is CampaignState.CANCELLED:
        return "It was cancelled; give the spec another name to start anew."
    columns = {"fw_id": 1, "state": 1, "claim": 1, "updated_on": 1, "spec.batch": 1}
    rows = list(launchpad.fireworks.find({"spec.campaign": name}, columns))
    states = Counter(row["state"] for row in rows)
    taken = [row for row in rows if row["state"] in ("RUNNING", "RESERVED")]
    verdicts = Liveness(launchpad).judge(taken)
    lost = [verdict for verdict in verdicts.values() if verdict.lost]
    if alive := len(taken) - len(lost):
        return _moves(alive, states["READY"], lost, name)
    if lost:
        return _gone(lost, name)
    return _rests(campaign, states, bool(open_fireworks(launchpad, name)))


def _moves(alive: int, ready: int, lost: list[Verdict], name: str) -> str:
    text = f"It moves: {_count(alive, 'Firework')} in hand, {ready} ready"
    if lost:
        text += (
            f"; {_count(len(lost), 'other')} lost ({lost[0].reason}): "
            f"voltscreen campaign resume {name}"
        )
    return text + "."


def _gone(lost: list[Verdict], name: str) -> str:
    reasons = "; ".join(dict.fromkeys(verdict.reason for verdict in lost))
    return (
        f"It is stuck: {_count(len(lost), 'Firework')} in hand of a worker that is gone "
        f"({reasons}); go on with: voltscreen campaign resume {name}"
    )


def _rests(campaign: CampaignDocument, states: Counter[Any], is_open: bool) -> str:
    name = campaign.id
    if states["READY"]:
        return (
            f"It waits: {_count(states['READY'], 'Firework')} ready and no worker works them; "
            f"start one with: voltscreen campaign run {name}"
        )
    if states["FIZZLED"] and campaign.state is not CampaignState.DONE:
        why = f", the last time because {campaign.errors[-1]['reason']}" if campaign.errors else ""
        return (
            f"It is stuck: {_count(states['FIZZLED'], 'Firework')} failed{why}; "
            f"once that is mended: voltscreen campaign resume {name}"
        )
    if is_open:
        return (
            "It is stuck: what is open waits for something that is done, because a process died "
            "in between; mend it with: voltscreen doctor --repair"
        )
    if campaign.state is CampaignState.DONE:
        return "It is done."
    return (
        "It is stuck: it has no Fireworks, because its submit was cut off; go on with: "
        f"voltscreen campaign resume {name}"
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun} is" if number == 1 else f"{number} {noun}s are"
