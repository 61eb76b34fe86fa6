"""The Materials Project: a filter of its summary endpoint, its client, its documents as ours."""

from voltscreen.sources.mp.client import MPClient, heartbeat
from voltscreen.sources.mp.documents import KnownElectrode, Material
from voltscreen.sources.mp.query import MPQuery, parse_query

__all__ = ["KnownElectrode", "MPClient", "MPQuery", "Material", "heartbeat", "parse_query"]
