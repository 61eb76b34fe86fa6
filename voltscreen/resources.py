"""Files that come with voltscreen and are not code: campaign specs, site profiles, scripts."""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable


def bundled(folder: str) -> Traversable:
    """A folder such as `workflows`: of the checkout, or packed into the installed package."""
    package = resources.files("voltscreen")
    packed = package / "_data" / folder
    return packed if packed.is_dir() else package.joinpath("..", folder)
