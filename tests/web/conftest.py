"""A database with a small campaign for a whole module, and the application over it."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.web.small_campaign import make_campaign

KEY = "a-key-of-the-tests-0123456789"


@pytest.fixture(scope="module")
def filled(server_home: Path) -> Iterator[object]:
    """An open store with the campaign `hosts`; the environment names its database."""
    from voltscreen.settings import settings
    from voltscreen.store import connect

    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("VOLTSCREEN_")]:
            patch.delenv(name)
        patch.setenv("VOLTSCREEN_HOME", str(server_home))
        patch.setenv("VOLTSCREEN_DATABASE", f"test-{uuid.uuid4().hex[:12]}")
        patch.setenv("VOLTSCREEN_API_KEYS", f"another-key-0123456789,{KEY}")
        patch.setenv("PYTHONPATH", str(REPOSITORY))
        patch.delenv("MP_API_KEY", raising=False)
        patch.delenv("PMG_MAPI_KEY", raising=False)
        settings.cache_clear()
        with connect() as store:
            make_campaign(store)
            yield store
            store.database.client.drop_database(store.database.name)
    settings.cache_clear()


@pytest.fixture(scope="module")
def client(filled) -> Iterator[object]:
    """A client of the application in this process."""
    from fastapi.testclient import TestClient

    from voltscreen.web.app import ServerOptions, create_app

    app = create_app(ServerOptions(keys=(KEY,), per_minute=1e6))
    with TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False) as opened:
        yield opened
