"""The options that filter, sort and page ranked candidates: one list for every command."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from voltscreen.store import ResultQuery

_Number = float | None
_Whole = int | None
_Words = list[str] | None


def _option(name: str, text: str) -> Any:
    return typer.Option(f"--{name}", help=text)


OPTIONS: dict[str, tuple[Any, Any]] = {
    "min_voltage": (Annotated[_Number, _option("min-voltage", "V")], None),
    "max_voltage": (Annotated[_Number, _option("max-voltage", "V")], None),
    "max_interval_width": (
        Annotated[_Number, _option("max-interval-width", "Widest 90 % interval, V.")], None,
    ),
    "max_out_of_domain": (
        Annotated[_Number, _option("max-out-of-domain", "Percentile, 0 to 100.")], None,
    ),
    "min_capacity": (Annotated[_Number, _option("min-capacity", "mAh/g")], None),
    "max_capacity": (Annotated[_Number, _option("max-capacity", "mAh/g")], None),
    "min_energy_density": (Annotated[_Number, _option("min-energy-density", "Wh/kg")], None),
    "max_energy_density": (Annotated[_Number, _option("max-energy-density", "Wh/kg")], None),
    "max_energy_above_hull": (
        Annotated[
            _Number, _option("max-energy-above-hull", "eV/atom, where the source has it.")
        ],
        None,
    ),
    "min_sites": (Annotated[_Whole, _option("min-sites", "Fewest atoms in the cell.")], None),
    "max_sites": (Annotated[_Whole, _option("max-sites", "Most atoms in the cell.")], None),
    "elements": (
        Annotated[_Words, _option("elements", "Elements that are all in it, e.g. Mn,O.")], None,
    ),
    "exclude_elements": (
        Annotated[
            _Words, _option("exclude-elements", "Elements of which none is in it, e.g. Pb,Hg.")
        ],
        None,
    ),
    "formula": (Annotated[str | None, _option("formula", "Formula, e.g. MnO2.")], None),
    "chemsys": (
        Annotated[
            str | None, _option("chemsys", "These elements and no others, e.g. Mn-O.")
        ],
        None,
    ),
    "pareto": (
        Annotated[bool, _option("pareto", "Only those that no other beats in everything.")],
        False,
    ),
    "measured": (
        Annotated[bool, _option("measured", "Only those with a measured voltage.")], False,
    ),
    "known": (
        Annotated[
            bool | None,
            typer.Option(
                "--known/--new",
                help="Only those with, or without, a voltage that the Materials Project has "
                "computed.",
            ),
        ],
        None,
    ),
    "sort": (
        Annotated[
            str,
            _option(
                "sort",
                "rank, voltage, sd, interval_width, out_of_domain, capacity, energy_density, "
                "energy_above_hull, nsites, known_voltage, score or formula; a minus before it "
                "puts the largest first.",
            ),
        ],
        "rank",
    ),
    "skip": (
        Annotated[int, typer.Option("--skip", min=0, help="Leave out so many rows first.")], 0,
    ),
}  # fmt: skip
"""By parameter: annotation and default. Names and meanings are those of `ResultFilters`."""


def takes_filters(command: Callable[..., None]) -> Callable[..., None]:
    """The command with `OPTIONS` in the place of its last parameter, `filters`.

    typer reads options from a signature, so the signature is put together here once.
    """

    @functools.wraps(command)
    def call(**given: Any) -> None:
        filters = {name: given.pop(name) for name in OPTIONS}
        command(**given, filters=filters)

    own = inspect.signature(command, eval_str=True).parameters
    options = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)
        for name, (kind, default) in OPTIONS.items()
    ]
    kept = [
        each.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for name, each in own.items()
        if name != "filters"
    ]
    call.__signature__ = inspect.Signature([*kept, *options])  # type: ignore[attr-defined]
    call.__annotations__ = {each.name: each.annotation for each in (*kept, *options)}
    del call.__wrapped__
    return call


def to_query(campaign: str, ion: str, filters: dict[str, Any], top: int | None) -> ResultQuery:
    """What the options ask for.

    Raises:
        QueryError: a column that cannot be sorted by, or a value that a filter cannot have.
    """
    from voltscreen.errors import QueryError
    from voltscreen.report.database import make_query
    from voltscreen.store import SORT_KEYS

    sort = str(filters["sort"])
    if (key := sort.removeprefix("-")) not in SORT_KEYS:
        raise QueryError(f"cannot sort by {key!r}: choose from {', '.join(SORT_KEYS)}")
    words = {name: _split(filters[name]) for name in ("elements", "exclude_elements")}
    wanted = {**filters, **words, "sort": key, "descending": sort.startswith("-"), "top": top}
    return make_query(campaign, ion, wanted)


def _split(items: list[str] | None) -> tuple[str, ...]:
    return tuple(part.strip() for item in items or [] for part in item.split(",") if part.strip())
