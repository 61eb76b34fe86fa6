"""The application over the small campaign."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

KEY = "a-key-of-the-tests-0123456789"


@pytest.fixture(scope="module")
def client(filled) -> Iterator[object]:
    """A client of the application in this process."""
    from fastapi.testclient import TestClient

    from voltscreen.web.app import ServerOptions, create_app

    app = create_app(ServerOptions(keys=(KEY,), per_minute=1e6))
    with TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False) as opened:
        yield opened
