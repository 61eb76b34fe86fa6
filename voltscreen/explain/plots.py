"""Scatter plots and bars: element vectors, importances, covalent radii, environment maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from voltscreen.explain.elements import Correlation, ElementMap, Importance, property_of
from voltscreen.explain.families import FAMILIES, family_of
from voltscreen.explain.figures import COLORS, Figure, canvas, family_legend, ink, records
from voltscreen.explain.maps import EnvironmentMap
from voltscreen.explain.statistics import SiteStatistics

UNITS = {
    "covalent_radius": "angstrom", "atomic_mass": "u", "melting_point": "K",
    "ionization_energy": "eV", "electron_affinity": "eV", "molar_volume": "cm³/mol",
    "electronegativity": "Pauling",
}  # fmt: skip
DOTS: Any = {"s": 7, "linewidths": 0, "rasterized": True}
"""Of a map; as pixels also in an SVG, where thousands of circles are slow."""
SHOWN = 15
"""Properties in a bar chart."""


def named(label: str) -> str:
    """A property for people, with its unit."""
    unit = UNITS.get(label)
    return label.replace("_", " ") + (f" ({unit})" if unit else "")


# Elements ----------------------------------------------------------------------------------


def element_figure(name: str, found: ElementMap, related: Sequence[Correlation]) -> Figure:
    """Element vectors by family, and their closest relation to the covalent radius beside it."""
    radius = property_of("covalent_radius", found.symbols)
    own = [one for one in related if one.property == "covalent_radius"]
    best = max(own, key=lambda one: abs(one.pearson))
    component = int(best.component.removeprefix("PC")) - 1
    families = [family_of(symbol) for symbol in found.symbols]
    drawing, (left, right) = canvas(14, 6.2, 2)
    _symbols(left, found.symbols, *found.coordinates.T)
    left.set_xlabel(f"PC1 ({100 * found.explained[0]:.0f} % of the variance)")
    left.set_ylabel(f"PC2 ({100 * found.explained[1]:.0f} %)")
    left.set_title(f"Element vectors of the trunk, {len(found.symbols)} elements", loc="left")
    family_legend(left, families, loc="best", fontsize=8)
    known = np.isfinite(radius)
    _symbols(
        right, [s for s, k in zip(found.symbols, known, strict=True) if k],
        radius[known], found.coordinates[known, component],
    )  # fmt: skip
    _line(right, radius[known], found.coordinates[known, component])
    right.set_xlabel("covalent radius (angstrom)")
    right.set_ylabel(best.component)
    right.set_title(
        f"Pearson r = {best.pearson:.2f}, p = {best.p_pearson:.1e}, n = {best.n}", loc="left"
    )
    table = records([]).assign(
        element=found.symbols, family=families, PC1=found.coordinates[:, 0],
        PC2=found.coordinates[:, 1], covalent_radius_angstrom=radius,
    )  # fmt: skip
    return Figure(name, drawing, _element_page(table), table)


def _element_page(table: Any) -> Any:
    import plotly.express as px

    page = px.scatter(
        table, x="PC1", y="PC2", text="element", color="family", color_discrete_map=FAMILIES,
        hover_data=["covalent_radius_angstrom"], title="Element vectors of the trunk",
        template="plotly_white",
    )  # fmt: skip
    page.update_traces(textposition="top center", marker={"size": 9})
    return page


def _symbols(
    axes: Axes, symbols: Sequence[str], x: NDArray[np.float64], y: NDArray[np.float64]
) -> None:
    """Elements as discs with their symbol inside, in the colour of their family.

    Discs that would hide each other are moved apart; a thin line leads to where one belongs.
    """
    across, up = _apart(x, y, DISC)
    for symbol, at, height, right, top in zip(symbols, x, y, across, up, strict=True):
        color = FAMILIES[family_of(symbol)]
        axes.plot([at, right], [height, top], color=color, linewidth=0.8, zorder=1)
        axes.plot(right, top, "o", markersize=72 * DISC, color=color, markeredgewidth=0, zorder=2)
        axes.text(right, top, symbol, ha="center", va="center_baseline", fontsize=7.5,
                  color=ink(color), zorder=3)  # fmt: skip


DISC = 0.19
"""Inches across."""


def _apart(
    x: NDArray[np.float64], y: NDArray[np.float64], least: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The points moved until none are nearer than `least` inches on axes of about 6 by 5 inches."""
    scale = np.array([np.ptp(x) / 6.0, np.ptp(y) / 5.0])
    points = np.column_stack((x, y)) / scale
    # Equal points need some direction to part in.
    points += np.random.default_rng(0).normal(scale=1e-3, size=points.shape)
    for _ in range(200):
        apart = points[:, None] - points[None]
        distance = np.linalg.norm(apart, axis=2)
        np.fill_diagonal(distance, np.inf)
        missing = np.clip(least - distance, 0, None)
        if not missing.any():
            break
        points += 0.5 * (apart / distance[..., None] * missing[..., None]).sum(axis=1)
    moved = points * scale
    return moved[:, 0], moved[:, 1]


