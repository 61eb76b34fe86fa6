"""SLURM's own commands: `sbatch`, `squeue`, `sacct`, `scontrol`, `sinfo`."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence

from voltscreen.errors import ServiceError

TIMEOUT = 60.0
"""Seconds; a busy controller answers late, a dead one never."""


class SlurmError(ServiceError):
    """SLURM is not installed here, does not answer, or refuses."""


def slurm_is_here() -> bool:
    """Whether SLURM's commands are on the PATH."""
    return shutil.which("squeue") is not None


def ask(*command: str, timeout: float | None = None) -> str:
    """Standard output of a SLURM command.

    Args:
        timeout: seconds; `TIMEOUT` when None.

    Raises:
        SlurmError: not installed, no answer in time, or an error, in SLURM's own words.
    """
    seconds = timeout or TIMEOUT
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
            stdin=subprocess.DEVNULL,
        )
    except FileNotFoundError:
        raise SlurmError(
            f"{command[0]} is not on the PATH: run this on a machine that submits to SLURM"
        ) from None
    except subprocess.TimeoutExpired:
        raise SlurmError(
            f"{command[0]} did not answer within {seconds:g} s: is slurmctld up? (scontrol ping)"
        ) from None
    if done.returncode:
        said = (done.stderr or done.stdout).strip() or f"exit code {done.returncode}"
        raise SlurmError(f"{command[0]}: {said}")
    return done.stdout


def table(fields: Sequence[str], *command: str) -> list[dict[str, str]]:
    """Rows of `squeue` or `sinfo` in their --Format (-O) by field."""
    form = ",".join(f"{field}:|" for field in fields)
    rows = []
    for line in ask(*command, f"--Format={form}").splitlines():
        # A comment may hold anything, the separator too: it goes last and keeps the rest.
        values = line.split("|", len(fields) - 1)
        if len(values) == len(fields):
            values[-1] = values[-1].removesuffix("|")
            rows.append(dict(zip(fields, (value.strip() for value in values), strict=True)))
    return rows
