"""Work a campaign on this machine: worker processes, and somebody who watches."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass

from voltscreen.campaign.control import open_fireworks
from voltscreen.campaign.launchpad import open_launchpad
from voltscreen.campaign.status import CampaignStatus, campaign_status
from voltscreen.campaign.worker import WorkerEnd
from voltscreen.store import Store

POLL_SECONDS = 0.3
LAST_LINES = 5


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
    with contextlib.ExitStack() as stack:
        # Files, not pipes: a worker that writes much must not wait for a reader.
        logs = [stack.enter_context(tempfile.TemporaryFile("w+")) for _ in range(workers)]
        processes = [
            subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log
            )
            for log in logs
        ]
        try:
            while any(process.poll() is None for process in processes):
                progress(campaign_status(store, name))
                time.sleep(POLL_SECONDS)
        finally:
            for process in processes:
                # Ctrl-C has reached the workers too; one left behind would work on unseen.
                if process.poll() is None:
                    process.terminate()
            for process in processes:
                process.wait()
        lines = []
        for log, process in zip(logs, processes, strict=True):
            # Those above say why a worker left in good order.
            if process.returncode and process.returncode < WorkerEnd.OUT_OF_TIME:
                log.seek(0)
                lines += log.read().strip().splitlines()[-LAST_LINES:]
    status = campaign_status(store, name)
    progress(status)
    with contextlib.closing(open_launchpad()) as launchpad:
        left = len(open_fireworks(launchpad, name))
    return RunEnd(status, left, "\n".join(lines))