def _line(axes: Axes, x: NDArray[np.float64], y: NDArray[np.float64]) -> None:
    ends = np.array([x.min(), x.max()])
    axes.plot(ends, np.polyval(np.polyfit(x, y, 1), ends), "--", color="#555555", linewidth=1,
              zorder=0)  # fmt: skip


def importance_figure(name: str, found: Sequence[Importance], title: str) -> Figure:
    """Bars: share of the forest's gain, and what shuffling a property costs on held-out hosts."""
    shown = list(found[:SHOWN])[::-1]
    labels = [named(one.property) for one in shown]
    drawing, (left, right) = canvas(12, 5.6, 2)
    colors = ["#D55E00" if one.property == "covalent_radius" else "#0072B2" for one in shown]
    left.barh(labels, [100 * one.impurity for one in shown], color=colors)
    left.set_xlabel("share of the forest's gain (%)")
    left.set_title(title, loc="left")
    right.barh(
        labels, [1000 * one.permutation for one in shown], color=colors,
        xerr=[1000 * one.sd for one in shown], error_kw={"elinewidth": 0.8, "ecolor": "#555555"},
    )  # fmt: skip
    right.set_yticklabels([])
    right.set_xlabel("rise of the error when shuffled (mV), sd over 5 folds")
    right.set_title("On chemical systems held out", loc="left")
    table = records(list(found)).rename(
        columns={
            "impurity": "share_of_gain",
            "permutation": "error_rise_V",
            "sd": "error_rise_sd_V",
        }
    )
    return Figure(name, drawing, _bar_page(table, title), table)


def _bar_page(table: Any, title: str) -> Any:
    import plotly.express as px

    page = px.bar(
        table[::-1], x="share_of_gain", y="property", hover_data=["error_rise_V"],
        orientation="h", title=title, template="plotly_white", height=700,
    )  # fmt: skip
    page.update_layout(xaxis_title="share of the forest's gain", yaxis_title="")
    return page


# Local voltages ----------------------------------------------------------------------------


def radius_figure(
    name: str, statistics: Sequence[SiteStatistics], related: Correlation, title: str
) -> Figure:
    """Median local voltage against the covalent radius (the paper's Fig. S3)."""
    symbols = [one.element for one in statistics]
    radius = property_of("covalent_radius", symbols)
    known = np.isfinite(radius)
    median = np.array([one.median for one in statistics])
    bounds = np.array([(one.lo95, one.hi95) for one in statistics])
    drawing, (axes,) = canvas(10, 6.2)
    axes.vlines(radius[known], *bounds[known].T, color="#888888", linewidth=0.8, zorder=0)
    _symbols(axes, [s for s, k in zip(symbols, known, strict=True) if k], radius[known],
             median[known])  # fmt: skip
    axes.set_xlabel("covalent radius (angstrom)")
    axes.set_ylabel("median local voltage (V), 95 % over hosts")
    axes.set_title(
        f"{title}\nPearson r = {related.pearson:.2f} (p = {related.p_pearson:.1e}), Spearman "
        f"{related.spearman:.2f} (p = {related.p_spearman:.1e}), n = {related.n}",
        loc="left",
    )
    families = [family_of(symbol) for symbol in symbols]
    family_legend(axes, families, loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=9)
    table = records([]).assign(
        element=symbols, family=families, covalent_radius_angstrom=radius, median_V=median,
        lo95_V=bounds[:, 0], hi95_V=bounds[:, 1], sites=[one.sites for one in statistics],
    )  # fmt: skip
    return Figure(name, drawing, _radius_page(table, title), table)


