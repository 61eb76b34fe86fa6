"""The campaign spec: what a user writes in YAML, checked key by key."""

from __future__ import annotations

import difflib
import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from voltscreen.errors import SpecError
from voltscreen.ions import ION_SYMBOLS
from voltscreen.screening.choice import RefineSpec
from voltscreen.screening.ranking import RankSpec
from voltscreen.screening.substitution import SubstituteSpec
from voltscreen.sources import SOURCE_KINDS
from voltscreen.sources.mp import parse_query
from voltscreen.sources.parquet import ParquetRows

SPEC_VERSION: Final = 1
"""Of the format: goes up when a key is renamed, goes away, or means something else."""


class SpecPart(BaseModel):
    """A part of a spec; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _as_parquet(value: Any) -> Any:
    return {"path": value} if isinstance(value, str) else value


class SourceSpec(SpecPart):
    """Where the structures come from: one of these, or several together."""

    mp: dict[str, Any] | None = Field(
        default=None, description="filter of a Materials Project query"
    )
    files: str | list[str] | None = Field(
        default=None, description="glob pattern or list of structure files, relative to the spec"
    )
    parquet: Annotated[ParquetRows, BeforeValidator(_as_parquet)] | None = Field(
        default=None, description="Parquet file, or {path, start, limit}"
    )
    hosts: Literal["all"] | list[str] | None = Field(
        default=None, description="all, or names of known hosts"
    )

    @field_validator("mp")
    @classmethod
    def _known_filters(cls, mp: dict[str, Any] | None) -> dict[str, Any] | None:
        if mp is not None:
            try:
                parse_query(mp)
            except SpecError as error:
                raise ValueError(str(error).removeprefix("source.mp").lstrip(".: ")) from None
        return mp

    @model_validator(mode="after")
    def _at_least_one(self) -> Self:
        if not self.parts:
            raise ValueError(f"is empty, but needs at least one of {', '.join(SOURCE_KINDS)}")
        return self

    @property
    def parts(self) -> dict[str, object]:
        """By kind, what the spec holds under that key; a Parquet source as a dictionary."""
        given = {kind: getattr(self, kind) for kind in SOURCE_KINDS}
        return {
            kind: value.model_dump(mode="json", exclude_none=True)
            if isinstance(value, ParquetRows)
            else value
            for kind, value in given.items()
            if value is not None
        }

    def absolute(self, base: Path) -> SourceSpec:
        """The same sources with every path made absolute."""
        changed: dict[str, object] = {}
        if self.files is not None:
            patterns = [self.files] if isinstance(self.files, str) else self.files
            changed["files"] = [str(base / pattern) for pattern in patterns]
        if self.parquet is not None:
            path = base / self.parquet.path
            changed["parquet"] = self.parquet.model_copy(update={"path": path})
        return self.model_copy(update=changed)


class BatchSpec(SpecPart):
    """How structures are cut into batches, one Firework each."""

    max_atoms: int = Field(
        default=100_000, ge=100, le=10_000_000, description="atoms in a batch, over all its cells"
    )


class CampaignSpec(SpecPart):
    """A screening campaign."""

    version: Literal[1] = Field(
        default=SPEC_VERSION, description="of the spec's format; 1 is the first"
    )
    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$",
        description="name of the campaign: letters, digits, '.', '_' and '-'",
    )
    ions: tuple[str, ...] = Field(min_length=1, description="working ions to rank for")
    source: SourceSpec
    model: str = Field(default="default", min_length=1, description="name, id or file of a model")
    batch: BatchSpec = Field(default_factory=BatchSpec)
    rank: RankSpec = Field(default_factory=RankSpec)
    refine: RefineSpec | None = Field(
        default=None, description="a second look at the shortlist, by a universal potential"
    )
    substitute: SubstituteSpec | None = Field(
        default=None, description="element substitutions in the best candidates"
    )

    @field_validator("ions")
    @classmethod
    def _known_ions(cls, ions: tuple[str, ...]) -> tuple[str, ...]:
        unknown = [ion for ion in ions if ion not in ION_SYMBOLS]
        if unknown:
            raise ValueError(
                f"unknown working ion {', '.join(unknown)}; choose from {', '.join(ION_SYMBOLS)}"
            )
        return tuple(dict.fromkeys(ions))

    def canonical(self) -> dict[str, Any]:
        """The spec as plain values that YAML, JSON and MongoDB hold alike."""
        plain: dict[str, Any] = self.model_dump(mode="json", exclude_none=True)
        # None means all candidates there, and is not the default.
        plain["rank"]["top"] = self.rank.top
        return plain

    @property
    def hash(self) -> str:
        """Equal for specs that ask for the same."""
        asked = {key: value for key, value in self.canonical().items() if key != "version"}
        text = json.dumps(asked, sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def parse_spec(content: Any, origin: str = "the spec") -> CampaignSpec:
    """A spec from plain values.

    Args:
        content: what the YAML holds.
        origin: how to call it in an error.

    Raises:
        SpecError: names the key's path and what is allowed there; or a newer version's spec.
    """
    if not isinstance(content, dict):
        raise SpecError(f"{origin} is not a campaign spec: it must hold keys such as name, source")
    version = content.get("version")
    if isinstance(version, int) and version > SPEC_VERSION:
        # Before its keys: those that are not known here may be that version's.
        raise SpecError(
            f"{origin} is of version {version}, and this voltscreen reads version {SPEC_VERSION}: "
            "use a newer voltscreen"
        )
    try:
        return CampaignSpec.model_validate(content)
    except ValidationError as error:
        raise SpecError(f"{origin}: {explain(error, CampaignSpec)}") from None


def load_spec(path: Path) -> CampaignSpec:
    """The spec of a YAML file, its paths made absolute (they are relative to the file).

    Raises:
        SpecError: no such file, not YAML, or a wrong key or value.
    """
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SpecError(f"cannot read the spec {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SpecError(f"{path} is not a text file in UTF-8") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "not YAML"
        raise SpecError(f"{path}{where}: {problem}; the spec must be YAML") from None
    spec = parse_spec(content, str(path))
    return spec.model_copy(update={"source": spec.source.absolute(path.parent.absolute())})


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """The first problem of a spec in one sentence, with the key's path."""
    problem = error.errors(include_url=False)[0]
    keys = [str(part) for part in problem["loc"] if not _is_branch(part)]
    if problem["type"] == "extra_forbidden" and _is_branch(problem["loc"][-1]):
        keys.append(str(problem["loc"][-1]))  # a key of the user's that looks like a branch
    path = ".".join(keys) or "the spec"
    if problem["type"] == "extra_forbidden":
        allowed = list(_fields(model, keys[:-1]))
        close = difflib.get_close_matches(keys[-1], allowed, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        return f"unknown key {path!r}: {hint}allowed: {', '.join(allowed)}"
    if problem["type"] == "missing":
        return f"{path!r} is missing"
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "value_error" or isinstance(problem["input"], dict):
        return f"{path!r}: {message}"
    description = _description(model, keys)
    meaning = f" ({description})" if description else ""
    return f"{path!r}: {message}, got {problem['input']!r}{meaning}"


def _is_branch(part: str | int) -> bool:
    """Whether pydantic put in the name of a union's branch, which is no key of the user's."""
    text = str(part)
    return "[" in text or text in {"str", "ParquetRows"}


def _fields(model: type[BaseModel], keys: list[str]) -> dict[str, Any]:
    """Fields of the model that a path of keys leads to; empty when it leads to none."""
    current: type[BaseModel] | None = model
    for key in keys:
        if current is None or key not in current.model_fields:
            return {}
        current = _model_in(current.model_fields[key].annotation)
    return dict(current.model_fields) if current is not None else {}


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    found = (_model_in(part) for part in get_args(annotation))
    return next((model for model in found if model is not None), None)


def _description(model: type[BaseModel], keys: list[str]) -> str | None:
    field = _fields(model, keys[:-1]).get(keys[-1]) if keys else None
    return field.description if field is not None else None
