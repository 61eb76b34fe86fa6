"""One door to all sources: what a campaign spec names, as a stream of candidates."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from voltscreen.errors import SpecError
from voltscreen.sources import files, hosts, mp, parquet
from voltscreen.structures import Candidate, Refused

SOURCE_KINDS = ("mp", "files", "parquet", "hosts")


def candidates(kind: str, value: object, base: Path) -> Iterator[Candidate | Refused]:
    """The items of a source, one by one; nothing is held in memory for longer than needed.

    Args:
        kind: `files` (a glob or a list of globs), `parquet` (a path, or {path, start, limit}) or
            `hosts` (`all` or a list of names). `mp` is no stream: what is fetched depends on what
            is stored.
        value: what the spec holds for it.
        base: folder that relative paths start from.

    Raises:
        SpecError: the value does not fit the kind, or names nothing.
        FileFormatError: a Parquet file that cannot be read at all.
    """
    if kind == "files":
        return files.read_files(files.find_files(value, base))
    if kind == "parquet":
        return parquet.read_table(parquet.parse_rows(value, base))
    if kind == "hosts":
        return hosts.read_hosts(hosts.select_hosts(value))
    raise _not_a_source(kind)


def _not_a_source(kind: str) -> SpecError:
    return SpecError(f"source.{kind}: unknown kind; choose from {', '.join(SOURCE_KINDS)}")


def fingerprint(kind: str, value: object, base: Path) -> str:
    """A hash that changes when a source may yield something else: files by path, size and time,
    the Materials Project by its release.

    Raises:
        As `candidates`. MaterialsProjectError: it does not answer.
    """
    if kind == "hosts":
        named = [host.model_dump_json() for host in hosts.select_hosts(value)]
    elif kind == "files":
        named = [_stamp(path) for path in files.find_files(value, base)]
    elif kind == "parquet":
        rows = parquet.parse_rows(value, base)
        parquet.count_rows(rows)
        named = [rows.model_dump_json(), _stamp(rows.path)]
    elif kind == "mp":
        named = [mp.parse_query(value).key, mp.heartbeat()]
    else:
        raise _not_a_source(kind)
    return hashlib.blake2b("\n".join(named).encode(), digest_size=16).hexdigest()


def _stamp(path: Path) -> str:
    state = path.stat()
    return f"{path} {state.st_size} {state.st_mtime_ns}"


def estimate(kind: str, value: object, base: Path) -> int:
    """How many items a source holds.

    Raises:
        As `candidates`. MaterialsProjectError, SettingsError: it does not answer, or not without
            a key.
    """
    if kind == "files":
        return len(files.find_files(value, base))
    if kind == "parquet":
        return parquet.count_rows(parquet.parse_rows(value, base))
    if kind == "hosts":
        return len(hosts.select_hosts(value))
    if kind == "mp":
        query = mp.parse_query(value)
        with mp.MPClient() as client:
            return client.count(query)
    raise _not_a_source(kind)
