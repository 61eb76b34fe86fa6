"""What second looks found, as a table under a ranking or in a dossier."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from voltscreen.cli.output import number, print_table, say

if TYPE_CHECKING:
    from voltscreen.store.result_query import SecondLook

FRAMEWORK = {True: "kept", False: "lost", None: ""}


def print_second_looks(looks: Sequence[tuple[object, str, SecondLook]]) -> None:
    """Energies, volume changes and stabilities; nothing where there are none.

    Args:
        looks: rank or ion, the candidate's name, and what was found.
    """
    if not looks:
        return
    print_table(
        [("", "right"), "Second look", ("Energies (V)", "right"), ("Ions", "right"),
         ("Volume %", "right"), "Frame", ("Host (eV)", "right"), ("Filled (eV)", "right"),
         "Oxygen"],
        [
            [
                place,
                name,
                number(look.potential_voltage),
                "" if look.ions_inserted is None else f"{look.ions_inserted:.3g}",
                percent(look.volume_change),
                FRAMEWORK[look.framework_kept],
                number(look.above_hull_host, 3),
                number(look.above_hull_discharged, 3),
                "released" if look.releases_oxygen else "",
            ]
            for place, name, look in looks
        ],
        title="By CHGNet: voltage by energies, volume change, eV/atom above the hull",
    )  # fmt: skip
    unknown = sum(look.stability_unknown is not None for _, _, look in looks)
    if unknown:
        say(f"{unknown} without a hull: the database holds no phases of some of their elements.")


def percent(change: float | None) -> str:
    """A relative change in percent."""
    return number(None if change is None else 100 * change, 1)
