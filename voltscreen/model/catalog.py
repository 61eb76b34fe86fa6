"""Which models there are, where their files lie and what their cards say; without torch."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

from pydantic import ValidationError
from safetensors import SafetensorError, safe_open

from voltscreen.errors import ModelError
from voltscreen.model.card import ModelCard
from voltscreen.settings import settings

FORMAT = "voltscreen-model-3"
"""Of model files; another one is refused before anything of it is used."""
SUFFIX = ".safetensors"
NAME_PATTERN = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,60}$")


def read_card(name_or_path: str) -> tuple[str, ModelCard]:
    """Id and card of a model, without building the network."""
    path = model_path(name_or_path)
    try:
        with safe_open(path, framework="numpy") as file:
            header = file.metadata() or {}
        refuse_other_format(header, str(path))
        return header["id"], named(ModelCard.model_validate_json(header["card"]), path)
    except (OSError, SafetensorError, KeyError, ValidationError) as error:
        raise ModelError(f"{path} is not a voltscreen model or is damaged: {error}") from None


def refuse_other_format(header: dict[str, str], origin: str) -> None:
    """Raise for a model file of an older or newer voltscreen.

    Raises:
        ModelError: names both formats.
    """
    found = header.get("format", "none")
    if found != FORMAT:
        raise ModelError(
            f"{origin} is not a model of this version of voltscreen (format {found!r}, expected "
            f"{FORMAT!r}): use the voltscreen that made it, or train or import it anew"
        )


def named(card: ModelCard, path: Path) -> ModelCard:
    """The card of a model's file: a file that was renamed is known by its new name."""
    return card.model_copy(update={"name": path.stem})


def model_path(name_or_path: str) -> Path:
    """The file of a model: a path, a user's model or a shipped one, in this order.

    Raises:
        ModelError: there is none; lists those there are.
    """
    if name_or_path.endswith(SUFFIX):
        path = Path(name_or_path).expanduser()
        if path.exists():
            return path
        raise ModelError(f"there is no model file {path}")
    known = available_models()
    if name_or_path not in known:
        raise ModelError(
            f"there is no model {name_or_path!r}: choose from {', '.join(known)}, "
            "give a .safetensors file, or import one with `voltscreen model import`"
        )
    return known[name_or_path]


def available_models() -> dict[str, Path]:
    """Files of the shipped and the user's models by name."""
    with resources.as_file(resources.files("voltscreen.model") / "shipped") as shipped:
        folders = (shipped, user_models())
    return {path.stem: path for folder in folders for path in sorted(folder.glob(f"*{SUFFIX}"))}


def user_models() -> Path:
    """Where imported and trained models are kept."""
    return settings().home / "models"


def user_model_path(name: str) -> Path:
    """The file of a user's model of that name.

    Raises:
        ModelError: not a name that can be a file's.
    """
    if not NAME_PATTERN.match(name):
        raise ModelError(
            f"{name!r} cannot be a model's name: use letters, digits, dot, dash and underscore"
        )
    return user_models() / f"{name}{SUFFIX}"
