"""Local voltages by element, for the page: of the best of a ranking, so that it answers at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from voltscreen.explain.environments import oxygen_environments
from voltscreen.store import Store, load_structures, unpack
from voltscreen.store.connection import find_by_ids
from voltscreen.store.documents import voltage_id
from voltscreen.structures import HostState, PackedStructure, make_host
from voltscreen.structures.packed import element_symbol

BEST = 400
"""Candidates whose sites are counted; `voltscreen explain periodic-table` takes all of them."""
FEWEST = 3
"""Sites of an element below which its median says little."""


@dataclass(frozen=True, slots=True)
class ElementVoltages:
    """values: by element, median local voltage (V) and number of sites; of `hosts` candidates."""

    values: dict[str, tuple[float, int]]
    hosts: int


def element_voltages(
    store: Store, campaign: str, ion: str, model_id: str, *, oxygen: bool
) -> ElementVoltages:
    """Median local voltage by element over the best candidates.

    Args:
        oxygen: only sites with at least two O among their twelve neighbours.
    """
    rows = store.rankings.find(
        {"campaign": campaign, "ion": ion, "rank": {"$gte": 1, "$lte": BEST}}, {"structure_id": 1}
    )
    ids = [row["structure_id"] for row in rows]
    hosts, additive = _hosts(store, ids, ion, model_id)
    if not hosts:
        return ElementVoltages({}, 0)
    numbers = np.concatenate([host.atomic_numbers for host in hosts])
    voltages = np.concatenate(additive)
    counted = oxygen_environments(hosts)[0] if oxygen else np.ones(len(numbers), np.bool_)
    values: dict[str, tuple[float, int]] = {}
    for z in np.unique(numbers):
        own = voltages[(numbers == z) & counted]
        if len(own) >= FEWEST:
            values[element_symbol(int(z))] = (float(np.median(own)), len(own))
    return ElementVoltages(values, len(hosts))


def _hosts(
    store: Store, ids: Sequence[str], ion: str, model_id: str
) -> tuple[list[PackedStructure], list[NDArray[np.float32]]]:
    """Hosts of the structures that have a voltage, and their additive local voltages, V."""
    columns = ("structure_id", f"ions.{ion}.host_state", f"ions.{ion}.additive")
    keys = (voltage_id(key, model_id) for key in ids)
    found = {
        row["structure_id"]: row["ions"][ion]
        for row in find_by_ids(store.voltages, keys, columns)
        if "additive" in row.get("ions", {}).get(ion, {})
    }
    hosts, additive = [], []
    for key, document in load_structures(store, found).items():
        state = HostState(found[key]["host_state"])
        hosts.append(make_host(unpack(document), ion, state).structure)
        additive.append(np.frombuffer(found[key]["additive"], "<f4"))
    return hosts, additive
