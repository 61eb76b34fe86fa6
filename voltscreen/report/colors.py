"""Colours of voltages: one scale for the page, files and the 3-D view."""

from __future__ import annotations

from collections.abc import Iterable

_STOPS = ((49, 54, 149), (69, 117, 180), (116, 173, 209), (224, 220, 190), (253, 174, 97),
          (226, 98, 55), (165, 0, 38))  # fmt: skip
"""From low to high; after ColorBrewer's RdYlBu, its middle darkened to be seen on white."""


def voltage_color(value: float, low: float, high: float) -> str:
    """#rrggbb of a voltage on the scale from low to high, V; beyond them the ends."""
    place = 0.5 if high <= low else min(max((value - low) / (high - low), 0.0), 1.0)
    place *= len(_STOPS) - 1
    index = min(int(place), len(_STOPS) - 2)
    share = place - index
    mixed = (
        round(a + (b - a) * share) for a, b in zip(_STOPS[index], _STOPS[index + 1], strict=True)
    )
    return "#{:02x}{:02x}{:02x}".format(*mixed)


def text_color(color: str) -> str:
    """Black or white, whichever is read better on the colour (WCAG's relative luminance)."""
    channels = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "#111111" if luminance > 0.18 else "#ffffff"


def scale_of(values: Iterable[float]) -> tuple[float, float]:
    """Ends of a colour scale, V: the values' own, at least half a volt apart."""
    known = list(values)
    if not known:
        return 0.0, 1.0
    low, high = min(known), max(known)
    short = max(0.5 - (high - low), 0.0) / 2
    return low - short, high + short
