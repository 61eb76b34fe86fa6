"""`voltscreen init`: starter specs, settings and FireWorks files for a project folder."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from voltscreen.cli.output import program, say

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

_FWORKER = """\
# FireWorks' worker for qlaunch: any campaign of voltscreen.
name: voltscreen
category: ''
query: '{"spec.campaign": {"$exists": true}}'
"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(init)


def init(
    folder: Annotated[Path, typer.Argument(help="Folder to write to; made if missing.")],
) -> None:
    """Copy starter campaign specs, described settings and FireWorks' configuration."""
    written = [
        *_copy("workflows", folder / "workflows"),
        *_copy("slurm", folder / "slurm"),
        _write(folder / "settings.yaml", _settings_text()),
        _write_secret(folder / "my_launchpad.yaml", _launchpad_text()),
        _write(folder / "my_qadapter.yaml", _qadapter_text(folder)),
        _write(folder / "my_fworker.yaml", _FWORKER),
    ]
    for path in written:
        say(f"  {path}")
    say(f"Wrote {sum(map(bool, written))} files. Files that were there are left as they are.")
    say(f"Next: {program()} screen {folder / 'workflows' / 'known-hosts.yaml'}")
    say(f"FireWorks' own commands: lpad -l {folder / 'my_launchpad.yaml'} get_wflows")


def _copy(name: str, folder: Path) -> list[Path]:
    """A folder that comes with voltscreen, with what is in it."""
    from voltscreen.resources import bundled

    return [path for item in _sorted(bundled(name)) for path in _copy_item(item, folder)]


def _copy_item(item: Traversable, folder: Path) -> list[Path]:
    if item.is_dir():
        return [path for part in _sorted(item) for path in _copy_item(part, folder / item.name)]
    path = _write(folder / item.name, item.read_text(encoding="utf-8"))
    if path.suffix == ".sh":
        path.chmod(path.stat().st_mode | 0o111)
    return [path]


def _sorted(folder: Traversable) -> list[Traversable]:
    return sorted(folder.iterdir(), key=lambda item: item.name)


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


def _qadapter_text(folder: Path) -> str:
    """FireWorks' my_qadapter.yaml: jobs of `qlaunch` run a worker of voltscreen."""
    import sys

    from voltscreen.settings import settings

    config = settings()
    template = (folder / "slurm" / "qlaunch_template.txt").absolute()
    return f"""\
# For FireWorks' qlaunch; `voltscreen slurm submit` counts jobs and work, qlaunch does not.
#   qlaunch -l my_launchpad.yaml -w my_fworker.yaml -q my_qadapter.yaml singleshot
#   qlaunch -l my_launchpad.yaml -w my_fworker.yaml -q my_qadapter.yaml rapidfire -m 10
_fw_name: CommonAdapter
_fw_q_type: SLURM
_fw_template_file: {template}
rocket_launch: {sys.executable} -m voltscreen worker
pre_rocket: export VOLTSCREEN_HOME={config.home} VOLTSCREEN_DATABASE={config.database}
job_name: voltscreen
queue: gpu          # partition; delete what your cluster does not have
# account: materials
# qos: normal
gres: gpu:1
cpus_per_task: 4
mem: 8G
walltime: "01:00:00"
signal: B:USR1@120
"""
