"""`voltscreen init`: starter specs, settings and FireWorks files for a project folder."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from voltscreen.cli.output import program, say

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(init)


def init(
    folder: Annotated[Path, typer.Argument(help="Folder to write to; made if missing.")],
) -> None:
    """Copy starter campaign specs, described settings and FireWorks' configuration."""
    written = [
        *_copy_workflows(folder / "workflows"),
        _write(folder / "settings.yaml", _settings_text()),
        _write_secret(folder / "my_launchpad.yaml", _launchpad_text()),
    ]
    for path in written:
        say(f"  {path}")
    say(f"Wrote {sum(map(bool, written))} files. Files that were there are left as they are.")
    say(f"Next: {program()} screen {folder / 'workflows' / 'known-hosts.yaml'}")
    say(f"FireWorks' own commands: lpad -l {folder / 'my_launchpad.yaml'} get_wflows")


def workflow_files() -> Traversable:
    """The folder workflows/: of the checkout, or packed into the installed package."""
    from importlib import resources

    package = resources.files("voltscreen")
    packed = package / "_data" / "workflows"
    if packed.is_dir():
        return packed
    return resources.files("voltscreen").joinpath("..", "workflows")


def _copy_workflows(folder: Path) -> list[Path]:
    return [
        _write(folder / item.name, item.read_text(encoding="utf-8"))
        for item in sorted(workflow_files().iterdir(), key=lambda item: item.name)
        if item.name.endswith((".yaml", ".md"))
    ]


def _write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        path.write_text(text, encoding="utf-8")
    return path


def _write_secret(path: Path, text: str) -> Path:
    """As `_write`, readable by its owner alone."""
    from voltscreen.store.embedded import write_private

    if not path.exists():
        write_private(path, text)
    return path


def _settings_text() -> str:
    """Every setting with its description and default, commented out."""
    from voltscreen.settings import ENV_PREFIX, FILE_NAME, Settings, default_home

    lines = [
        f"# Settings of voltscreen. Copy to {default_home() / FILE_NAME} and uncomment what you",
        f"# change. An environment variable {ENV_PREFIX}NAME goes before this file.",
    ]
    for name, field in Settings.model_fields.items():
        default = field.get_default(call_default_factory=True)
        lines += ["", f"# {field.description}", f"# {name}: {'' if default is None else default}"]
    return "\n".join(lines) + "\n"


def _launchpad_text() -> str:
    """FireWorks' my_launchpad.yaml for the database of the settings."""
    from voltscreen.campaign.launchpad import open_launchpad
    from voltscreen.settings import settings
    from voltscreen.store import connect
    from voltscreen.store.connection import server_uri

    # `lpad` must find FireWorks' counters without the `lpad reset` that would empty a database.
    with connect(), contextlib.closing(open_launchpad()):
        config = settings()
    note = "# The connection string holds a password: keep this file to yourself."
    if not config.mongo_uri:
        note += (
            "\n# The embedded database: `voltscreen db start` brings it up if it does not run.\n"
            "# Its port stays the same while nobody else takes it; else delete this file and\n"
            "# run `voltscreen init` again."
        )
    return (
        f"{note}\n"
        f"host: {server_uri(config)[0]}\n"
        f"name: {config.database}\n"
        "uri_mode: true\n"
        "user_indices: [spec.campaign]\n"
        "strm_lvl: WARNING\n"
    )
