"""Local voltages on the periodic table (the paper's Fig. 3c)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure as Drawing
from matplotlib.patches import Rectangle

from voltscreen.explain.figures import COLORS, Figure, canvas, ink, records
from voltscreen.explain.statistics import SiteStatistics
from voltscreen.structures.packed import element_symbol

LAST_ELEMENT = 103
F_BLOCK_GAP = 0.4
"""Rows between the main table and the f-block."""
_FIRST_F_COLUMN = 3


@cache
def place_of(symbol: str) -> tuple[int, int]:
    """Column 1 to 18 and row 1 to 9; rows 8 and 9 are lanthanoids and actinoids."""
    from pymatgen.core import Element

    element = Element(symbol)
    if element.is_lanthanoid:
        return _FIRST_F_COLUMN + element.Z - 57, 8
    if element.is_actinoid:
        return _FIRST_F_COLUMN + element.Z - 89, 9
    return int(element.group), int(element.row)


def periodic_table(
    name: str, statistics: Sequence[SiteStatistics], title: str, min_sites: int
) -> Figure:
    """The median local voltage of every element, coloured where it rests on enough sites.

    Args:
        title: what is shown, without the unit.
    """
    found = {one.element: one for one in statistics}
    solid = [one.median for one in statistics if one.sites >= min_sites]
    low, high = np.quantile(solid, [0.03, 0.97]) if solid else (0.0, 1.0)
    scale = ScalarMappable(Normalize(float(low), float(max(high, low + 1e-3))), COLORS)
    table = records(list(statistics)).rename(
        columns={key: f"{key}_V" for key in ("median", "q25", "q75", "mean", "lo95", "hi95")}
    )
    return Figure(
        name,
        _drawing(found, scale, title, min_sites),
        _interactive(found, scale, title, min_sites),
        table.drop(columns="oxidation_state"),
    )


def _drawing(
    found: dict[str, SiteStatistics], scale: ScalarMappable, title: str, min_sites: int
) -> Drawing:
    drawing, (axes,) = canvas(13.5, 7.6)
    for z in range(1, LAST_ELEMENT + 1):
        symbol = element_symbol(z)
        column, row = place_of(symbol)
        y = row + (F_BLOCK_GAP if row > 7 else 0)
        one = found.get(symbol)
        color = scale.to_rgba(np.array(one.median)) if one and one.sites >= min_sites else "#f2f2f2"
        axes.add_patch(
            Rectangle((column - 0.47, y - 0.47), 0.94, 0.94, facecolor=color, edgecolor="#bbbbbb",
                      linewidth=0.5)
        )  # fmt: skip
        pen = ink(color) if one else "#aaaaaa"
        axes.text(column, y - 0.17, symbol, ha="center", va="center", color=pen, fontsize=13,
                  fontweight="bold" if one and one.sites >= min_sites else "normal")  # fmt: skip
        if one:
            axes.text(column, y + 0.13, f"{one.median:.2f}", ha="center", va="center", color=pen,
                      fontsize=9)  # fmt: skip
            axes.text(column, y + 0.35, _short(one.sites), ha="center", va="center", color=pen,
                      fontsize=6.5)  # fmt: skip
    for row, text in ((6, "57–71"), (7, "89–103")):
        axes.text(3, row, text, ha="center", va="center", color="#aaaaaa", fontsize=8)
    axes.set_xlim(0.4, 18.6)
    axes.set_ylim(9.5 + F_BLOCK_GAP, 0.4)
    axes.set_aspect("equal")
    axes.axis("off")
    axes.set_title(title, fontsize=12, loc="left")
    axes.text(0.53, 9.62 + F_BLOCK_GAP, "In each tile: median (V), number of sites. Grey: fewer "
              f"than {min_sites} sites.", fontsize=9, va="top")  # fmt: skip
    bar = drawing.colorbar(
        scale, cax=axes.inset_axes((0.19, 0.86, 0.38, 0.03)), orientation="horizontal",
        extend="both",
    )  # fmt: skip
    bar.set_label("median local voltage (V)")
    return drawing


def _interactive(
    found: dict[str, SiteStatistics], scale: ScalarMappable, title: str, min_sites: int
) -> Any:
    import plotly.graph_objects as go

    shape = (9, 18)
    values = np.full(shape, np.nan)
    text = np.full(shape, "", dtype=object)
    hover = np.full(shape, "", dtype=object)
    for z in range(1, LAST_ELEMENT + 1):
        symbol = element_symbol(z)
        column, row = place_of(symbol)
        one = found.get(symbol)
        at = row - 1, column - 1
        text[at] = f"<b>{symbol}</b>" + (f"<br>{one.median:.2f}" if one else "")
        hover[at] = _hover(one) if one else f"{symbol}: no sites"
        if one and one.sites >= min_sites:
            values[at] = one.median
    figure = go.Figure(
        go.Heatmap(
            z=values, text=text, customdata=hover, texttemplate="%{text}", xgap=2, ygap=2,
            hovertemplate="%{customdata}<extra></extra>", colorscale=COLORS.capitalize(),
            zmin=scale.norm.vmin, zmax=scale.norm.vmax, hoverongaps=True,
            colorbar={"title": {"text": "median local<br>voltage (V)"}},
        )
    )  # fmt: skip
    figure.update_layout(
        title=title, template="plotly_white", width=1250, height=680,
        xaxis={"visible": False}, yaxis={"visible": False, "autorange": "reversed"},
    )  # fmt: skip
    return figure


def _hover(one: SiteStatistics) -> str:
    return (
        f"<b>{one.element}</b><br>median {one.median:.3f} V (95 %: {one.lo95:.3f} to "
        f"{one.hi95:.3f})<br>quartiles {one.q25:.3f} to {one.q75:.3f} V<br>"
        f"{one.sites} sites in {one.hosts} hosts"
    )


def _short(count: int) -> str:
    return f"{count / 1000:.0f}k" if count >= 10_000 else f"{count}"
