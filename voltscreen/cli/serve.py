"""`voltscreen serve`: the web page and REST API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from voltscreen.cli.output import say

if TYPE_CHECKING:
    import socket

SHORTEST_KEY = 16


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(serve)


def serve(
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="0 takes a free one.")
    ] = 8000,
    host: Annotated[
        str,
        typer.Option(
            "--host", help="Address to listen on; others than 127.0.0.1 are seen by the network."
        ),
    ] = "127.0.0.1",
    model: Annotated[
        str, typer.Option("--model", help="Name of the model that predicts.")
    ] = "default",
    allow_host: Annotated[
        list[str] | None,
        typer.Option("--allow-host", help="A further name by which browsers may call the server."),
    ] = None,
    per_minute: Annotated[
        float, typer.Option("--per-minute", min=1, help="Requests of one address in a minute.")
    ] = 1200,
) -> None:
    """Serve the web page and the REST API on this machine.

    Everybody who reaches the server may read and predict. Writing over the API needs one of the
    keys in VOLTSCREEN_API_KEYS (separated by commas), sent in the header X-API-Key; without that
    setting nobody may write.
    """
    from voltscreen.errors import MissingPackageError
    from voltscreen.model import model_path

    try:
        import uvicorn

        from voltscreen.web.app import ServerOptions, create_app
    except ModuleNotFoundError as error:
        raise MissingPackageError(
            f"the page needs the package {error.name}: pip install 'voltscreen[web]'"
        ) from None
    model_path(model)  # an unknown model is refused before the server starts
    open_to = [] if host in {"0.0.0.0", "::"} else [host]  # noqa: S104 - compared, not bound
    names = ("127.0.0.1", "localhost", "[::1]", *open_to, *(allow_host or []))
    options = ServerOptions(model, _keys(), per_minute, tuple(dict.fromkeys(names)))
    with _listen(host, port) as listening:
        taken = listening.getsockname()[1]
        say(f"voltscreen is at http://{host}:{taken}; stop it with Ctrl-C.")
        config = uvicorn.Config(
            create_app(options), log_level="warning", access_log=False, server_header=False
        )
        uvicorn.Server(config).run(sockets=[listening])


def _keys() -> tuple[str, ...]:
    from voltscreen.errors import SettingsError
    from voltscreen.settings import settings

    known = settings().api_keys
    text = "" if known is None else known.get_secret_value()
    keys = tuple(part.strip() for part in text.split(",") if part.strip())
    if any(len(key) < SHORTEST_KEY for key in keys):
        raise SettingsError(
            f"a key in VOLTSCREEN_API_KEYS has fewer than {SHORTEST_KEY} characters: make one "
            "with python -c 'import secrets; print(secrets.token_urlsafe(24))'"
        )
    return keys


def _listen(host: str, port: int) -> socket.socket:
    import socket

    from voltscreen.errors import ServiceError

    try:
        return socket.create_server((host, port), family=_family(host))
    except OSError as error:
        raise ServiceError(
            f"cannot listen on {host}:{port}: {error.strerror}; take another with --port"
        ) from None


def _family(host: str) -> socket.AddressFamily:
    import socket

    return socket.AF_INET6 if ":" in host else socket.AF_INET
