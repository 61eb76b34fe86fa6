"""Submit an array of workers: never more than there is work, and never more than the cap."""

from __future__ import annotations

import getpass
import hashlib
import re
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from voltscreen.cluster.commands import SlurmError, ask
from voltscreen.cluster.queue import QueuedJob, cluster_name, max_array_size, read_queue
from voltscreen.cluster.script import Array, job_folder, log_pattern, render
from voltscreen.cluster.site import Site
from voltscreen.settings import settings
from voltscreen.store import Store
from voltscreen.store.documents import JobArrayDocument
from voltscreen.store.lease import lease


@dataclass(frozen=True, slots=True)
class Submitted:
    """What became of a submit.

    ready: batches that were; queued: jobs that wait or run already; cap: most jobs at a time;
    released: of the queued ones, those that SLURM had held after a failed launch; jobs: newly
    submitted; array: SLURM's number; script: its path.
    """

    ready: int
    queued: int
    cap: int
    released: tuple[QueuedJob, ...] = ()
    jobs: int = 0
    array: str | None = None
    script: Path | None = None

    @property
    def message(self) -> str:
        """One sentence, and a line for each job that was released."""
        lines = [f"Released {job.name}, which SLURM held: {job.reason}." for job in self.released]
        return "\n".join([*lines, self._sentence])

    @property
    def has_news(self) -> bool:
        """Whether it did something."""
        return bool(self.jobs or self.released)

    @property
    def _sentence(self) -> str:
        if self.jobs:
            return (
                f"Submitted array {self.array} of {self.jobs} jobs for {self.ready} ready batches "
                f"({self.queued} jobs were queued, cap {self.cap}); script {self.script}"
            )
        if not self.ready:
            return f"No batch is ready: nothing is submitted ({self.queued} jobs are queued)."
        return (
            f"Nothing is submitted: {self.queued} jobs are queued for {self.ready} ready batches, "
            f"cap {self.cap}."
        )


def campaign_array(site: Site, campaign: str, size: int) -> Array:
    """The array for a campaign of the settings' database."""
    return Array(
        name=f"vs-{campaign}",
        comment=_comment(campaign),
        size=size,
        worker=("worker", "--campaign", campaign),
        spool=job_folder(site) / "spool",
    )


def submit_array(
    store: Store, site: Site, campaign: str, cap: int, ready: Callable[[], int]
) -> Submitted:
    """Submit one array of what is missing; processes that call it at once do so in turn.

    Args:
        cap: most jobs at a time, waiting ones included.
        ready: counts the batches that are ready.

    Raises:
        SlurmError: SLURM is not here, or refuses; with sbatch's own words and the script's path.
    """
    with lease(store, f"slurm submit {campaign}"):
        jobs = queued_jobs(store, campaign)
        released = _release(jobs)
        count = ready()
        wanted = min(-(-count // site.workers), cap) - len(jobs)
        before = Submitted(count, len(jobs), cap, released)
        if wanted <= 0:
            return before
        array = campaign_array(site, campaign, min(wanted, max_array_size()))
        script = _write_script(site, array)
        number = _sbatch(script)
        document = JobArrayDocument(
            id=f"{cluster_name()}:{number}",
            campaign=campaign,
            number=number,
            size=array.size,
            user=getpass.getuser(),
            script=str(script),
            log=log_pattern(site),
            spool=str(array.spool),
        )
        store.job_arrays.insert_one(document.to_mongo())
        return replace(before, jobs=array.size, array=number, script=script)


def queued_jobs(store: Store, campaign: str) -> list[QueuedJob]:
    """Jobs of a campaign that wait or run, as SLURM has them now."""
    known = (row["number"] for row in store.job_arrays.find({"campaign": campaign}))
    # By the comment too: a submit may have died before it noted its array.
    found = read_queue().with_comment(_comment(campaign), known)
    return [job for job in found if not job.has_ended]


def _release(jobs: Iterable[QueuedJob]) -> tuple[QueuedJob, ...]:
    """Let go those that SLURM holds: nobody else would, and they count as queued."""
    held = tuple(job for job in jobs if job.is_held_by_slurm)
    if held:
        try:
            ask("scontrol", "release", *(job.name for job in held))
        except SlurmError as error:
            names = " ".join(job.name for job in held)
            raise SlurmError(
                f"{error}\nSLURM holds jobs of the campaign ({held[0].reason}) and will not let "
                f"them go. Cancel them to submit others: scancel {names}"
            ) from None
    return held


def _comment(campaign: str) -> str:
    """Says for whom a job works; databases of the same cluster have campaigns of the same name."""
    config = settings()
    secret = config.mongo_uri.get_secret_value() if config.mongo_uri else str(config.home)
    place = hashlib.blake2b(f"{secret}/{config.database}".encode(), digest_size=6).hexdigest()
    return f"voltscreen:{place}:{campaign}"


def _write_script(site: Site, array: Array) -> Path:
    folder = job_folder(site)
    try:
        for name in ("scripts", "logs", "spool"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        path = folder / "scripts" / f"{array.name}-{uuid.uuid4().hex[:8]}.sh"
        path.write_text(render(site, array), encoding="utf-8")
    except OSError as error:
        raise SlurmError(
            f"cannot write to {folder}: {error.strerror}; set `folder` of the site profile to a "
            "folder that the nodes reach"
        ) from None
    return path


def _sbatch(script: Path) -> str:
    """Number of the array."""
    try:
        answer = ask("sbatch", "--parsable", "--export=ALL", str(script))
    except SlurmError as error:
        raise SlurmError(f"{error}\nThe script is {script}") from None
    found = re.match(r"\d+", answer.strip().splitlines()[-1] if answer.strip() else "")
    if found is None:
        raise SlurmError(f"sbatch answered {answer!r}, which names no job; the script is {script}")
    return found[0]


def task_names(arrays: Iterable[JobArrayDocument]) -> list[str]:
    """Names of all jobs that were ever submitted in these arrays."""
    return [f"{array.number}_{task}" for array in arrays for task in range(array.size)]
