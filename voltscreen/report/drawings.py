"""Figures of pages and reports as SVG: drawn here, so that a file needs nothing from elsewhere.

Text, axes and marks take their colours from the style sheet, in light and in dark; a point is a
link, so that mouse, finger and keyboard open the same page.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, log10

from voltscreen.report.colors import scale_of, text_color, voltage_color
from voltscreen.report.dossier import IonEntry

WIDTH, HEIGHT = 720, 420
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 14, 16, 50
ENERGY_LINES = (100, 200, 400, 600, 800, 1000, 1500, 2000, 3000, 4000)
"""Wh/kg of the contours."""


@dataclass(frozen=True, slots=True)
class Point:
    """A candidate in the plot. voltage: V; capacity: mAh/g; energy_density: Wh/kg."""

    rank: int
    structure_id: str
    formula: str
    capacity: float
    voltage: float
    energy_density: float
    pareto: bool


@dataclass(frozen=True, slots=True)
class _Axes:
    """A plot's area: values to pixels."""

    x: tuple[float, float]
    y: tuple[float, float]
    width: float = WIDTH
    height: float = HEIGHT

    def px(self, x: float) -> float:
        low, high = self.x
        return _LEFT + (x - low) / (high - low) * (self.width - _LEFT - _RIGHT)

    def py(self, y: float) -> float:
        low, high = self.y
        return self.height - _BOTTOM - (y - low) / (high - low) * (self.height - _TOP - _BOTTOM)


def pareto_plot(points: Sequence[Point], link: Callable[[Point], str] | None = None) -> str:
    """Voltage against capacity, with lines of equal energy density and the Pareto front.

    Args:
        link: where a point leads; without it points only show their names.
    """
    if not points:
        return ""
    top = max(max(point.voltage for point in points) * 1.08, 0.5)
    bottom = min(0.0, min(point.voltage for point in points) - 0.1)
    axes = _Axes((0, max(max(point.capacity for point in points) * 1.05, 10)), (bottom, top))
    parts = [_frame(axes, "Capacity (mAh/g)", "Voltage (V)"), _energy_lines(axes)]
    front = sorted((point for point in points if point.pareto), key=lambda point: point.capacity)
    if len(front) > 1:
        line = " ".join(f"{axes.px(p.capacity):.1f},{axes.py(p.voltage):.1f}" for p in front)
        parts.append(f'<polyline class="front-line" points="{line}"/>')
    parts += [_mark(point, axes, link) for point in points if not point.pareto]
    parts += [_mark(point, axes, link) for point in front]
    parts += _names(front, axes)
    return _svg(axes, parts, "Voltage against capacity of the candidates", "plot")


def _mark(point: Point, axes: _Axes, link: Callable[[Point], str] | None) -> str:
    title = escape(
        f"{lowered(point.formula)}, rank {point.rank}: {point.voltage:.2f} V, "
        f"{point.capacity:.0f} mAh/g, {point.energy_density:.0f} Wh/kg"
    )
    kind, radius = ("front", 5) if point.pareto else ("dot", 3)
    circle = (
        f'<circle class="{kind}" cx="{axes.px(point.capacity):.1f}" '
        f'cy="{axes.py(point.voltage):.1f}" r="{radius}"><title>{title}</title></circle>'
    )
    if link is None:
        return circle
    # The front is reached by Tab; hundreds of other points are not, the table lists them.
    reach = "" if point.pareto else ' tabindex="-1"'
    return f'<a href="{escape(link(point))}" aria-label="{title}"{reach}>{circle}</a>'


