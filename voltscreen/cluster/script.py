"""The batch script of an array of workers."""

from __future__ import annotations

import shlex
import string
import sys
from dataclasses import dataclass
from pathlib import Path

from voltscreen.cluster.site import Site
from voltscreen.resources import bundled
from voltscreen.settings import ENV_PREFIX, Settings, settings


class _Template(string.Template):
    """Bash has its own dollars."""

    delimiter = "%%"


@dataclass(frozen=True, slots=True)
class Array:
    """An array of jobs to submit.

    name: of the jobs; comment: which work they are for, so that they can be counted; size: number
    of jobs; worker: arguments of `voltscreen`, such as worker --campaign NAME; spool: folder for
    the results of workers that cannot reach MongoDB.
    """

    name: str
    comment: str
    size: int
    worker: tuple[str, ...]
    spool: Path


def job_folder(site: Site) -> Path:
    """The folder of scripts, logs and spool files."""
    return site.folder.expanduser().absolute()


def log_pattern(site: Site) -> str:
    """Where the logs go; %A is the array's number and %a that of the task."""
    return str(job_folder(site) / "logs" / "%A_%a.log")


def render(site: Site, array: Array, config: Settings | None = None) -> str:
    """The batch script. It holds no password: those travel with the environment, or in the
    settings file of the voltscreen home.
    """
    config = config or settings()
    python = site.python or sys.executable
    command = " ".join(shlex.quote(part) for part in (python, "-m", "voltscreen", *array.worker))
    variables = {
        ENV_PREFIX + "HOME": str(config.home),
        ENV_PREFIX + "DATABASE": config.database,
        ENV_PREFIX + "SPOOL": str(array.spool),
        ENV_PREFIX + "THREADS": str(max(site.cpus // site.workers, 1)),
        **site.environment,
    }
    modules = [f"module load {shlex.quote(name)}" for name in site.modules]
    return _Template(bundled("slurm").joinpath("batch_script.sh").read_text("utf-8")).substitute(
        directives="\n".join(f"#SBATCH {line}" for line in _directives(site, array)),
        setup="\n".join([*modules, *site.setup]),
        environment="\n".join(
            f"export {name}={shlex.quote(value)}" for name, value in variables.items()
        ),
        wall_seconds=site.wall_seconds,
        workers=site.workers,
        command=command,
    )


def _directives(site: Site, array: Array) -> list[str]:
    given = {
        "partition": site.partition,
        "account": site.account,
        "qos": site.qos,
        "constraint": site.constraint,
        "gres": None if site.gpus == "0" else f"gpu:{site.gpus}",
        "signal": f"B:USR1@{site.signal_seconds}" if site.signal_seconds else None,
    }
    return [
        f"--job-name={array.name}",
        f"--array=0-{array.size - 1}",
        f"--comment={shlex.quote(array.comment)}",
        *(f"--{key}={shlex.quote(value)}" for key, value in given.items() if value),
        "--nodes=1",
        "--ntasks=1",
        f"--cpus-per-task={site.cpus}",
        f"--mem={site.memory}",
        f"--time={site.wall_time}",
        f"--output={log_pattern(site)}",
        # A requeued job goes on in the same log.
        "--open-mode=append",
        "--requeue",
        *site.options,
    ]
