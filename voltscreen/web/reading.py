"""Uploaded structures, read in a process of its own that is bounded in time and memory."""

from __future__ import annotations

import json
import re
import select
import subprocess
import sys
import threading
from pathlib import PurePosixPath
from typing import IO

from voltscreen.errors import FileFormatError, StructureError
from voltscreen.structures import PackedStructure
from voltscreen.web import reading_process as child

MAX_LINES = 20_000
SECONDS = 15.0
"""A structure of `MAX_ATOMS` atoms is read in one."""
START_SECONDS = 300.0
_COMPRESSED = {b"PK\x03\x04": "a zip archive", b"\x1f\x8b": "a gzip file", b"BZh": "a bzip2 file",
               b"\xfd7zXZ": "an xz file", b"7z\xbc\xaf": "a 7z archive"}  # fmt: skip
_NAME = re.compile(r"[^A-Za-z0-9._ -]")


class Reader:
    """Reads uploads one at a time; a file that takes too long costs its process, and no more."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process, so that the first upload does not wait for it."""
        with self._lock:
            self._ready()

    def close(self) -> None:
        """Stop the process."""
        with self._lock:
            self._stop()

    def read(self, name: str, data: bytes) -> PackedStructure:
        """The structure of an upload.

        Args:
            name: as the browser gave it; only its last part counts.

        Raises:
            FileFormatError: not a structure file, or one that takes too much to read.
            StructureError: read, but nothing that can be predicted.
        """
        name = plain_name(name)
        request = json.dumps([name, _text(name, data)]).encode()
        with self._lock:
            process = self._ready()
            answer = None
            try:
                child.put(_pipe(process.stdin), request)
                answer = _take(process, SECONDS)
            except OSError:
                pass
            if answer is None:
                self._stop()
                raise FileFormatError(
                    f"{name} takes too long or too much memory to read: give one crystal of at "
                    f"most {child.MAX_ATOMS} atoms"
                )
        kind, content = answer[:1], answer[1:]
        if kind == child.STRUCTURE:
            return PackedStructure.from_bytes(content)
        error = StructureError if kind == child.NO_STRUCTURE else FileFormatError
        raise error(content.decode())

    def _ready(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            self._stop()
            command = [sys.executable, "-m", child.__name__]
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            self._process = process
            if _take(process, START_SECONDS) is None:
                self._stop()
                raise FileFormatError("the reader of structure files does not start; try again")
        return self._process

    def _stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            _pipe(self._process.stdin).close()
            _pipe(self._process.stdout).close()
        self._process = None


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    if pipe is None:
        raise OSError("the process was started without pipes")
    return pipe


def _take(process: subprocess.Popen[bytes], seconds: float) -> bytes | None:
    """An answer of the process; None where none comes in time."""
    pipe = _pipe(process.stdout)
    there, _, _ = select.select([pipe], [], [], seconds)
    return child.take(pipe) if there else None


def plain_name(name: str) -> str:
    """A file's name without folders and without letters that mean anything elsewhere."""
    last = PurePosixPath(name.replace("\\", "/")).name[-100:]
    return _NAME.sub("_", last) or "structure"


def _text(name: str, data: bytes) -> str:
    for start, kind in _COMPRESSED.items():
        if data.startswith(start):
            raise FileFormatError(f"{name} is {kind}: give the structure file itself")
    if b"\0" in data:
        raise FileFormatError(f"{name} is not a text file: give a CIF, POSCAR or pymatgen JSON")
    text = data.decode("utf-8", "replace")
    if text.count("\n") > MAX_LINES:
        raise FileFormatError(
            f"{name} has more than {MAX_LINES:,} lines: give one crystal of at most "
            f"{child.MAX_ATOMS} atoms"
        )
    return text
