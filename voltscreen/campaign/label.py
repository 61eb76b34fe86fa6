"""Labels of a potential as Fireworks: batches of a folder, worked wherever a worker runs.

The folder must lie where every worker sees it. It holds the jobs, and the labels of each finished
batch: what has a file is not done again, whoever made it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fireworks import Firework, Workflow

from voltscreen.potentials.job_table import FILE_NAME, read_jobs, write_jobs
from voltscreen.potentials.label_table import LabelKind
from voltscreen.potentials.labelling import LabelFolder, label_batch, read_manifest

if TYPE_CHECKING:
    from voltscreen.campaign.launchpad import VoltscreenLaunchPad
    from voltscreen.potentials.chgnet import ChgnetPotential
    from voltscreen.potentials.jobs import Job

BATCHES_PER_FIREWORK = 8
"""Minutes of one core: a Firework costs seconds."""
LIVING_STATES = ("WAITING", "READY", "RESERVED", "RUNNING", "PAUSED")


def submit_labels(
    launchpad: VoltscreenLaunchPad, folder: LabelFolder, jobs: Sequence[Job]
) -> list[int]:
    """Fireworks for the batches that have neither labels nor a Firework; those batches.

    They carry the name `labels:FOLDER` where those of a campaign carry its name.
    """
    path = folder.path.resolve()
    if not (path / FILE_NAME).exists():
        write_jobs(jobs, path / FILE_NAME)
    living = launchpad.fireworks.find(
        {"spec.labels": str(path), "state": {"$in": LIVING_STATES}}, {"spec.batches": 1}
    )
    taken = {batch for row in living for batch in row["spec"]["batches"]}
    batches = [batch for batch in folder.open_batches() if batch not in taken]
    if batches:
        launchpad.add_wf(_workflow(path, batches))
    return batches


def _workflow(path: Path, batches: Sequence[int]) -> Workflow:
    from voltscreen.campaign.firetasks import LabelTask

    name = f"labels:{path.name}"
    fireworks = [
        Firework(
            [LabelTask()],
            spec={
                "campaign": name,
                "labels": str(path),
                "batches": list(batches[start : start + BATCHES_PER_FIREWORK]),
            },
            name=f"{name} {batches[start]:06d}",
        )
        for start in range(0, len(batches), BATCHES_PER_FIREWORK)
    ]
    return Workflow(fireworks, name=name)


def work_labels(path: Path, batches: Sequence[int], potential: ChgnetPotential) -> None:
    """Label those of the batches that have no file."""
    manifest = read_manifest(path)
    folder = LabelFolder(path, manifest)
    jobs = read_jobs(path / FILE_NAME, LabelKind(manifest.kind))
    for batch in batches:
        if not folder.part(batch).exists():
            label_batch(potential, jobs, folder, batch)
