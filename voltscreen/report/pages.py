"""Dossiers and reports as HTML: fragments for the page, self-contained files to mail."""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from voltscreen.report import drawings
from voltscreen.report.colors import scale_of, text_color, voltage_color

if TYPE_CHECKING:
    from voltscreen.report.dossier import Crystal, Dossier, IonEntry, Predictions
    from voltscreen.report.summary import Summary


def environment(*packages: str) -> Environment:
    """Templates of this room, after those of other packages; everything is escaped.

    Args:
        packages: such as `voltscreen.web`, each with a folder `templates`.
    """
    made = Environment(
        loader=ChoiceLoader([PackageLoader(name) for name in (*packages, "voltscreen.report")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "number": number,
        "percent": percent,
        "lowered": drawings.lowered,
        "named": named,
        "thousands": lambda value: f"{value:,}",
        "moment": lambda value: f"{value:%Y-%m-%d %H:%M} UTC",
        "voltage_color": voltage_color,
        "text_color": text_color,
    }
    made.globals |= {
        "interval_plot": lambda entries: Markup(  # noqa: S704 - our own drawing
            drawings.interval_plot(entries)
        ),
        "viewer_data": viewer_data,
        "scale_of_entry": scale_of_entry,
    }
    return made


@cache
def _own() -> Environment:
    return environment()


def number(value: float | None, digits: int = 2) -> str:
    """A number with so many digits after the point, or a dash where there is none."""
    return "–" if value is None else f"{round(value, digits) + 0.0:.{digits}f}"


def percent(change: float | None) -> str:
    """A relative change in percent, or a dash where it is not known."""
    return "–" if change is None else f"{number(100 * change, 1)} %"


def named(name: str, formula: str) -> str:
    """A name for people with the formula in it written with subscripts."""
    return name.replace(formula, drawings.lowered(formula)) if formula else name


def asset(name: str) -> str:
    """The text of a style sheet or script of this room."""
    return (resources.files("voltscreen.report") / "assets" / name).read_text(encoding="utf-8")


def dossier_file(dossier: Dossier) -> str:
    """One HTML file with everything in it, to be opened anywhere without a network."""
    return (
        _own()
        .get_template("dossier_file.html")
        .render(
            dossier=dossier,
            link=None,
            style=Markup(asset("style.css")),  # noqa: S704 - our own file
            script=Markup(asset("viewer.js")),  # noqa: S704
        )
    )


def report_file(summary: Summary) -> str:
    """The report of a campaign as one HTML file."""
    plot = drawings.pareto_plot(summary.points)
    return (
        _own()
        .get_template("report_file.html")
        .render(
            summary=summary,
            pareto=Markup(plot),  # noqa: S704 - our own drawing, its texts escaped
            histogram=Markup(drawings.histogram_plot(summary.voltages, "Voltage (V)")),  # noqa: S704
            style=Markup(asset("style.css")),  # noqa: S704
        )
    )


def scale_of_entry(entry: IonEntry) -> tuple[float, float]:
    """Ends of the colour scale of an ion's local voltages, V."""
    return scale_of(entry.local.additive if entry.local else ())


def viewer_data(crystal: Crystal, predictions: Predictions) -> Markup:
    """What the 3-D view draws, as JSON that can stand inside a script element.

    By ion the colour and voltage of every site; a site that the host has not has none.
    """
    ions: dict[str, Any] = {}
    for entry in predictions.ions:
        if entry.local is None:
            continue
        low, high = scale_of_entry(entry)
        colors: list[str | None] = [None] * len(crystal.symbols)
        voltages: list[float | None] = [None] * len(crystal.symbols)
        for site, value in zip(entry.local.sites, entry.local.additive, strict=True):
            colors[site] = voltage_color(value, low, high)
            voltages[site] = round(value, 3)
        ramp = [voltage_color(low + (high - low) * i / 10, low, high) for i in range(11)]
        ions[entry.ion] = {
            "colors": colors, "voltages": voltages, "low": low, "high": high, "ramp": ramp,
        }  # fmt: skip
    data = {
        "lattice": crystal.lattice,
        "symbols": crystal.symbols,
        "coords": [[round(x % 1.0, 5) for x in site] for site in crystal.frac_coords],
        "ions": ions,
    }
    text = json.dumps(data, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c"))  # noqa: S704 - no tag can end the script
