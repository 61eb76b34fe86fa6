"""How results are printed: tables for people, JSON for programs."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def print_json(data: Any) -> None:
    """JSON on standard output; numbers as they are, everything else as text."""
    sys.stdout.write(json.dumps(data, indent=2, ensure_ascii=False, default=str) + "\n")


def print_table(
    columns: Sequence[str | tuple[str, str]], rows: Sequence[Sequence[object]], title: str = ""
) -> None:
    """A table no wider than the terminal; (name, 'right') aligns a column of numbers."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title or None, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        name, justify = (column, "left") if isinstance(column, str) else column
        right = justify == "right"
        table.add_column(name, justify="right" if right else "left", no_wrap=right)
    for row in rows:
        table.add_row(*(Text(text(cell)) for cell in row))
    console().print(table)


def console() -> Any:
    """The console for people: 110 columns where the output is no terminal."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 110, soft_wrap=False, highlight=False)


def program() -> str:
    """How the user can call voltscreen again: as it was called where it is not on the PATH."""
    called = Path(sys.argv[0])
    if called.name != "voltscreen" or not called.is_file():
        return "voltscreen"
    found = shutil.which("voltscreen")
    return "voltscreen" if found and Path(found).samefile(called) else str(called)


def text(cell: object) -> str:
    """A cell as text; nothing for what is not known."""
    return "" if cell is None else str(cell)


def number(value: float | None, digits: int = 2) -> str:
    """A number with so many digits after the point, or a dash where there is none."""
    # Adding zero turns -0.0 into 0.0.
    return "–" if value is None else f"{round(value, digits) + 0.0:.{digits}f}"


def say(message: str) -> None:
    """A sentence on standard error, so that standard output stays data."""
    typer.echo(message, err=True)
