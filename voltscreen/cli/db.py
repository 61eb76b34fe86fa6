"""`voltscreen db`: the embedded database."""

from __future__ import annotations

from typing import Any

import typer

from voltscreen.cli.output import JsonOption, print_json, say

db_app = typer.Typer(no_args_is_help=True, help="The database: start, stop, status, migrate.")


def register(app: typer.Typer) -> None:
    """Add the group."""
    app.add_typer(db_app, name="db")


@db_app.command("start")
def start() -> None:
    """Start the embedded database; every command that needs it does so by itself."""
    from voltscreen.errors import SettingsError
    from voltscreen.settings import settings
    from voltscreen.store import embedded

    if settings().mongo_uri:
        raise SettingsError(
            "VOLTSCREEN_MONGO_URI names a server, so the embedded database is not used: unset it"
        )
    state = embedded.start(settings().home)
    say(f"The embedded database ({state.program}) runs at {state.address}, data in {state.data}")


@db_app.command("stop")
def stop() -> None:
    """Stop the embedded database; its data stay."""
    from voltscreen.settings import settings
    from voltscreen.store import embedded

    stopped = embedded.stop(settings().home)
    say("Stopped the embedded database." if stopped else "The embedded database does not run.")


@db_app.command("migrate")
def migrate() -> None:
    """Bring documents of an older voltscreen forward; they can be read before and after."""
    from voltscreen.store import connect
    from voltscreen.store.migrations import migrate as bring_forward

    with connect() as store:
        moved = bring_forward(store.database)
    for collection, count in moved.items():
        typer.echo(f"{collection:<14} {count} documents brought forward")
    say("Done." if moved else "Nothing to do: every document has the present schema version.")


@db_app.command("status")
def status(as_json: JsonOption = False) -> None:
    """Which database is used, whether it answers, and how much it holds."""
    from voltscreen.settings import settings
    from voltscreen.store import connect, embedded
    from voltscreen.store.connection import mask_uri

    config = settings()
    state = None if config.mongo_uri else embedded.running(config.home)
    found: dict[str, Any] = {
        "kind": "server" if config.mongo_uri else "embedded",
        "running": bool(config.mongo_uri or state),
        "database": config.database,
    }
    if config.mongo_uri:
        found["uri"] = mask_uri(config.mongo_uri.get_secret_value())
    elif state:
        found |= {
            "uri": state.address,
            "program": state.program,
            "pid": state.pid,
            "data": state.data,
        }
    if found["running"]:
        with connect() as store:
            found["documents"] = {
                name: store.database[name].estimated_document_count()
                for name in ("structures", "campaigns", "batches", "voltages", "rankings", "models")
            }
    if as_json:
        print_json(found)
        return
    documents = found.pop("documents", {})
    for label, value in found.items():
        typer.echo(f"{label:<11} {value}")
    for name, count in documents.items():
        typer.echo(f"{name:<11} {count} documents")
