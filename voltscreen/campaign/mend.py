"""What a process that died between two writes leaves in FireWorks' collections, and its repair.

FireWorks keeps the state of a Firework twice (in `fireworks` and in its workflow) and has no
transactions; a kill between the two writes leaves them apart, and a child waits for ever.
"""

from __future__ import annotations

import time
from typing import Any

from voltscreen.campaign.launchpad import VoltscreenLaunchPad

LOCK_SECONDS = 15.0
"""A lock that is held so long, over a workflow that does not change, is a dead process's. Living
ones hold it for a few writes."""

Row = dict[str, Any]


def workflows(launchpad: VoltscreenLaunchPad, name: str) -> list[Row]:
    """The workflows of a campaign, the oldest first."""
    wanted = {"metadata.voltscreen_campaign": name}
    return list(launchpad.workflows.find(wanted).sort("nodes", 1))


def free_locks(launchpad: VoltscreenLaunchPad, name: str, *, alone: bool) -> None:
    """Free the locks that dead processes left.

    Args:
        alone: no worker of the campaign lives, so that every lock is a dead one's.
    """
    locked: Row = {"metadata.voltscreen_campaign": name, "locked": {"$exists": True}}
    for workflow in launchpad.workflows.find(locked, {"updated_on": 1}):
        same = {"_id": workflow["_id"], "updated_on": workflow["updated_on"], **locked}
        deadline = time.monotonic() + (0.0 if alone else LOCK_SECONDS)
        while launchpad.workflows.find_one(same, {"_id": 1}) is not None:
            if time.monotonic() >= deadline:
                launchpad.workflows.update_one(same, {"$unset": {"locked": True}})
                break
            time.sleep(0.05)


def drop_halves(launchpad: VoltscreenLaunchPad, name: str) -> None:
    """Delete Fireworks that no workflow names, and workflows that lack some of theirs.

    Must not be called while a living process plans: it is about to write the other half.
    """
    named: set[int] = set()
    there = {
        row["fw_id"] for row in launchpad.fireworks.find({"spec.campaign": name}, {"fw_id": 1})
    }
    for workflow in workflows(launchpad, name):
        if not there.issuperset(workflow["nodes"]):
            launchpad.workflows.delete_one({"_id": workflow["_id"]})
        else:
            named.update(workflow["nodes"])
    orphans = sorted(there - named)
    for start in range(0, len(orphans), 100):
        launchpad.fireworks.delete_many({"fw_id": {"$in": orphans[start : start + 100]}})


def agree(launchpad: VoltscreenLaunchPad, name: str) -> None:
    """Bring the states that the workflows hold in line with their Fireworks, and wake children."""
    for workflow in workflows(launchpad, name):
        first = workflow["nodes"][0]
        with launchpad.locked(first):
            states = {
                row["fw_id"]: row["state"]
                for row in launchpad.fireworks.find(
                    {"spec.campaign": name}, {"fw_id": 1, "state": 1}
                )
            }
            if not states.keys() >= set(workflow["nodes"]):
                continue  # a living process is writing it
            actual = {str(node): states[node] for node in workflow["nodes"]}
            launchpad.workflows.update_one(
                {"_id": workflow["_id"]}, {"$set": {"fw_states": actual}}
            )
            wf = launchpad.get_wf_by_fw_id_lzyfw(first)
            changed: set[int] = set()
            for node, state in actual.items():
                if state == "WAITING":
                    changed |= set(wf.refresh(int(node)))
            launchpad._update_wf(wf, sorted(changed))  # noqa: SLF001  # our own subclass overrides it
