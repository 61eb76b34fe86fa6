"""Near-duplicate hosts: the same framework found in several entries of a ranking."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from voltscreen.store import (
    ResultPage,
    ResultQuery,
    ResultRow,
    Store,
    load_structures,
    query_page,
    unpack,
)
from voltscreen.structures import PackedStructure

if TYPE_CHECKING:
    from pymatgen.core import Structure

SHORTLIST = 1000
"""Candidates that are compared at most, the first of the order."""


class FoldedRow(BaseModel):
    """A candidate that stands for itself and for those of the same framework after it."""

    model_config = ConfigDict(frozen=True)

    row: ResultRow
    also: list[ResultRow] = Field(description="candidates with the same host, in their order")


def fold(store: Store, rows: Sequence[ResultRow], ion: str) -> list[FoldedRow]:
    """Rows of one framework folded into the first of them.

    Two candidates are one framework when their hosts, without the working ion, match by
    pymatgen's StructureMatcher (default tolerances: the same species on the same sites, at any
    volume and in any cell).

    Args:
        rows: in the order of the list; the first of a framework stands for it.
    """
    structures = load_structures(store, (row.structure_id for row in rows))
    frameworks = Frameworks()
    first: dict[int, int] = {}
    order: list[ResultRow] = []
    also: list[list[ResultRow]] = []
    for row in rows:
        document = structures.get(row.structure_id)
        group = None
        if document is not None and document.packed is not None:
            group = frameworks.number(_without(unpack(document), ion))
        if group is not None and group in first:
            also[first[group]].append(row)
            continue
        if group is not None:
            first[group] = len(order)
        order.append(row)
        also.append([])
    return [FoldedRow(row=row, also=more) for row, more in zip(order, also, strict=True)]


def folded_page(store: Store, query: ResultQuery) -> tuple[ResultPage, list[FoldedRow]]:
    """A page of frameworks: `skip` and `top` count these, the shortlist is what is compared.

    Returns:
        The page, its rows the first of each framework; and the same rows with what they stand for.
    """
    skip, top = query.skip, query.top
    page = query_page(store, query.model_copy(update={"skip": 0, "top": SHORTLIST}))
    folded = fold(store, page.rows, query.ion)
    shown = folded[skip : None if top is None else skip + top]
    return page.model_copy(
        update={"rows": [each.row for each in shown], "total": len(folded)}
    ), shown


class Frameworks:
    """Frameworks seen so far."""

    def __init__(self) -> None:
        from pymatgen.analysis.structure_matcher import StructureMatcher

        self._matcher = StructureMatcher()
        self._seen: dict[str, list[tuple[Structure, int]]] = {}
        self._count = 0

    def number(self, host: PackedStructure | None) -> int | None:
        """The number of the framework that a host has: a known one's or the next; None of None."""
        if host is None:
            return None
        structure = host.to_pymatgen()
        same_formula = self._seen.setdefault(host.formula, [])
        for other, number in same_formula:
            if self._matcher.fit(structure, other):
                return number
        same_formula.append((structure, self._count))
        self._count += 1
        return self._count - 1


def _without(structure: PackedStructure, ion: str) -> PackedStructure | None:
    """The structure without the ion's atoms; None where nothing is left."""
    from voltscreen.errors import StructureError
    from voltscreen.structures import HostState, make_host

    try:
        return make_host(structure, ion, HostState.ION_REMOVED).structure
    except StructureError:
        return None
