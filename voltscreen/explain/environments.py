"""What surrounds every site of a host, and the local voltage there: the collection `environments`.

A document holds the sites of one host for one ion. Sites that are alike (same element, same
neighbours, local voltages equal to 1 mV) stand together with their number, which halves what is
stored of crystals with symmetry.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from voltscreen.graph import NEAREST, build_graphs
from voltscreen.screening.oxidation import formal_states
from voltscreen.store import Store, unpack
from voltscreen.store.connection import IN_CHUNK, Row, find_by_ids, insert_new
from voltscreen.store.documents import (
    EnvironmentDocument,
    SiteGroup,
    StructureDocument,
    environment_id,
    voltage_id,
)
from voltscreen.structures import HostState, PackedStructure, make_host
from voltscreen.structures.packed import element_symbol

CHUNK = 500
"""Structures held in memory at once."""
N_BAGS = 32
"""Bags that hosts are dealt into by their id; the bootstrap draws whole bags."""
_OXYGEN = 8


def oxygen_environments(
    hosts: Sequence[PackedStructure],
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Both readings of an oxygen environment, for the atoms of all hosts one after another.

    Returns:
        (n,) at least two O among the twelve nearest; (n,) the two nearest are both O.
    """
    neighbors = _Neighbors(hosts)
    return neighbors.oxygen, neighbors.nearest_oxygen


class _Neighbors:
    """The twelve nearest neighbours of the n atoms of hosts, one host after another.

    oxygen, nearest_oxygen: (n,) bool, as for `oxygen_environments`. kinds: n counts by element.
    """

    def __init__(self, hosts: Sequence[PackedStructure]) -> None:
        graphs = build_graphs(hosts, NEAREST)
        degree = np.diff(graphs.edge_offsets)
        receiver = np.repeat(np.arange(len(degree)), degree)
        sent = graphs.atomic_numbers[graphs.neighbors]
        is_oxygen = sent == _OXYGEN
        self.oxygen = np.bincount(receiver, is_oxygen, len(degree)) >= 2
        order = np.lexsort((graphs.distances, receiver))
        place = np.arange(len(order)) - graphs.edge_offsets[:-1][receiver]
        first_two = is_oxygen[order] & (place < 2)
        self.nearest_oxygen = np.bincount(receiver, first_two, len(degree)) == 2
        self._pairs, self._counts = np.unique(receiver * 128 + sent, return_counts=True)

    @property
    def kinds(self) -> list[dict[str, int]]:
        """Neighbours of every atom by element, in order of atomic number."""
        kinds: list[dict[str, int]] = [{} for _ in range(len(self.oxygen))]
        for pair, count in zip(self._pairs.tolist(), self._counts.tolist(), strict=True):
            kinds[pair // 128][element_symbol(pair % 128)] = count
        return kinds


def site_groups(
    hosts: Sequence[PackedStructure],
    additive: Sequence[NDArray[np.float32]],
    linear: Sequence[NDArray[np.float32] | None],
) -> list[list[SiteGroup]]:
    """The sites of every host, those that are alike together, in the order of their first site.

    Args:
        additive, linear: (n_atoms,) of every host, V; linear may be missing.
    """
    neighbors = _Neighbors(hosts)
    kinds, start, found = neighbors.kinds, 0, []
    for host, first, second in zip(hosts, additive, linear, strict=True):
        states = formal_states(host.element_counts) or {}
        groups: dict[tuple[object, ...], list[int]] = {}
        for site, symbol in enumerate(host.symbols):
            at = start + site
            key = (
                symbol, tuple(kinds[at].items()), neighbors.oxygen[at],
                neighbors.nearest_oxygen[at], round(float(first[site]), 3),
                None if second is None else round(float(second[site]), 3),
            )  # fmt: skip
            groups.setdefault(key, []).append(site)
        found.append(
            [
                SiteGroup(
                    element=host.symbols[sites[0]],
                    sites=sites,
                    count=len(sites),
                    neighbors=kinds[start + sites[0]],
                    oxygen=bool(neighbors.oxygen[start + sites[0]]),
                    nearest_oxygen=bool(neighbors.nearest_oxygen[start + sites[0]]),
                    oxidation_state=states.get(host.symbols[sites[0]]),
                    additive=float(first[sites].mean()),
                    linear=None if second is None else float(second[sites].mean()),
                )
                for sites in groups.values()
            ]
        )
        start += len(host)
    return found


def write_environments(
    store: Store,
    campaign: str,
    ids: Iterable[str],
    ion: str,
    model_id: str,
    progress: Callable[[int], None] | None = None,
) -> int:
    """See to it that these structures, those with a voltage, have their sites on record.

    What another campaign wrote is only marked as this one's, too.

    Args:
        campaign: by whose name the documents are found. ids: structures, its members.
        progress: called with the number of structures of every chunk.

    Returns:
        Documents of the campaign on record.
    """
    count = 0
    for chunk in _chunks(ids):
        keys = {environment_id(key, model_id, ion): key for key in chunk}
        have = {
            row["_id"]: campaign in row["campaigns"]
            for row in find_by_ids(store.environments, keys, ("campaigns",))
        }
        new = [key for full, key in keys.items() if full not in have]
        documents = list(_documents(store, campaign, new, ion, model_id))
        insert_new(store.environments, documents)
        count += len(have) + len(documents)
        _mark(store, campaign, [full for full, marked in have.items() if not marked])
        if progress:
            progress(len(chunk))
    return count


def _mark(store: Store, campaign: str, keys: list[str]) -> None:
    """Say of documents that another campaign wrote that they are this one's, too."""
    for start in range(0, len(keys), IN_CHUNK):
        store.environments.update_many(
            {"_id": {"$in": keys[start : start + IN_CHUNK]}}, {"$addToSet": {"campaigns": campaign}}
        )


def _documents(
    store: Store, campaign: str, ids: list[str], ion: str, model_id: str
) -> Iterator[EnvironmentDocument]:
    """Of those among the structures that have a voltage by the model."""
    columns = [f"ions.{ion}.{name}" for name in ("voltage", "host_state", "additive", "linear")]
    found: dict[str, Row] = {
        row["structure_id"]: row["ions"][ion]
        for row in find_by_ids(
            store.voltages, (voltage_id(key, model_id) for key in ids), ("structure_id", *columns)
        )
        if "voltage" in row.get("ions", {}).get(ion, {})
    }
    hosts: dict[str, PackedStructure] = {}
    for row in find_by_ids(store.structures, found):
        structure = unpack(StructureDocument.from_mongo(row))
        state = HostState(found[row["_id"]]["host_state"])
        hosts[row["_id"]] = make_host(structure, ion, state).structure
    if not hosts:
        return
    groups = site_groups(
        list(hosts.values()),
        [np.frombuffer(found[key]["additive"], "<f4") for key in hosts],
        [
            np.frombuffer(found[key]["linear"], "<f4") if "linear" in found[key] else None
            for key in hosts
        ],
    )
    for (key, host), sites in zip(hosts.items(), groups, strict=True):
        yield EnvironmentDocument(
            id=environment_id(key, model_id, ion),
            campaigns=[campaign],
            structure_id=key,
            model_id=model_id,
            ion=ion,
            formula=host.formula,
            elements=sorted(host.element_counts),
            bag=int(key[:4], 16) % N_BAGS,
            sites=sites,
        )


def _chunks(ids: Iterable[str]) -> Iterator[list[str]]:
    iterator = iter(ids)
    while chunk := list(islice(iterator, CHUNK)):
        yield chunk
