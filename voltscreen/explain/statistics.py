"""Local voltages by element, environment and oxidation state, over a whole campaign.

The database counts: sites are grouped by element and by bins of 0.02 V, in 32 bags of hosts, and
what comes back is no larger for a campaign of a million structures. Medians and quartiles are
interpolated in their bin. Sites of one host are alike, so the bootstrap draws bags of hosts.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from voltscreen.explain.environments import N_BAGS
from voltscreen.store import Store

BINS_PER_VOLT = 50
DRAWS = 1000
_BIN_SHIFT = 1 << 20
"""A bag and a bin travel as one number; no local voltage is beyond 10,000 V."""


class Definition(StrEnum):
    """Which local voltage."""

    ADDITIVE = "additive"
    """Integrated gradients of the deployed readout."""
    LINEAR = "linear"
    """The paper's eq. 2."""


class Environment(StrEnum):
    """Which sites."""

    ALL = "all"
    OXYGEN = "oxygen"
    """At least two O among the twelve nearest neighbours: the paper's text."""
    NEAREST_OXYGEN = "nearest-oxygen"
    """The two nearest neighbours are both O: the paper's code."""
    OTHER = "other"
    """Fewer than two O among the twelve."""

    @property
    def condition(self) -> dict[str, bool]:
        """What holds of such a site's fields."""
        return {
            Environment.ALL: {},
            Environment.OXYGEN: {"oxygen": True},
            Environment.NEAREST_OXYGEN: {"nearest_oxygen": True},
            Environment.OTHER: {"oxygen": False},
        }[self]

    @property
    def label(self) -> str:
        """For a figure's title."""
        return {
            Environment.ALL: "all sites",
            Environment.OXYGEN: "at least two O among 12 neighbours",
            Environment.NEAREST_OXYGEN: "two nearest neighbours both O",
            Environment.OTHER: "fewer than two O among 12 neighbours",
        }[self]


class SiteStatistics(BaseModel):
    """Local voltages of an element's sites in one environment (and oxidation state)."""

    model_config = ConfigDict(frozen=True)

    element: str
    oxidation_state: int | None = Field(
        default=None, description="formal, rounded; None where not asked for, or not defined"
    )
    sites: int
    hosts: int = Field(description="that have such sites; 0 when asked by oxidation state")
    median: float = Field(description="V")
    q25: float = Field(description="V")
    q75: float = Field(description="V")
    mean: float = Field(description="V")
    lo95: float = Field(description="V, of the median, bootstrap over hosts")
    hi95: float = Field(description="V, of the median, bootstrap over hosts")


def site_statistics(
    store: Store,
    campaign: str,
    ion: str,
    model_id: str,
    definition: Definition = Definition.ADDITIVE,
    environment: Environment = Environment.OXYGEN,
    *,
    elements: Sequence[str] = (),
    by_state: bool = False,
) -> list[SiteStatistics]:
    """Local voltages by element, in order of symbol (and state).

    Args:
        campaign: one whose sites are on record (`ensure_environments`).
        elements: only these; all when empty.
        by_state: an element's formal oxidation states apart.
    """
    chosen: dict[str, Any] = {"campaigns": campaign, "ion": ion, "model_id": model_id}
    sites: dict[str, Any] = {f"sites.{k}": v for k, v in environment.condition.items()}
    sites[f"sites.{definition}"] = {"$exists": True}
    if elements:
        chosen["elements"] = {"$in": list(elements)}
        sites["sites.element"] = {"$in": list(elements)}
    bin_ = {"$round": [{"$multiply": [f"$sites.{definition}", BINS_PER_VOLT]}, 0]}
    group: dict[str, Any] = {
        "element": "$sites.element",
        "cell": {"$add": [{"$multiply": ["$bag", _BIN_SHIFT]}, bin_]},
    }
    kept: dict[str, Any] = {"element": "$_id.element"}
    if by_state:
        group["state"] = {"$round": ["$sites.oxidation_state", 0]}
        kept["state"] = "$_id.state"
    rows = store.environments.aggregate(
        [
            {"$match": chosen},
            {"$unwind": "$sites"},
            {"$match": sites},
            {"$group": {"_id": group, "n": {"$sum": "$sites.count"}}},
            {"$group": {
                "_id": kept, "cells": {"$push": "$_id.cell"}, "counts": {"$push": "$n"},
            }},
        ],
        allowDiskUse=True,
    )  # fmt: skip
    hosts = {} if by_state else _hosts(store, chosen, environment)
    found = [_statistics(row, hosts) for row in rows]
    if elements:
        found = [one for one in found if one.element in elements]
    return sorted(found, key=lambda one: (one.element, one.oxidation_state or 0))


