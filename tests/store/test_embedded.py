"""The embedded server as a process: one for all, found again, stopped, survives a kill."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pymongo
import pytest

from voltscreen.errors import DatabaseError, MissingPackageError
from voltscreen.process import command_line
from voltscreen.settings import load_settings
from voltscreen.store import connect, embedded
from voltscreen.store.connection import mask, mask_uri


@pytest.fixture
def home(tmp_path):
    yield tmp_path
    embedded.stop(tmp_path)


def test_one_server_is_started_by_many_and_keeps_its_data_through_a_kill(home) -> None:
    code = (
        "import sys, pathlib; from voltscreen.store import embedded; "
        "print(embedded.start(pathlib.Path(sys.argv[1])).pid)"
    )
    starters = [
        subprocess.Popen([sys.executable, "-c", code, str(home)], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    pids = {process.communicate(timeout=120)[0].strip() for process in starters}
    assert len(pids) == 1
    state = embedded.running(home)
    assert state is not None
    assert str(state.pid) in pids
    with pymongo.MongoClient(state.uri) as client:
        client.x.y.insert_many([{"_id": i} for i in range(500)])
    os.kill(state.pid, signal.SIGKILL)
    deadline = time.monotonic() + 20
    while embedded.running(home) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert embedded.running(home) is None
    again = embedded.start(home)
    assert again.pid != state.pid
    with pymongo.MongoClient(again.uri) as client:
        assert client.x.y.count_documents({}) == 500
    assert stat.S_IMODE(embedded.folder(home).stat().st_mode) == 0o700
    assert embedded.stop(home) is True
    assert embedded.stop(home) is False
    assert embedded.running(home) is None


def test_the_port_of_last_time_is_taken_again_when_it_is_free(home) -> None:
    base = embedded.folder(home)
    base.mkdir()
    port = embedded._free_port()
    (base / "server.json").write_text(
        f'{{"pid": 1, "started": "0", "port": {port}, "program": "x", "data": "/x"}}'
    )
    # A my_launchpad.yaml that was written then still fits.
    assert embedded.start(home).port == port


def test_a_stranger_with_our_old_pid_is_neither_used_nor_killed(home) -> None:
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        embedded.folder(home).mkdir()
        (embedded.folder(home) / "server.json").write_text(
            f'{{"pid": {stranger.pid}, "started": "1", "port": 1, "program": "x", "data": "/x"}}'
        )
        assert embedded.running(home) is None
        assert embedded.stop(home) is False
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_without_a_server_program_the_error_says_what_to_install(home, monkeypatch) -> None:
    monkeypatch.setattr(embedded.shutil, "which", lambda name: None)
    monkeypatch.setattr(embedded.sys, "executable", str(home / "python"))
    with pytest.raises(MissingPackageError, match=r"pip install 'voltscreen\[embedded\]'"):
        embedded.start(home)


def test_an_unreachable_server_is_one_sentence_without_the_password(home) -> None:
    config = load_settings(
        home=home,
        mongo_uri="mongodb://anna:geheim@127.0.0.1:9/x?authSource=admin",
        connect_timeout=0.3,
    )
    with pytest.raises(DatabaseError, match="VOLTSCREEN_MONGO_URI") as caught:
        connect(config)
    assert caught.value.exit_code == 3
    assert "geheim" not in str(caught.value)
    assert "127.0.0.1:9" in str(caught.value)


def test_credentials_are_masked() -> None:
    uri = "mongodb://anna:geheim@host:27017/db?authSource=admin"
    assert mask_uri(uri) == "mongodb://***@host:27017"
    assert "geheim" not in mask(f"bad {uri} or geheim", uri)


def test_only_its_user_is_let_in_and_its_files_are_its_owners(home) -> None:
    state = embedded.start(home)
    assert len(state.password) >= 32
    assert state.password not in repr(state)
    assert state.password not in state.address
    with pymongo.MongoClient(state.uri) as client:
        client.x.y.insert_one({"_id": 1})
    wrong = state.uri.replace(state.password, "wrong")
    for uri in (state.address, wrong):
        with (
            pymongo.MongoClient(uri) as client,
            pytest.raises(pymongo.errors.OperationFailure, match="authentication"),
        ):
            client.x.y.find_one()
    assert command_line(state.pid).count("--auth") == 1
    assert state.password not in command_line(state.pid)
    assert embedded.HOST == "127.0.0.1"
    for path in embedded.folder(home).rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
    # The password outlives the server.
    embedded.stop(home)
    assert embedded.start(home).password == state.password


def test_it_listens_on_the_loopback_only(home) -> None:
    state = embedded.start(home)
    rows = [line.split()[1:4] for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    # 0A is LISTEN; addresses are hexadecimal, the lowest byte first.
    listening = {address for address, _, code in rows if code == "0A"}
    assert f"0100007F:{state.port:04X}" in listening
    assert f"00000000:{state.port:04X}" not in listening


def test_a_server_of_before_gets_its_password_and_keeps_its_data(home, monkeypatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(embedded, "_close_door", lambda home, state: state)
        old = embedded.start(home)
    assert old.password == ""
    with pymongo.MongoClient(old.uri) as client:
        client.x.y.insert_one({"_id": 1})
        client.admin.command("createUser", "stranger", pwd="x", roles=["root"])
        # A start that was cut off has left the user with a password that nobody knows.
        client.admin.command("createUser", "voltscreen", pwd="lost", roles=["root"])
    new = embedded.start(home)
    assert new.password
    assert new.port == old.port
    with pymongo.MongoClient(new.uri) as client:
        assert client.x.y.count_documents({}) == 1
        assert [user["user"] for user in client.admin.command("usersInfo")["users"]] == [
            "voltscreen"
        ]