def _names(front: Sequence[Point], axes: _Axes) -> list[str]:
    """Formulas beside front points that lie apart, best energy density first."""
    placed: list[tuple[float, float]] = []
    parts = []
    for point in sorted(front, key=lambda point: -point.energy_density):
        x, y = axes.px(point.capacity), axes.py(point.voltage)
        if any(abs(x - a) < 84 and abs(y - b) < 18 for a, b in placed):
            continue
        placed.append((x, y))
        near_edge = x > WIDTH - 110
        anchor, dx = ("end", -8) if near_edge else ("start", 8)
        parts.append(
            f'<text class="name" x="{x + dx:.1f}" y="{y - 6:.1f}" text-anchor="{anchor}">'
            f"{escape(lowered(point.formula))}</text>"
        )
        if len(placed) == 10:
            break
    return parts


def _energy_lines(axes: _Axes) -> str:
    parts: list[str] = []
    last = axes.height
    for energy in ENERGY_LINES:
        low, high = max(energy / axes.y[1], axes.x[1] / 400), axes.x[1]
        end = axes.py(energy / high)
        # Lines that would crowd at their right end are left out.
        if low > 0.97 * high or last - end < 16:
            continue
        unit = "" if parts else " Wh/kg"
        last = end
        steps = [low * (high / low) ** (i / 40) for i in range(41)]
        line = " ".join(f"{axes.px(c):.1f},{axes.py(energy / c):.1f}" for c in steps)
        parts.append(
            f'<polyline class="energy" points="{line}"/>'
            f'<text class="energy-label" x="{axes.px(high) - 2:.1f}" y="{end - 3:.1f}" '
            f'text-anchor="end">{energy}{unit}</text>'
        )
    return "".join(parts)


