"""The usual figures of a ranking with their numbers: to print (matplotlib), to click (plotly)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from voltscreen.errors import QueryError
from voltscreen.store import ResultQuery, Store, get_campaign, load_structures
from voltscreen.store.queries import check_query, measured_with, select
from voltscreen.store.ranking_columns import load_columns

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

KINDS = ("pareto", "histogram", "known")
SUFFIXES = (".png", ".svg", ".pdf", ".html")
ENERGY_LINES = (200, 400, 600, 800, 1000, 1500, 2000, 3000)
"""Wh/kg of the contours."""
FEW = 30
"""Points that are all named."""
BLUE, ORANGE, GREY = "#2563b0", "#c2570c", "#8a8f98"
_LABELS = {
    "capacity": "Capacity (mAh/g)",
    "voltage": "Voltage (V)",
    "predicted": "Predicted voltage (V)",
    "known": "Known voltage (V)",
}


def data(store: Store, kind: str, query: ResultQuery) -> pd.DataFrame:
    """The numbers of a figure, a row a point.

    Raises:
        QueryError: an unknown kind, or nothing to draw.
        CampaignError: no campaign of that name.
    """
    if kind not in KINDS:
        raise QueryError(f"there is no figure {kind!r}: choose from {', '.join(KINDS)}")
    check_query(store, query)
    if kind == "histogram":
        frame = _by_ion(store, query)
    else:
        frame = _points(store, query)
        known = kind == "known"
        frame = _known(store, frame, query.ion) if known else frame.dropna(subset=["capacity"])
    if frame.empty:
        raise QueryError(
            f"nothing to draw for {query.ion} in campaign {query.campaign!r}: no candidate "
            f"{'has a known voltage' if kind == 'known' else 'fits'}; drop a filter"
        )
    return frame


def _points(store: Store, query: ResultQuery) -> pd.DataFrame:
    """rank, id, formula, voltage (V), capacity (mAh/g), energy_density (Wh/kg) and more."""
    import pandas as pd

    columns = load_columns(store, query.campaign, query.ion)
    measured = measured_with(store, query.ion) if query.measured else None
    places = select(columns, query, measured)
    stop = None if query.top is None else query.skip + query.top
    places = places[query.skip : stop]
    frame = pd.DataFrame({"rank": places + 1})
    for name in ("structure_id", "formula"):
        frame[name] = columns.texts[name][places]
    for name in ("voltage", "capacity", "energy_density"):
        frame[name] = columns.number(name)[places]
    frame["pareto"] = columns.number("pareto")[places] == 1
    frame["known_voltage"] = columns.number("known_voltage")[places]
    return frame


def _by_ion(store: Store, query: ResultQuery) -> pd.DataFrame:
    """ion, voltage: every ion of the campaign, with the same filters."""
    import pandas as pd

    parts = []
    for ion in get_campaign(store, query.campaign).spec["ions"]:
        points = _points(store, query.model_copy(update={"ion": ion}))
        parts.append(pd.DataFrame({"ion": ion, "voltage": points["voltage"]}))
    return pd.concat(parts, ignore_index=True)


def _known(store: Store, points: pd.DataFrame, ion: str) -> pd.DataFrame:
    """formula, predicted, known (V) and kind: by the Materials Project or measured."""
    import pandas as pd

    computed = points.assign(known=points["known_voltage"], kind="computed")
    computed = computed[np.isfinite(computed["known"])]
    ids = measured_with(store, ion)
    mine = points[points["structure_id"].isin(ids)]
    structures = load_structures(store, mine["structure_id"])
    values = []
    for key in mine["structure_id"]:
        found = [m.voltage for m in structures[key].measured if m.ion == ion and m.insertion]
        values.append(found[0] if found else np.nan)
    measured = mine.assign(known=values, kind="measured").dropna(subset=["known"])
    frame = pd.concat([computed, measured], ignore_index=True)
    frame = frame.rename(columns={"voltage": "predicted"})
    return frame[["rank", "structure_id", "formula", "kind", "known", "predicted"]]


def draw(store: Store, kind: str, query: ResultQuery) -> Figure:
    """The figure, for matplotlib.

    Raises:
        QueryError, CampaignError: as for `data`.
    """
    return _draw(kind, data(store, kind, query), query)


def save(store: Store, kind: str, query: ResultQuery, output: Path) -> Path:
    """Write the figure, and its numbers as CSV beside it; the path of the CSV.

    Raises:
        QueryError: a kind of file or of figure that is not known, or nothing to draw.
    """
    suffix = output.suffix.lower()
    if suffix not in SUFFIXES:
        raise QueryError(f"cannot draw {output}: end it with {', '.join(SUFFIXES)}")
    frame = data(store, kind, query)
    if suffix == ".html":
        output.write_text(_interactive(kind, frame, query), encoding="utf-8")
    else:
        _draw(kind, frame, query).savefig(output, dpi=200)
    table = output.with_suffix(".csv")
    frame.to_csv(table, index=False)
    return table


def _draw(kind: str, frame: pd.DataFrame, query: ResultQuery) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.6), layout="constrained")
    if kind == "histogram":
        _draw_histograms(figure, frame)
        figure.suptitle(query.campaign, fontsize=11)
        return figure
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    if kind == "pareto":
        _draw_pareto(axes, frame)
    else:
        _draw_known(axes, frame)
    axes.set_title(f"{query.campaign}, {query.ion}", fontsize=11, loc="left")
    return figure


def _draw_pareto(axes: Axes, frame: pd.DataFrame) -> None:
    front = frame[frame["pareto"]].sort_values("capacity")
    rest = frame[~frame["pareto"]]
    top_x, top_y = frame["capacity"].max() * 1.08, max(frame["voltage"].max() * 1.1, 0.5)
    capacity = np.linspace(max(top_x / 400, 1.0), top_x, 400)
    for energy in ENERGY_LINES:
        voltage = energy / capacity
        inside = voltage < top_y
        if inside.sum() < 2:
            continue
        axes.plot(capacity[inside], voltage[inside], color="#d5d8dd", linewidth=0.8, zorder=0)
        axes.annotate(
            f"{energy}", (capacity[inside][-1], voltage[inside][-1]), color=GREY, fontsize=7,
            ha="right", va="bottom",
        )  # fmt: skip
    axes.scatter(
        rest["capacity"], rest["voltage"], s=9, color=BLUE, alpha=0.35, linewidths=0,
        label=f"{len(rest):,} candidates", rasterized=len(rest) > 5000,
    )  # fmt: skip
    axes.plot(front["capacity"], front["voltage"], color=ORANGE, linewidth=1)
    axes.scatter(
        front["capacity"], front["voltage"], s=26, color=ORANGE, zorder=3,
        label=f"Pareto front ({len(front)})",
    )  # fmt: skip
    _label_front(axes, front)
    axes.set(xlim=(0, top_x), ylim=(min(frame["voltage"].min(), 0) - 0.1, top_y))
    axes.set(xlabel=_LABELS["capacity"], ylabel=_LABELS["voltage"])
    axes.legend(frameon=False, fontsize=8, title="lines: Wh/kg", title_fontsize=8)


def _label_front(axes: Axes, front: pd.DataFrame) -> None:
    """Formulas of front points that lie apart from those labelled before, best energy first."""
    labelled: list[tuple[float, float]] = []
    width, height = front["capacity"].max() or 1.0, front["voltage"].max() or 1.0
    for row in front.sort_values("energy_density", ascending=False).itertuples():
        x, y = float(row.capacity) / width, float(row.voltage) / height
        if any(abs(x - a) < 0.12 and abs(y - b) < 0.07 for a, b in labelled):
            continue
        labelled.append((x, y))
        axes.annotate(
            _subscripts(str(row.formula)), (row.capacity, row.voltage), fontsize=7,
            xytext=(-5, 4) if x > 0.9 else (5, 4), textcoords="offset points",
            ha="right" if x > 0.9 else "left",
        )  # fmt: skip
        if len(labelled) == 8:
            return


def _subscripts(formula: str) -> str:
    import re

    return re.sub(r"(\d+(?:\.\d+)?)", r"$_{\1}$", formula)


def _draw_histograms(figure: Figure, frame: pd.DataFrame) -> None:
    ions = list(dict.fromkeys(frame["ion"]))
    low, high = np.percentile(frame["voltage"], [0.2, 99.8])
    bins = np.linspace(low, max(high, low + 0.5), 60)
    shape = figure.subplots(len(ions), 1, sharex=True, squeeze=False)
    for axes, ion in zip(shape[:, 0], ions, strict=True):
        voltages = frame.loc[frame["ion"] == ion, "voltage"]
        axes.hist(voltages, bins=bins, color=BLUE, alpha=0.75)
        axes.axvline(voltages.median(), color=ORANGE, linewidth=1.2)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.set_yticks([])
        axes.set_ylabel(ion, rotation=0, ha="right", va="center", fontsize=10)
        axes.annotate(
            f"{len(voltages):,}, median {voltages.median():.2f} V", (0.995, 0.9),
            xycoords="axes fraction", ha="right", va="top", fontsize=7, color=GREY,
        )  # fmt: skip
    shape[-1, 0].set_xlabel(_LABELS["voltage"])


def _draw_known(axes: Axes, frame: pd.DataFrame) -> None:
    both = frame[["known", "predicted"]].to_numpy()
    low, high = float(both.min()) - 0.3, float(both.max()) + 0.3
    axes.plot([low, high], [low, high], color=GREY, linewidth=0.8, zorder=0)
    for kind, color in (("computed", BLUE), ("measured", ORANGE)):
        some = frame[frame["kind"] == kind]
        if some.empty:
            continue
        error = (some["predicted"] - some["known"]).abs().mean()
        who = "Materials Project" if kind == "computed" else "measured"
        axes.scatter(
            some["known"], some["predicted"], s=16, color=color, alpha=0.7, linewidths=0,
            label=f"{who}: {len(some)}, mean difference {error:.2f} V",
        )  # fmt: skip
    if len(frame) <= FEW:
        for row in frame.itertuples():
            axes.annotate(
                _subscripts(str(row.formula)), (row.known, row.predicted), fontsize=7,
                xytext=(4, 3), textcoords="offset points",
            )  # fmt: skip
    axes.set(xlim=(low, high), ylim=(low, high), aspect="equal")
    axes.set(xlabel=_LABELS["known"], ylabel=_LABELS["predicted"])
    axes.legend(frameon=False, fontsize=8)


def _interactive(kind: str, frame: pd.DataFrame, query: ResultQuery) -> str:
    """One HTML file with plotly inside, to be opened without a network."""
    import plotly.graph_objects as go

    figure = go.Figure()
    figure.update_layout(template="plotly_white", title=f"{query.campaign}, {query.ion}")
    if kind == "histogram":
        for ion, some in frame.groupby("ion", sort=False):
            figure.add_histogram(x=some["voltage"], name=str(ion), opacity=0.6, nbinsx=60)
        figure.update_layout(barmode="overlay", xaxis_title=_LABELS["voltage"])
        return str(figure.to_html(include_plotlyjs=True))
    x, y, group = (
        ("capacity", "voltage", "pareto") if kind == "pareto" else ("known", "predicted", "kind")
    )
    names: dict[Any, str] = {True: "Pareto front", False: "others"}
    for value, some in frame.groupby(group):
        figure.add_scattergl(
            x=some[x], y=some[y], mode="markers", name=names.get(value, str(value)),
            text=some["formula"], customdata=some["rank"],
            hovertemplate="%{text}<br>%{x:.2f}, %{y:.2f}<br>rank %{customdata}<extra></extra>",
        )  # fmt: skip
    figure.update_layout(xaxis_title=_LABELS[x], yaxis_title=_LABELS[y])
    return str(figure.to_html(include_plotlyjs=True))