def _hosts(store: Store, chosen: dict[str, Any], environment: Environment) -> dict[str, int]:
    """Number of hosts that have sites of an element in the environment."""
    conditions = [{"$eq": [f"$$site.{k}", v]} for k, v in environment.condition.items()]
    inside = {"$filter": {"input": "$sites", "as": "site", "cond": {"$and": conditions}}}
    elements = {
        "$map": {"input": inside if conditions else "$sites", "as": "site", "in": "$$site.element"}
    }
    rows = store.environments.aggregate(
        [
            {"$match": chosen},
            {"$project": {"element": {"$setUnion": [elements, []]}}},
            {"$unwind": "$element"},
            {"$group": {"_id": "$element", "n": {"$sum": 1}}},
        ],
        allowDiskUse=True,
    )
    return {row["_id"]: row["n"] for row in rows}


def _statistics(row: dict[str, Any], hosts: dict[str, int]) -> SiteStatistics:
    cells = np.array(row["cells"], dtype=np.int64)
    counts = np.array(row["counts"], dtype=np.int64)
    bag, place = np.divmod(cells + _BIN_SHIFT // 2, _BIN_SHIFT)
    place -= _BIN_SHIFT // 2
    first = int(place.min())
    table = np.zeros((N_BAGS, int(place.max()) - first + 1), np.int64)
    np.add.at(table, (bag, place - first), counts)
    total = table.sum(axis=0)
    lowest = first / BINS_PER_VOLT
    centers = lowest + np.arange(len(total)) / BINS_PER_VOLT
    lo95, hi95 = np.quantile(_bootstrap(table, lowest), [0.025, 0.975])
    state = row["_id"].get("state")
    return SiteStatistics(
        element=row["_id"]["element"],
        oxidation_state=None if state is None else int(state),
        sites=int(total.sum()),
        hosts=hosts.get(row["_id"]["element"], 0),
        median=float(_quantile(total[None], lowest, 0.5)[0]),
        q25=float(_quantile(total[None], lowest, 0.25)[0]),
        q75=float(_quantile(total[None], lowest, 0.75)[0]),
        mean=float(total @ centers / total.sum()),
        lo95=float(lo95),
        hi95=float(hi95),
    )


def _bootstrap(table: NDArray[np.int64], lowest: float) -> NDArray[np.float64]:
    """(draws,) medians, V, of bags drawn with replacement from those that hold any site."""
    filled = table[table.sum(axis=1) > 0]
    rng = np.random.default_rng(0)
    taken = rng.multinomial(len(filled), np.full(len(filled), 1 / len(filled)), DRAWS)
    return _quantile(taken @ filled, lowest, 0.5)


def _quantile(table: NDArray[np.int64], lowest: float, share: float) -> NDArray[np.float64]:
    """(d,) quantiles in V of (d, bins) counts, interpolated within their bin."""
    running = table.cumsum(axis=1)
    target = share * running[:, -1]
    at = (running >= np.maximum(target, 0.5)[:, None]).argmax(axis=1)
    rows = np.arange(len(table))
    before = running[rows, at] - table[rows, at]
    inside = (target - before) / table[rows, at]
    values: NDArray[np.float64] = lowest + (at - 0.5 + inside) / BINS_PER_VOLT
    return values
