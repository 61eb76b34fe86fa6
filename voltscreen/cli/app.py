"""The command `voltscreen`: its groups, and how errors reach a person.

Modules of this room import typer and little else at the top: what a command needs is imported
when it runs, so that `voltscreen --help` answers at once.
"""

from __future__ import annotations

import importlib
import sys
from types import TracebackType
from typing import Annotated

import typer

from voltscreen.errors import VoltscreenError
from voltscreen.masking import mask

COMMAND_MODULES = (
    "screen", "predict", "init", "db", "ingest", "campaign", "worker", "slurm", "results",
    "explain", "substitute", "refine", "export_dft", "model", "serve", "doctor",
)  # fmt: skip
"""Modules of this room in the order of `--help`; each has `register(app)`."""

app = typer.Typer(
    name="voltscreen",
    help="Find battery electrodes by high-throughput screening.\n\n"
    "Start with: voltscreen screen workflows/known-hosts.yaml",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


@app.callback()
def root(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Global options; `main` reads --debug itself, so that it also covers failing imports."""


for _module in COMMAND_MODULES:
    importlib.import_module(f"voltscreen.cli.{_module}").register(app)


def main() -> None:
    """Run the command line; exit 0 done, 1 failed items, 2 bad input, 3 missing service."""
    sys.excepthook = _masked
    try:
        app()
    except VoltscreenError as error:
        if "--debug" in sys.argv:
            raise
        typer.secho(f"Error: {mask(str(error))}", fg=typer.colors.RED, err=True)
        raise SystemExit(error.exit_code) from None


def _masked(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print an exception that nobody caught, without passwords and keys."""
    import traceback

    sys.stderr.write(mask("".join(traceback.format_exception(kind, error, trace))))
