"""The embedded MongoDB server: a process of its own, shared by all processes of the user.

`mongod` is used when it is on PATH, else SecantusDB, started by its own command line. It listens
on the loopback only and lets in one user, whose generated password stands in its state file. Its
data, log and state file lie in the folder `db` of the voltscreen home, readable by their owner
alone.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from voltscreen.errors import DatabaseError, MissingPackageError
from voltscreen.process import ProcessId, command_line

HOST = "127.0.0.1"
START_SECONDS = 60.0
STOP_SECONDS = 30.0
_STATE, _LOCK, _LOG, _DATA = "server.json", "lock", "server.log", "data"


@dataclass(frozen=True, slots=True)
class ServerState:
    """A server that was started.

    pid, started: its process (see `ProcessId`); port: TCP port on 127.0.0.1; program: `mongod`
    or `secantusd-py`; data: folder of its files; password: of its user, empty while it lets
    everybody in.
    """

    pid: int
    started: str
    port: int
    program: str
    data: str
    password: str = field(default="", repr=False)

    @property
    def uri(self) -> str:
        """Connection string, with the password."""
        from voltscreen.store.users import USER

        if not self.password:
            return self.address
        return f"mongodb://{USER}:{self.password}@{HOST}:{self.port}/?authSource=admin"

    @property
    def address(self) -> str:
        """Connection string without user and password, to be shown."""
        return f"mongodb://{HOST}:{self.port}/"

    def is_ours(self) -> bool:
        """Whether the process still runs and is the server that this state describes."""
        return ProcessId(self.pid, self.started).is_alive() and self.data in command_line(self.pid)


def folder(home: Path) -> Path:
    """Where the embedded server keeps its files."""
    return home / "db"


def running(home: Path) -> ServerState | None:
    """The server of that home if it runs; a stale state file or a reused pid counts as none."""
    state = _read_state(home)
    return state if state is not None and state.is_ours() else None


def start(home: Path) -> ServerState:
    """The running server of that home, started when it does not run.

    Processes that call this at the same time get the same server.

    Raises:
        MissingPackageError: no server program is installed.
        DatabaseError: the program does not come up; the message holds the end of its log.
    """
    state = running(home)
    if state is not None and state.password and _listens(state.port):
        return state
    base = folder(home)
    try:
        base.mkdir(mode=0o700, parents=True, exist_ok=True)
        base.chmod(0o700)
    except OSError as error:
        raise DatabaseError(
            f"cannot make the folder of the embedded database, {base}: {error.strerror}; "
            "set VOLTSCREEN_HOME to a folder that you can write to"
        ) from None
    with _locked(base):
        state = running(home)
        if state is None:
            state = _launch(home)
        _wait_until_up(state, base)
        return state if state.password else _close_door(home, state)


def stop(home: Path) -> bool:
    """Stop the server of that home: SIGTERM, then SIGKILL; False when none was running."""
    base = folder(home)
    if not base.is_dir():
        return False
    with _locked(base):
        state = running(home)
        if state is not None:
            _terminate(state)
        # The state file stays: a server that is started again takes the same port if it is free.
        return state is not None


def find_program() -> tuple[str, Path]:
    """Name and path of the server program: `mongod` on PATH, else SecantusDB.

    Raises:
        MissingPackageError: neither is installed.
    """
    mongod = shutil.which("mongod")
    if mongod:
        return "mongod", Path(mongod)
    name = "secantusd-py"
    beside = Path(sys.executable).parent / name
    found = str(beside) if os.access(beside, os.X_OK) else shutil.which(name)
    if found:
        return name, Path(found)
    raise MissingPackageError(
        "no MongoDB server is installed: pip install 'voltscreen[embedded]', or set "
        "VOLTSCREEN_MONGO_URI to the server that you use"
    )


def _close_door(home: Path, state: ServerState) -> ServerState:
    """Give a server that lets everybody in its user, and start it again for that user alone."""
    from voltscreen.store.users import set_password

    base = folder(home)
    password = secrets.token_urlsafe(24)
    set_password(state.uri, password)
    _terminate(state)
    _write_state(base, replace(state, password=password))
    closed = _launch(home)
    _wait_until_up(closed, base)
    return closed


def _command(program: str, path: Path, port: int, base: Path, *, closed: bool) -> list[str]:
    data = base / _DATA
    data.mkdir(mode=0o700, exist_ok=True)
    auth = ["--auth"] if closed else []
    if program == "mongod":
        return [
            str(path), "--bind_ip", HOST, "--port", str(port), "--dbpath", str(data), "--quiet",
            *auth,
        ]  # fmt: skip
    # An empty configuration of our own keeps a file lying elsewhere from having a say.
    config = base / "server.toml"
    config.touch(mode=0o600)
    return [
        str(path), "--config", str(config), "--host", HOST, "--port", str(port),
        "--storage-path", str(data), "--sync-on-commit", "--standalone",
        "--log-level", "WARNING", *auth,
    ]  # fmt: skip


def _launch(home: Path) -> ServerState:
    """Start the program and write its state file; must be called with the lock held."""
    base = folder(home)
    program, path = find_program()
    old = _read_state(home)
    # The port of last time, so that a my_launchpad.yaml written then still fits.
    port = old.port if old is not None and _is_free(old.port) else _free_port()
    password = "" if old is None else old.password
    log = os.open(base / _LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        process = subprocess.Popen(
            _command(program, path, port, base, closed=bool(password)),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=base,
            # The server outlives the command that needed it first, and its Ctrl-C.
            start_new_session=True,
            umask=0o077,
        )
    except OSError as error:
        raise DatabaseError(f"cannot start the embedded database {path}: {error}") from None
    finally:
        os.close(log)
    # Nobody will wait for it: a server is no child of the command that started it.
    process.returncode = 0
    identity = ProcessId.of(process.pid) or ProcessId(process.pid, "")
    state = ServerState(process.pid, identity.started, port, program, str(base / _DATA), password)
    _write_state(base, state)
    return state


def _wait_until_up(state: ServerState, base: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not _listens(state.port):
        if not ProcessId(state.pid, state.started).is_alive() or time.monotonic() > deadline:
            raise DatabaseError(
                f"the embedded database ({state.program}) did not start: "
                f"{_last_line(base / _LOG)}; the whole log is {base / _LOG}"
            )
        time.sleep(0.05)


def _terminate(state: ServerState) -> None:
    for number, seconds in ((signal.SIGTERM, STOP_SECONDS), (signal.SIGKILL, STOP_SECONDS)):
        if not state.is_ours():
            return
        os.kill(state.pid, number)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            _reap(state.pid)
            if not ProcessId(state.pid, state.started).is_alive():
                return
            time.sleep(0.05)
    raise DatabaseError(f"the embedded database (process {state.pid}) does not stop")


def _reap(pid: int) -> None:
    """Collect the server if it happens to be a child of this process."""
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


@contextmanager
def _locked(base: Path) -> Iterator[None]:
    """Hold the lock file; the system lets go of it when the process dies."""
    descriptor = os.open(base / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _read_state(home: Path) -> ServerState | None:
    try:
        return ServerState(**json.loads((folder(home) / _STATE).read_text()))
    except (OSError, ValueError, TypeError):
        return None


def _write_state(base: Path, state: ServerState) -> None:
    write_private(base / _STATE, json.dumps(asdict(state)))


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner reads, whole or not at all."""
    part = path.with_suffix(f".{os.getpid()}.part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    part.replace(path)


def _last_line(log: Path) -> str:
    try:
        lines = log.read_text(errors="replace").strip().splitlines()
    except OSError:
        lines = []
    return lines[-1] if lines else "it wrote no log"


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex((HOST, port)) == 0


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
    return port
