"""Whether the nodes can reach the database."""

from __future__ import annotations

import ipaddress
import socket

from voltscreen.cluster.commands import SlurmError, table
from voltscreen.cluster.site import Site


def refuse_loopback(uri: str, site: Site) -> None:
    """Refuse when only this machine reaches the database and the nodes are others.

    Args:
        uri: connection string of the database.

    Raises:
        SlurmError: says which nodes, and what to do.
    """
    hosts = uri.partition("://")[2].rpartition("@")[2].partition("/")[0].split(",")
    if not all(_is_loopback(host.rpartition(":")[0] or host) for host in hosts):
        return
    others = [name for name, address in _nodes(site) if not _is_here(name, address)]
    if others:
        shown = ", ".join(others[:5]) + (" ..." if len(others) > 5 else "")
        raise SlurmError(
            f"the database listens on {', '.join(hosts)}, which only this machine reaches, and "
            f"{len(others)} nodes of the partition are other hosts ({shown}): set "
            "VOLTSCREEN_MONGO_URI to a MongoDB that they reach, or export batch files "
            "(voltscreen campaign export)"
        )


def _nodes(site: Site) -> set[tuple[str, str]]:
    """Name and address of the nodes that jobs may run on."""
    rows = table(("Partition", "NodeHost", "NodeAddr"), "sinfo", "--noheader", "--Node")
    wanted = site.partition.split(",") if site.partition else None
    return {
        (row["NodeHost"], row["NodeAddr"])
        for row in rows
        if (row["Partition"].rstrip("*") in wanted if wanted else row["Partition"].endswith("*"))
    }


def _is_loopback(host: str) -> bool:
    name = host.strip("[]")
    if name.startswith("/") or name.endswith(".sock") or name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _is_here(name: str, address: str) -> bool:
    """Whether a node is this machine: one can only listen on addresses of one's own."""
    if name in (socket.gethostname(), socket.gethostname().partition(".")[0]):
        return True
    with socket.socket() as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True
