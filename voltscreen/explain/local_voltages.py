"""Local voltages of many hosts, site by site, with what surrounds each site."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from voltscreen.graph import NEAREST, build_graphs
from voltscreen.store import Store, unpack
from voltscreen.store.connection import find_by_ids
from voltscreen.store.documents import StructureDocument, voltage_id
from voltscreen.structures import HostState, PackedStructure, make_host
from voltscreen.structures.packed import element_symbol

CHUNK = 500
"""Structures held in memory at once."""
_OXYGEN = 8


@dataclass(frozen=True, eq=False)
class SiteVoltages:
    """Local voltages for one ion of the sites of many hosts. n sites.

    atomic_numbers: (n,) uint8. host: (n,) int64, number of the host that the site is in.
    oxygen: (n,) bool, at least two O among the twelve neighbours (the paper's text).
    nearest_oxygen: (n,) bool, the two nearest neighbours are both O (the paper's code).
    additive, linear: (n,) float32, V; linear is NaN for a model without it.
    """

    atomic_numbers: NDArray[np.uint8]
    host: NDArray[np.int64]
    oxygen: NDArray[np.bool_]
    nearest_oxygen: NDArray[np.bool_]
    additive: NDArray[np.float32]
    linear: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.atomic_numbers)


def oxygen_environments(
    hosts: Sequence[PackedStructure],
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Both readings of an oxygen environment, for the atoms of all hosts one after another.

    Returns:
        (n,) at least two O among the twelve nearest; (n,) the two nearest are both O.
    """
    graphs = build_graphs(hosts, NEAREST)
    degree = np.diff(graphs.edge_offsets)
    receiver = np.repeat(np.arange(len(degree)), degree)
    is_oxygen = graphs.atomic_numbers[graphs.neighbors] == _OXYGEN
    many = np.bincount(receiver, is_oxygen, len(degree)) >= 2
    order = np.lexsort((graphs.distances, receiver))
    place = np.arange(len(order)) - graphs.edge_offsets[:-1][receiver]
    first_two = is_oxygen[order] & (place < 2)
    both = np.bincount(receiver, first_two, len(degree)) == 2
    return many, both


def site_voltages(store: Store, ids: Iterable[str], ion: str, model_id: str) -> SiteVoltages:
    """Local voltages of the structures among these that have a voltage by the model."""
    parts = [part for chunk in _chunks(ids) if (part := _part(store, chunk, ion, model_id))]
    offset, hosts = 0, []
    for part in parts:
        hosts.append(part.host + offset)
        offset += int(part.host[-1]) + 1

    def joined(name: str, dtype: type) -> NDArray[np.generic]:
        return np.concatenate([getattr(part, name) for part in parts] or [np.empty(0, dtype)])

    return SiteVoltages(
        atomic_numbers=joined("atomic_numbers", np.uint8).astype(np.uint8),
        host=np.concatenate(hosts) if hosts else np.empty(0, np.int64),
        oxygen=joined("oxygen", np.bool_).astype(np.bool_),
        nearest_oxygen=joined("nearest_oxygen", np.bool_).astype(np.bool_),
        additive=joined("additive", np.float32).astype(np.float32),
        linear=joined("linear", np.float32).astype(np.float32),
    )


def _part(store: Store, ids: list[str], ion: str, model_id: str) -> SiteVoltages | None:
    columns = [f"ions.{ion}.{name}" for name in ("voltage", "host_state", "additive", "linear")]
    found = {
        row["structure_id"]: row["ions"][ion]
        for row in find_by_ids(
            store.voltages, (voltage_id(key, model_id) for key in ids), ("structure_id", *columns)
        )
        if "voltage" in row.get("ions", {}).get(ion, {})
    }
    hosts, rows = [], []
    for row in find_by_ids(store.structures, found):
        entry = found[row["_id"]]
        structure = unpack(StructureDocument.from_mongo(row))
        hosts.append(make_host(structure, ion, HostState(entry["host_state"])).structure)
        rows.append(entry)
    if not hosts:
        return None
    oxygen, nearest = oxygen_environments(hosts)
    sizes = [len(host) for host in hosts]
    nothing = [np.full(size, np.nan, np.float32).tobytes() for size in sizes]
    return SiteVoltages(
        atomic_numbers=np.concatenate([host.atomic_numbers for host in hosts]),
        host=np.repeat(np.arange(len(hosts)), sizes),
        oxygen=oxygen,
        nearest_oxygen=nearest,
        additive=np.frombuffer(b"".join(row["additive"] for row in rows), "<f4"),
        linear=np.frombuffer(
            b"".join(row.get("linear", nan) for row, nan in zip(rows, nothing, strict=True)), "<f4"
        ),
    )


def element_medians(
    sites: SiteVoltages, values: NDArray[np.floating]
) -> dict[tuple[str, bool], tuple[float, int]]:
    """By (element, oxygen environment): median of the values in V, and number of sites.

    Args:
        values: (n,) one of the definitions of the local voltage, V.
    """
    medians = {}
    for z in np.unique(sites.atomic_numbers):
        for environment in (False, True):
            chosen = values[(sites.atomic_numbers == z) & (sites.oxygen == environment)]
            if len(chosen):
                medians[element_symbol(int(z)), environment] = (
                    float(np.median(chosen)), len(chosen),
                )  # fmt: skip
    return medians


def _chunks(ids: Iterable[str]) -> Iterator[list[str]]:
    iterator = iter(ids)
    while chunk := list(islice(iterator, CHUNK)):
        yield chunk
