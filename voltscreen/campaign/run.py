"""Work a campaign on this machine: worker processes, and somebody who watches."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from voltscreen.campaign.control import open_fireworks
from voltscreen.campaign.launchpad import open_launchpad
from voltscreen.campaign.status import CampaignStatus, campaign_status
from voltscreen.store import Store

POLL_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class RunEnd:
    """How a run ended. open: Fireworks that are not finished; worker_output: last lines of the
    workers that ended with an error.
    """

    status: CampaignStatus
    open: int
    worker_output: str


def run_campaign(
    store: Store, name: str, workers: int, progress: Callable[[CampaignStatus], None]
) -> RunEnd:
    """Start so many worker processes for a campaign and wait for them.

    Interrupting it (Ctrl-C) lets every worker finish the batch in hand.

    Args:
        progress: called a few times a second.
    """
    command = [sys.executable, "-m", "voltscreen", "worker", "--campaign", name, "--quiet"]
    processes = [
        subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(workers)
    ]  # fmt: skip
    try:
        while any(process.poll() is None for process in processes):
            progress(campaign_status(store, name))
            time.sleep(POLL_SECONDS)
    finally:
        for process in processes:
            # Ctrl-C has reached the workers too; one that is left behind would work on unseen.
            if process.poll() is None:
                process.terminate()
        output = [process.communicate()[1] for process in processes]
    status = campaign_status(store, name)
    progress(status)
    with contextlib.closing(open_launchpad()) as launchpad:
        left = len(open_fireworks(launchpad, name))
    failed = "\n".join(
        text.strip() for text, process in zip(output, processes, strict=True) if process.returncode
    )
    return RunEnd(status, left, "\n".join(failed.splitlines()[-5:]))
