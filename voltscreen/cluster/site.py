"""Site profiles: how a cluster wants its jobs, in a YAML file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
)

from voltscreen.errors import SpecError

_TIME = re.compile(r"^(?:(\d+)-)?(\d{1,2}):(\d{2}):(\d{2})$")


def wall_seconds(time: str) -> int:
    """Seconds of a wall time such as 04:00:00 or 1-00:00:00.

    Raises:
        ValueError: not of that form.
    """
    found = _TIME.match(time)
    if found is None:
        raise ValueError("must be HH:MM:SS or D-HH:MM:SS, in quotes")
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def _checked_time(value: str) -> str:
    if wall_seconds(value) < 60:
        raise ValueError("must be a minute at least")
    return value


def _one_line(value: str) -> str:
    if "\n" in value:
        raise ValueError("must be one line")
    return value


Line = Annotated[str, AfterValidator(_one_line)]
Number = Annotated[str, BeforeValidator(lambda v: str(v) if isinstance(v, int) else v)]


class Site(BaseModel):
    """How a cluster wants its jobs; one job is one task of a job array, on one node."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    partition: Line | None = Field(
        default=None, description="partition (queue); SLURM's default partition when empty"
    )
    account: Line | None = Field(default=None, description="account that pays for the jobs")
    qos: Line | None = Field(default=None, description="quality of service")
    gpus: Number = Field(
        default="0",
        pattern=r"^([A-Za-z][\w.-]*:)?\d+$",
        description="GPUs of a job: a number, or a kind and a number such as a100:1",
    )
    cpus: int = Field(default=4, ge=1, description="CPU cores of a job")
    memory: str = Field(
        default="8G", pattern=r"^\d+[KMGT]?$", description="memory of a job, such as 16G"
    )
    wall_time: Annotated[str, AfterValidator(_checked_time)] = Field(
        default="01:00:00", description="longest time of a job, HH:MM:SS or D-HH:MM:SS"
    )
    signal_seconds: int = Field(
        default=120,
        ge=0,
        description="seconds before the end at which SLURM tells the workers to finish; 0: never",
    )
    constraint: Line | None = Field(default=None, description="features that a node must have")
    workers: int = Field(
        default=1, ge=1, description="worker processes of a job; each sees one GPU, in turn"
    )
    max_jobs: int = Field(default=10, ge=1, description="jobs at a time, waiting ones included")
    modules: list[Line] = Field(default=[], description="environment modules to load")
    setup: list[Line] = Field(
        default=[], description="shell lines before the workers start, such as activating Python"
    )
    environment: dict[str, Line] = Field(
        default={}, description="environment variables of the workers"
    )
    python: Line | None = Field(
        default=None,
        description="Python that has voltscreen, on the nodes; the one that submits when empty",
    )
    folder: Path = Field(
        default=Path("voltscreen-jobs"),
        description="folder for scripts, logs and spool files, which nodes must reach; relative to "
        "the folder that one submits from",
    )
    options: list[Line] = Field(
        default=[], description="further options of sbatch, such as --reservation=monday"
    )

    @property
    def wall_seconds(self) -> int:
        """The wall time in seconds."""
        return wall_seconds(self.wall_time)


def load_site(path: Path) -> Site:
    """The site profile of a YAML file.

    Raises:
        SpecError: no such file, not YAML, or a wrong key or value.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SpecError(
            f"cannot read the site profile {path}: {error.strerror} "
            "(voltscreen init copies examples)"
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError):
        raise SpecError(f"{path} is not YAML") from None
    if not isinstance(content, dict):
        raise SpecError(f"{path} is not a site profile: it must hold keys such as partition")
    try:
        return Site.model_validate(content)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            allowed = ", ".join(Site.model_fields)
            raise SpecError(f"{path}: unknown key {key!r}; allowed: {allowed}") from None
        message = problem["msg"].removeprefix("Value error, ")
        about = Site.model_fields[str(problem["loc"][0])].description
        raise SpecError(f"{path}: {key!r} ({about}): {message}") from None


def described(site: type[Site] = Site) -> str:
    """Every key of a site profile with its meaning and default, as YAML to uncomment."""
    lines = ["# A site profile: how your cluster wants its jobs. Uncomment what you change."]
    for name, field in site.model_fields.items():
        default = field.get_default(call_default_factory=True)
        shown = "" if default is None else default
        if isinstance(default, str):
            shown = f'"{default}"'
        lines += ["", f"# {field.description}", f"# {name}: {shown}".rstrip()]
    return "\n".join(lines) + "\n"
