"""Local voltages by element, for the page: of the best of a ranking, so that it answers at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from voltscreen.explain.local_voltages import site_voltages
from voltscreen.store import Store
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
    sites = site_voltages(store, ids, ion, model_id)
    counted = sites.oxygen if oxygen else np.ones(len(sites), np.bool_)
    values: dict[str, tuple[float, int]] = {}
    for z in np.unique(sites.atomic_numbers):
        own = sites.additive[(sites.atomic_numbers == z) & counted]
        if len(own) >= FEWEST:
            values[element_symbol(int(z))] = (float(np.median(own)), len(own))
    return ElementVoltages(values, len(ids))
