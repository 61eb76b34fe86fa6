"""One style for all figures, and one way to keep them: PNG, SVG, HTML and the numbers as CSV."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.figure import Figure as Drawing
from pydantic import BaseModel

from voltscreen.explain.families import FAMILIES

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

COLORS = "viridis"
DPI = 200
STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "legend.frameon": False,
    "svg.hashsalt": "voltscreen",
}


@dataclass(frozen=True, eq=False)
class Figure:
    """A figure in both forms, with its numbers.

    name: of its files. drawing: for matplotlib. interactive: for plotly. table: its data, units
    in the names of the columns.
    """

    name: str
    drawing: Drawing
    interactive: Any
    table: pd.DataFrame

    def save(self, folder: Path) -> list[Path]:
        """Write the four files; returns their paths."""
        folder.mkdir(parents=True, exist_ok=True)
        paths = [folder / f"{self.name}.{suffix}" for suffix in ("png", "svg", "html", "csv")]
        with mpl.rc_context(STYLE):
            self.drawing.savefig(paths[0], dpi=DPI, bbox_inches="tight", facecolor="white")
            self.drawing.savefig(
                paths[1], bbox_inches="tight", facecolor="white", metadata={"Date": None}
            )
        # The library stands inside, so that the page opens without a network.
        self.interactive.write_html(paths[2], include_plotlyjs=True)
        self.table.to_csv(paths[3], index=False, float_format="%.6g")
        return paths


def canvas(width: float, height: float, columns: int = 1) -> tuple[Drawing, list[Axes]]:
    """A drawing of so many inches, and its axes side by side."""
    with mpl.rc_context(STYLE):
        drawing = Drawing(figsize=(width, height), layout="constrained")
        axes = drawing.subplots(1, columns, squeeze=False)[0]
    return drawing, list(axes)


def family_legend(axes: Axes, families: list[str], **options: Any) -> None:
    """Colours of the families that occur, in their order."""
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], marker="o", linestyle="", color=color, label=name, markersize=7)
        for name, color in FAMILIES.items()
        if name in families
    ]
    axes.legend(handles=handles, frameon=False, **options)


def ink(color: Any) -> str:
    """Black or white, whichever can be read on a colour (relative luminance of sRGB)."""
    red, green, blue = mpl.colors.to_rgb(color)
    return "white" if 0.299 * red + 0.587 * green + 0.114 * blue < 0.55 else "black"


def records(items: list[Any]) -> pd.DataFrame:
    """A table of dataclasses or pydantic models."""
    import pandas as pd

    return pd.DataFrame([i.model_dump() if isinstance(i, BaseModel) else asdict(i) for i in items])
