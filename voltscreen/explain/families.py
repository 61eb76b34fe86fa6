"""Families of elements, as the figures colour them and the paper groups them."""

from __future__ import annotations

from functools import cache

FAMILIES: dict[str, str] = {
    "alkali": "#D55E00",
    "alkaline earth": "#E69F00",
    "early transition metal": "#0072B2",
    "late transition metal": "#56B4E9",
    "f-block": "#999999",
    "main group": "#009E73",
}
"""Colours that the colour-blind can tell apart (Okabe and Ito)."""


@cache
def family_of(symbol: str) -> str:
    """Early transition metals are groups 3 to 7; the main group is the p-block with hydrogen."""
    from pymatgen.core import Element

    element = Element(symbol)
    if element.is_alkali:
        return "alkali"
    if element.is_alkaline:
        return "alkaline earth"
    if element.is_lanthanoid or element.is_actinoid:
        return "f-block"
    if 3 <= element.group <= 12:
        return "early transition metal" if element.group <= 7 else "late transition metal"
    return "main group"
