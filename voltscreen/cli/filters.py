"""Filters of the Materials Project as a user types them: NAME=VALUE."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from voltscreen.errors import SpecError


def parse_filters(texts: Sequence[str]) -> dict[str, Any]:
    """What a spec would hold: `elements=O,Mn` a list, `num_sites=1,100` a range, `=,0.05` open.

    Raises:
        SpecError: one has no `=`, or stands twice.
    """
    filters: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise SpecError(f"{text!r} is no filter: write NAME=VALUE, such as elements=O")
        if name in filters:
            raise SpecError(f"the filter {name} is given twice: write {name}=A,B")
        filters[name] = _value(name, value)
    return filters


def _value(name: str, text: str) -> Any:
    import yaml

    from voltscreen.sources.mp.query import LISTS, ONE_BY_ONE

    parts = [part.strip() for part in text.strip("[] ").split(",")]
    # `No` is an element here, and false in YAML.
    if name in LISTS or (name in ONE_BY_ONE and name != "spacegroup_number"):
        return parts
    try:
        values = [yaml.safe_load(part) for part in parts]
    except yaml.YAMLError:
        raise SpecError(f"{name}={text}: not a value") from None
    return values[0] if len(values) == 1 else values