def histogram_plot(values: Sequence[float], unit: str, bins: int = 48) -> str:
    """How often values occur; a line marks their median."""
    if not values:
        return ""
    ordered = sorted(values)
    low, high = ordered[int(0.002 * len(ordered))], ordered[int(0.998 * (len(ordered) - 1))]
    low, high = low - 0.05, max(high, low + 0.5) + 0.05
    counts = [0] * bins
    for value in ordered:
        if low <= value < high:
            counts[int((value - low) / (high - low) * bins)] += 1
    axes = _Axes((low, high), (0, max(counts) * 1.06 or 1), height=240)
    parts = [_frame(axes, unit, "Candidates")]
    step = (high - low) / bins
    for i, count in enumerate(counts):
        if count:
            left, top = axes.px(low + i * step), axes.py(count)
            parts.append(
                f'<rect class="bar" x="{left:.1f}" y="{top:.1f}" '
                f'width="{axes.px(low + (i + 1) * step) - left - 1:.1f}" '
                f'height="{axes.py(0) - top:.1f}"><title>{low + i * step:.2f} to '
                f"{low + (i + 1) * step:.2f}: {count}</title></rect>"
            )
    median = ordered[len(ordered) // 2]
    x = axes.px(median)
    parts.append(
        f'<line class="median" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{axes.py(0):.1f}"/>'
        f'<text class="name" x="{x + 5:.1f}" y="{_TOP + 10}">median {median:.2f} V</text>'
    )
    return _svg(axes, parts, "Histogram of the voltages", "plot")


def interval_plot(entries: Sequence[IonEntry]) -> str:
    """Voltages by ion with their 80 and 90 % intervals, and what is known beside them."""
    shown = [entry for entry in entries if entry.voltage is not None]
    if not shown:
        return ""
    values = [value for entry in shown for value in _values(entry)]
    low, high = min(*values, 0.0) - 0.15, max(values) + 0.15
    axes = _Axes((low, high), (0, 1), height=_TOP + _BOTTOM + 30 * len(shown))
    parts = [_frame(axes, "Voltage (V)", "", with_y=False)]
    for i, entry in enumerate(shown):
        y = _TOP + 30 * i + 15
        parts.append(f'<text class="ion" x="{_LEFT - 12}" y="{y + 4}" text-anchor="end">'
                     f"{entry.ion}</text>")  # fmt: skip
        for kind, start, end in (
            ("wide", entry.lo90, entry.hi90),
            ("narrow", entry.lo80, entry.hi80),
        ):
            if start is not None and end is not None:
                parts.append(
                    f'<rect class="{kind}" x="{axes.px(start):.1f}" y="{y - 5}" rx="5" '
                    f'width="{axes.px(end) - axes.px(start):.1f}" height="10">'
                    f"<title>{90 if kind == 'wide' else 80} %: {start:.2f} to {end:.2f} V</title>"
                    "</rect>"
                )
        voltage = float(entry.voltage or 0.0)
        parts.append(
            f'<circle class="front" cx="{axes.px(voltage):.1f}" cy="{y}" r="5">'
            f"<title>{entry.ion}: {voltage:.2f} V predicted</title></circle>"
        )
        parts += [_diamond(axes.px(v), y, kind, text) for v, kind, text in _known(entry)]
    return _svg(axes, parts, "Predicted voltages by ion with their intervals", "plot")


def _values(entry: IonEntry) -> list[float]:
    known = [value for value, _, _ in _known(entry)]
    own = (entry.voltage, entry.lo90, entry.hi90)
    return known + [value for value in own if value is not None]


def _known(entry: IonEntry) -> list[tuple[float, str, str]]:
    """(V, class, text) of what is known beside the prediction."""
    found = [(m.voltage, "measured", f"measured: {m.voltage:.2f} V") for m in entry.measured]
    found += [
        (r.best, "refined", f"refined: {r.best:.2f} V") for r in entry.refined if r.best is not None
    ]
    if entry.known:
        text = f"Materials Project: {entry.known.voltage:.2f} V"
        found.append((entry.known.voltage, "computed", text))
    return found


def _diamond(x: float, y: float, kind: str, text: str) -> str:
    return (
        f'<path class="{kind}" d="M{x:.1f} {y - 7}l6 7l-6 7l-6 -7z">'
        f"<title>{escape(text)}</title></path>"
    )


_PERIODS = (
    "H,,,,,,,,,,,,,,,,,He", "Li,Be,,,,,,,,,,,B,C,N,O,F,Ne", "Na,Mg,,,,,,,,,,,Al,Si,P,S,Cl,Ar",
    "K,Ca,Sc,Ti,V,Cr,Mn,Fe,Co,Ni,Cu,Zn,Ga,Ge,As,Se,Br,Kr",
    "Rb,Sr,Y,Zr,Nb,Mo,Tc,Ru,Rh,Pd,Ag,Cd,In,Sn,Sb,Te,I,Xe",
    "Cs,Ba,La,Hf,Ta,W,Re,Os,Ir,Pt,Au,Hg,Tl,Pb,Bi,Po,At,Rn", "Fr,Ra,Ac", "",
    ",,,Ce,Pr,Nd,Pm,Sm,Eu,Gd,Tb,Dy,Ho,Er,Tm,Yb,Lu", ",,,Th,Pa,U,Np,Pu,Am,Cm,Bk,Cf",
)  # fmt: skip


def periodic_table(values: Mapping[str, tuple[float, int]]) -> str:
    """Elements coloured by a voltage.

    Args:
        values: by element symbol, voltage (V) and number of sites behind it.
    """
    low, high = scale_of(value for value, _ in values.values())
    cell, parts = 40, []
    for row, period in enumerate(_PERIODS):
        for column, symbol in enumerate(period.split(",")):
            if symbol:
                x, y = column * cell + 1, row * cell * (1 if row < 7 else 0.94) + 1
                parts.append(_element(symbol, x, y, cell - 2, values.get(symbol), low, high))
    parts.append(_legend(3 * cell, 8, 8 * cell, low, high))
    return (
        f'<svg class="periodic" viewBox="0 0 {18 * cell} {int(9.6 * cell)}" role="img" '
        f'aria-label="Periodic table of local voltages">{"".join(parts)}</svg>'
    )


def _element(
    symbol: str, x: float, y: float, size: float, value: tuple[float, int] | None,
    low: float, high: float,
) -> str:  # fmt: skip
    if value is None:
        return (
            f'<g class="absent"><rect x="{x}" y="{y}" width="{size}" height="{size}" rx="4"/>'
            f'<text x="{x + size / 2}" y="{y + size / 2 + 4}" text-anchor="middle">{symbol}</text>'
            "</g>"
        )
    voltage, count = value
    fill = voltage_color(voltage, low, high)
    ink = text_color(fill)
    return (
        f"<g><title>{symbol}: {voltage:.2f} V, median of {count} sites</title>"
        f'<rect x="{x}" y="{y}" width="{size}" height="{size}" rx="4" fill="{fill}"/>'
        f'<text x="{x + size / 2}" y="{y + 17}" text-anchor="middle" class="symbol" '
        f'fill="{ink}">{symbol}</text>'
        f'<text x="{x + size / 2}" y="{y + 31}" text-anchor="middle" class="value" '
        f'fill="{ink}">{voltage:.2f}</text></g>'
    )


def _legend(x: float, y: float, width: float, low: float, high: float) -> str:
    steps = 40
    bars = "".join(
        f'<rect x="{x + i * width / steps:.1f}" y="{y}" width="{width / steps + 0.6:.1f}" '
        f'height="10" fill="{voltage_color(low + (high - low) * i / (steps - 1), low, high)}"/>'
        for i in range(steps)
    )
    return (
        f'<g class="scale">{bars}<text x="{x}" y="{y + 24}">{low:.1f} V</text>'
        f'<text x="{x + width}" y="{y + 24}" text-anchor="end">{high:.1f} V</text></g>'
    )


def _frame(axes: _Axes, x_label: str, y_label: str, *, with_y: bool = True) -> str:
    bottom = axes.height - _BOTTOM
    right = axes.width - _RIGHT
    parts = [f'<line class="axis" x1="{_LEFT}" x2="{right}" y1="{bottom}" y2="{bottom}"/>']
    for value in _ticks(*axes.x):
        x = axes.px(value)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{bottom}"/>'
                     f'<text class="tick" x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">'
                     f"{_plain(value)}</text>")  # fmt: skip
    for value in _ticks(*axes.y) if with_y else ():
        y = axes.py(value)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{axes.width - _RIGHT}" y1="{y:.1f}" '
                     f'y2="{y:.1f}"/><text class="tick" x="{_LEFT - 7}" y="{y + 4:.1f}" '
                     f'text-anchor="end">{_plain(value)}</text>')  # fmt: skip
    middle = (_TOP + bottom) / 2
    parts.append(f'<text class="label" x="{(_LEFT + axes.width - _RIGHT) / 2}" '
                 f'y="{axes.height - 8}" text-anchor="middle">{escape(x_label)}</text>'
                 f'<text class="label" x="14" y="{middle}" text-anchor="middle" '
                 f'transform="rotate(-90 14 {middle})">{escape(y_label)}</text>')  # fmt: skip
    return "".join(parts)


def _ticks(low: float, high: float, most: int = 7) -> list[float]:
    """Round values from low to high, at most about so many."""
    rough = (high - low) / most
    size = 10 ** floor(log10(rough))
    step = next(size * factor for factor in (1, 2, 5, 10) if size * factor >= rough)
    return [i * step for i in range(ceil(low / step), floor(high / step) + 1)]


def _plain(value: float) -> str:
    return f"{round(value, 6) + 0.0:g}"


def _svg(axes: _Axes, parts: Iterable[str], label: str, kind: str) -> str:
    return (
        f'<svg class="{kind}" viewBox="0 0 {axes.width:g} {axes.height:g}" role="group" '
        f'aria-label="{escape(label)}">{"".join(parts)}</svg>'
    )


_LOWERED = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")


def lowered(formula: str) -> str:
    """A formula with its numbers as subscripts."""
    return formula.translate(_LOWERED)
