"""What may be left out of a training set: filters by name, counted and recorded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from voltscreen.errors import VoltscreenError
from voltscreen.train.electrode_table import ElectrodeTable

TRIM_WIDTH = {"Li": 2.0, "Mg": 2.0, "Ca": 2.0, "Zn": 2.0, "Na": 1.5}
"""By ion, the standard deviations around the mean within which the paper kept its labels."""
VOLTAGE_WINDOW = (-1.0, 6.0)
"""Volt; what lies outside is a calculation that failed more often than an electrode."""
LARGEST_DISAGREEMENT = 1.0
"""Volt between two labels of one host and ion."""
LARGEST_VOLUME_CHANGE = 1.0
"""Of max / min - 1: beyond it the host more than doubles, which is alloying, no insertion."""

_Keep = Callable[[ElectrodeTable], NDArray[np.bool_]]


@dataclass(frozen=True, slots=True)
class Filter:
    """A filter. rule: in words, for the record. keep: (r,) bool, the rows that stay."""

    rule: str
    keep: _Keep


def _within_paper_trim(table: ElectrodeTable) -> NDArray[np.bool_]:
    by_ion = table.rows.groupby("ion")["voltage"]
    width = table.rows["ion"].map(TRIM_WIDTH).fillna(np.inf) * by_ion.transform("std")
    off = (table.rows["voltage"] - by_ion.transform("mean")).abs()
    # An ion with one row has no standard deviation.
    return np.asarray((off <= width) | width.isna())


def _within_window(table: ElectrodeTable) -> NDArray[np.bool_]:
    return np.asarray(table.rows["voltage"].between(*VOLTAGE_WINDOW))


def _consistent(table: ElectrodeTable) -> NDArray[np.bool_]:
    rows = table.rows
    content = rows["host_id"].map({key: host.content_hash for key, host in table.hosts.items()})
    by_host = rows["voltage"].groupby([content, rows["ion"]])
    agree = by_host.transform("max") - by_host.transform("min") <= LARGEST_DISAGREEMENT
    change = rows["max_delta_volume"]
    inserted = [
        _inserts(*formulas)
        for formulas in zip(
            rows["formula_charge"], rows["formula_discharge"], rows["ion"], strict=True
        )
    ]
    # Comparisons with NaN are false: what is unknown contradicts nothing.
    wrong = (rows["capacity_grav"] <= 0) | (change < 0) | (change > LARGEST_VOLUME_CHANGE)
    return np.asarray(agree & ~wrong & np.array(inserted))


def _inserts(charged: object, discharged: object, ion: str) -> bool:
    """Whether the reaction adds the ion and keeps the rest; True where a formula is unknown."""
    from pymatgen.core import Composition

    if not (isinstance(charged, str) and isinstance(discharged, str)):
        return True
    before, after = Composition(charged), Composition(discharged)
    frameworks = [
        Composition({element: n for element, n in formula.items() if element.symbol != ion})
        for formula in (before, after)
    ]
    same = len({framework.reduced_composition for framework in frameworks}) == 1
    return bool(same and after.get_atomic_fraction(ion) > before.get_atomic_fraction(ion))


def _one_step(table: ElectrodeTable) -> NDArray[np.bool_]:
    return np.asarray(~table.rows["multi_step"].astype(bool))


FILTERS: dict[str, Filter] = {
    "paper_trim": Filter(
        "voltages within mean +- 2 sd of Li, Mg, Ca, Zn and mean +- 1.5 sd of Na, others all",
        _within_paper_trim,
    ),
    "outliers": Filter("voltages from -1 to 6 V", _within_window),
    "inconsistent": Filter(
        "labels of one host and ion at most 1 V apart, capacity above 0, volume change from 0 to "
        "1 (max / min - 1), a reaction that adds the ion and keeps the rest",
        _consistent,
    ),
    "multi_step": Filter("electrodes with one voltage step", _one_step),
}
"""What may be left out of a training set, by name, in the order applied."""


def filtered(table: ElectrodeTable, names: Sequence[str]) -> ElectrodeTable:
    """What is left by the filters of these names, in the order of `FILTERS`.

    Raises:
        VoltscreenError: an unknown filter, or one that was applied before.
    """
    unknown = sorted(set(names) - set(FILTERS))
    if unknown:
        raise VoltscreenError(f"unknown filter {unknown[0]!r}: choose from {', '.join(FILTERS)}")
    for name, chosen in FILTERS.items():
        if name not in names:
            continue
        if any(applied.name == name for applied in table.filters):
            raise VoltscreenError(f"the filter {name} was applied to this data set before")
        table = table.keep(chosen.keep(table), name, chosen.rule)
    return table
