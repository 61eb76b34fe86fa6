"""Labelled electrodes as a table: what every layout is read into and filters work on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from voltscreen.structures import PackedStructure

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True)
class AppliedFilter:
    """What was left out of a data set: name and rule, rows before it and rows removed."""

    name: str
    rule: str
    rows: int
    removed: int


@dataclass(frozen=True, eq=False)
class ElectrodeTable:
    """Electrodes and their hosts. r rows.

    rows: row_id, ion, voltage (V), host_id, provenance, multi_step, paper_prediction (V),
        capacity_grav (mAh/g), max_delta_volume (max / min - 1), formula_charge,
        formula_discharge, and fold_random, fold_grouped where stored; NaN for what is unknown.
    hosts: by host_id. filters: what was left out so far.
    """

    rows: pd.DataFrame
    hosts: dict[str, PackedStructure]
    filters: list[AppliedFilter]

    def keep(self, kept: NDArray[np.bool_], name: str, rule: str) -> ElectrodeTable:
        """The rows where kept (r,) is true, and on record what is left out."""
        applied = AppliedFilter(name, rule, len(kept), int((~kept).sum()))
        rows = self.rows[kept].reset_index(drop=True)
        return ElectrodeTable(rows, self.hosts, [*self.filters, applied])