def _radius_page(table: Any, title: str) -> Any:
    import plotly.express as px

    page = px.scatter(
        table.assign(up=table.hi95_V - table.median_V, down=table.median_V - table.lo95_V),
        x="covalent_radius_angstrom", y="median_V", text="element", color="family",
        error_y="up", error_y_minus="down", color_discrete_map=FAMILIES, hover_data=["sites"],
        title=title, template="plotly_white",
    )  # fmt: skip
    page.update_traces(textposition="top center", marker={"size": 9})
    page.update_layout(
        xaxis_title="covalent radius (angstrom)", yaxis_title="median local voltage (V)"
    )
    return page


def environment_figure(name: str, found: EnvironmentMap, method: str, title: str) -> Figure:
    """A map by local voltage, and the same map by family of the site's element.

    Args:
        method: `pca` or `tsne`.
    """
    points = found.pca if method == "pca" else found.tsne
    drawing, (left, right) = canvas(14, 6, 2)
    low, high = np.quantile(found.voltage, [0.03, 0.97])
    # Those of extreme voltage last would hide the others: in random order as they were drawn.
    x, y = points.T
    dots = left.scatter(x, y, c=found.voltage, cmap=COLORS, vmin=low, vmax=high, **DOTS)
    drawing.colorbar(dots, ax=left, extend="both", label="local voltage (V)", pad=0.01)
    families = [family_of(symbol) for symbol in found.symbols]
    right.scatter(x, y, c=[FAMILIES[family] for family in families], alpha=0.8, **DOTS)
    family_legend(right, families, loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=9)
    _name_elements(right, np.array(found.symbols), points)
    if method == "pca":
        _arrow(left, found)
        labels = [f"PC{i + 1} ({100 * share:.0f} %)" for i, share in enumerate(found.explained)]
        note = f"a plane explains {100 * found.r2:.0f} % of the local voltage's variance"
        left.set_title(f"{title}\n{len(found.symbols)} sites; {note}", loc="left")
    else:
        labels = ["t-SNE 1", "t-SNE 2"]
        left.set_title(f"{title}\n{len(found.symbols)} sites", loc="left")
    for axes in (left, right):
        axes.set_xlabel(labels[0])
        axes.set_ylabel(labels[1])
        axes.set_xticks([])
        axes.set_yticks([])
    right.set_title("the same by the site's element", loc="left")
    table = records([]).assign(
        element=found.symbols, family=families, host=found.formulas, x=points[:, 0],
        y=points[:, 1], local_voltage_V=found.voltage,
    )  # fmt: skip
    return Figure(name, drawing, _map_page(table, title, labels, (low, high)), table)


def _arrow(axes: Axes, found: EnvironmentMap) -> None:
    """The direction in which the local voltage rises, across the middle of the map."""
    middle = np.median(found.pca, axis=0)
    reach = 0.3 * float(np.ptp(found.pca, axis=0).min())
    start, end = middle - reach * found.direction, middle + reach * found.direction
    axes.annotate("", xy=(float(end[0]), float(end[1])), xytext=(float(start[0]), float(start[1])),
                  arrowprops={"arrowstyle": "-|>", "color": "#444444", "linewidth": 2})  # fmt: skip


def _name_elements(axes: Axes, symbols: NDArray[np.str_], points: NDArray[np.float64]) -> None:
    """The symbol of each element at the middle of its sites, where there is room for it."""
    span = np.ptp(points, axis=0)
    taken: list[NDArray[np.float64]] = []
    names, counts = np.unique(symbols, return_counts=True)
    for name in names[np.argsort(-counts, kind="stable")]:
        at = np.median(points[symbols == name], axis=0)
        if all((np.abs(at - other) > 0.028 * span).any() for other in taken):
            taken.append(at)
            x, y = at.tolist()
            axes.text(x, y, str(name), ha="center", va="center", fontsize=8, fontweight="bold",
                      path_effects=[withStroke(linewidth=2, foreground="white")])  # fmt: skip


def _map_page(table: Any, title: str, labels: list[str], window: tuple[float, float]) -> Any:
    import plotly.express as px

    page = px.scatter(
        table, x="x", y="y", color="local_voltage_V", range_color=window, title=title,
        color_continuous_scale=COLORS.capitalize(), hover_data=["element", "host", "family"],
        template="plotly_white", render_mode="webgl",
    )  # fmt: skip
    page.update_traces(marker={"size": 5})
    page.update_layout(
        xaxis_title=labels[0],
        yaxis_title=labels[1],
        coloraxis_colorbar_title="local<br>voltage (V)",
    )
    return page
