"""The SLURM of slurm/test_cluster, brought up for tests and benchmarks, and what they do to it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

REPOSITORY = Path(__file__).resolve().parents[2]
SCRIPTS = REPOSITORY / "slurm" / "test_cluster"
SITE = REPOSITORY / "slurm" / "sites" / "test_cluster.yaml"
PROGRAMS = ("slurmctld", "slurmd", "slurmdbd", "sbatch", "squeue", "munged", "mariadbd")


def why_not() -> str | None:
    """Why there can be no SLURM here; None where there can."""
    if os.geteuid() != 0:
        return "SLURM's test cluster must be started by root"
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        return (
            f"SLURM is not installed ({', '.join(missing)} missing): "
            "apt-get install slurm-wlm slurmdbd mariadb-server munge"
        )
    return None


class Cluster:
    """A running test cluster."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {"CLUSTER": str(folder), "SLURM_CONF": str(folder / "slurm.conf")}

    def up(self, *, accounting: bool = True) -> None:
        """Start what does not run."""
        log = self.folder.with_suffix(".up.log")
        # A file, because the daemons would keep a pipe open.
        with log.open("w") as said:
            done = subprocess.run(
                [SCRIPTS / "up.sh"],
                env={**os.environ, **self.environment, "ACCOUNTING": str(int(accounting))},
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                timeout=180,
                check=False,
            )
        assert done.returncode == 0, log.read_text()

    def down(self) -> None:
        """Stop it and remove its files."""
        subprocess.run(
            [SCRIPTS / "down.sh"],
            env={**os.environ, **self.environment, "WIPE": "1"},
            stdin=subprocess.DEVNULL,
            timeout=120,
            check=True,
        )

    def ask(self, *command: object) -> str:
        """Standard output of a SLURM command."""
        done = subprocess.run(
            [str(part) for part in command],
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def kill_node(self, name: str) -> None:
        """kill -9 of a slurmd."""
        file = self.folder / "run" / f"slurmd.{name}.pid"
        os.kill(int(file.read_text()), signal.SIGKILL)
        file.unlink()

    def clear(self) -> None:
        """No job is left, every node is back."""
        self.ask("scancel", "--user=root")
        until(lambda: not self.ask("squeue", "--noheader"), 60)


def up_cluster() -> tuple[Cluster, bool]:
    """The cluster of $CLUSTER or the default one, running; whether it was started here."""
    cluster = Cluster(Path(os.environ.get("CLUSTER", "/var/tmp/voltscreen-slurm")))
    pid = cluster.folder / "run" / "slurmctld.pid"
    ran = pid.exists() and Path(f"/proc/{pid.read_text().strip()}").exists()
    cluster.up()
    return cluster, not ran


class Users:
    """The processes of a test run that use the cluster: the last one stops it."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._ours = folder, folder / "started-here"
        self._me = folder / str(os.getpid())

    def enter(self, *, started: bool) -> None:
        """This process uses it; started: and nobody had before."""
        self._folder.mkdir(exist_ok=True)
        self._me.touch()
        if started:
            self._ours.touch()

    def leave(self) -> bool:
        """Whether the cluster is to be stopped now."""
        self._me.unlink()
        living = [
            path.name
            for path in self._folder.iterdir()
            if path.name.isdigit() and Path(f"/proc/{path.name}").exists()
        ]
        if living or not self._ours.exists():
            return False
        shutil.rmtree(self._folder)
        return True


@contextmanager
def alone(lock: Path) -> Iterator[None]:
    """One process of a test run at a time."""
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def until(condition: Callable[[], Any], seconds: float, step: float = 0.2) -> Any:
    """What the condition gives as soon as it is true.

    Raises:
        TimeoutError: it did not become true in time.
    """
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds} s: {condition}")
        time.sleep(step)
    return found


class Stall:
    """Workers with this failpoint stop in the middle of a batch, until they are let go on.

    Those that come later, such as requeued ones, go on at once.
    """

    def __init__(self, point: str = "predict.chunk") -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._held: list[socket.socket] = []
        self._holding = True
        self._lock = threading.Lock()
        port = self._listener.getsockname()[1]
        self.environment = {
            "VOLTSCREEN_FAILPOINT": f"{point}:call",
            "VOLTSCREEN_FAILPOINT_CALL": f"127.0.0.1:{port}",
        }
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.let_go()
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                line = self._listener.accept()[0]
                with self._lock:
                    if self._holding:
                        self._held.append(line)
                    else:
                        line.close()

    def wait(self, count: int = 1, seconds: float = 400) -> None:
        """Until so many workers have stopped."""
        until(lambda: len(self._held) >= count, seconds)

    def let_go(self) -> None:
        """Let those that have stopped go on."""
        with self._lock:
            self._holding = False
            for line in self._held:
                line.close()
            self._held.clear()
