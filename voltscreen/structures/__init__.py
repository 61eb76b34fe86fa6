"""A crystal as arrays: packing, content hash, checks, host states and provenance."""

from voltscreen.structures.candidate import Candidate, Measurement, Refused, SourceRef
from voltscreen.structures.host import Host, HostState, make_host
from voltscreen.structures.overlap import overlapping, refuse_overlap
from voltscreen.structures.packed import PackedStructure

__all__ = [
    "Candidate",
    "Host",
    "HostState",
    "Measurement",
    "PackedStructure",
    "Refused",
    "SourceRef",
    "make_host",
    "overlapping",
    "refuse_overlap",
]
