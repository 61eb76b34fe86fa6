"""The known hosts as candidates."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence

from voltscreen.errors import SpecError
from voltscreen.sources.known_hosts import KnownHost, known_hosts
from voltscreen.structures import Candidate, Measurement, PackedStructure, Refused, SourceRef


def select_hosts(value: object) -> list[KnownHost]:
    """`all`, or the hosts of these names.

    Raises:
        SpecError: not `all` nor a list of names, or a name that no host has.
    """
    hosts = {host.name: host for host in known_hosts()}
    if value == "all":
        return list(hosts.values())
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise SpecError("source.hosts: give all, or a list of names of known hosts")
    for name in value:
        if name not in hosts:
            near = difflib.get_close_matches(str(name), hosts, n=3)
            hint = f"did you mean {', '.join(near)}?" if near else "see `voltscreen ingest hosts`"
            raise SpecError(f"source.hosts: there is no known host {name!r}; {hint}")
    return [hosts[str(name)] for name in dict.fromkeys(value)]


def read_hosts(hosts: Sequence[KnownHost]) -> Iterator[Candidate | Refused]:
    """Each known host as a candidate, with what was measured on it."""
    for host in hosts:
        yield Candidate(
            structure=PackedStructure.from_pymatgen(host.structure()),
            ref=SourceRef("hosts", host.name),
            label=host.label,
            measured=tuple(
                Measurement(
                    ion=measured.ion,
                    voltage=measured.voltage,
                    reference=measured.reference,
                    uncertainty=measured.uncertainty,
                    insertion=measured.kind == "insertion",
                    note=measured.note,
                )
                for measured in host.measured
            ),
        )
