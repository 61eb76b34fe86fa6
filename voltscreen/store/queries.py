"""Questions to the results: what a campaign's ranking holds, joined with its structures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pymongo import ASCENDING, DESCENDING

from voltscreen.errors import CampaignError, QueryError
from voltscreen.store.connection import Row, Store
from voltscreen.store.documents import (
    CampaignDocument,
    KnownVoltage,
    MeasuredVoltage,
    RankingDocument,
    VoltageDocument,
    voltage_id,
)
from voltscreen.store.structures import get_structure, load_structures

SortKey = Literal["rank", "voltage", "sd", "capacity", "energy_density", "out_of_domain", "formula"]
SORT_KEYS: tuple[SortKey, ...] = (
    "rank", "voltage", "sd", "capacity", "energy_density", "out_of_domain", "formula",
)  # fmt: skip


class ResultQuery(BaseModel):
    """What to look for in a campaign's ranking for one ion."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    campaign: str
    ion: str
    min_voltage: float | None = Field(default=None, description="volt")
    max_voltage: float | None = Field(default=None, description="volt")
    elements: tuple[str, ...] = Field(default=(), description="all of these are in the candidate")
    exclude_elements: tuple[str, ...] = Field(default=(), description="none of these is")
    formula: str | None = Field(default=None, description="reduced formula of the candidate")
    pareto: bool = Field(default=False, description="only the Pareto front")
    measured: bool = Field(default=False, description="only with a measured voltage for the ion")
    known: bool | None = Field(
        default=None,
        description="only with (True) or without (False) a voltage that the Materials Project "
        "has computed for the ion",
    )
    sort: SortKey = "rank"
    descending: bool = False
    top: int | None = Field(default=None, ge=1, description="at most so many")


class ResultRow(BaseModel):
    """A ranked candidate with what is known of it."""

    model_config = ConfigDict(frozen=True)

    rank: int
    structure_id: str
    source_ids: list[str]
    label: str | None
    formula: str
    voltage: float = Field(description="volt")
    sd: float | None = Field(description="volt")
    lo90: float | None = Field(description="volt")
    hi90: float | None = Field(description="volt")
    out_of_domain: float | None = Field(description="percentile")
    capacity: float | None = Field(description="mAh/g")
    energy_density: float | None = Field(description="Wh/kg")
    pareto: bool
    score: float | None
    measured: list[MeasuredVoltage] = Field(description="experiments with this ion")
    known: KnownVoltage | None = Field(description="computed by the Materials Project")
    properties: dict[str, Any] = Field(description="stored properties of the structure")


def query_results(store: Store, query: ResultQuery) -> list[ResultRow]:
    """Ranked candidates that fit, in the order asked for.

    Raises:
        CampaignError: no campaign of that name.
        QueryError: an ion that the campaign has not, an impossible window, an unknown formula.
    """
    _check(store, query)
    conditions = _conditions(query)
    if query.measured:
        measured = [
            row["_id"] for row in store.structures.find({"measured.ion": query.ion}, {"_id": 1})
        ]
        if not measured:
            return []
        conditions["structure_id"] = {"$in": measured}
    direction = DESCENDING if query.descending else ASCENDING
    cursor = store.rankings.find(conditions).sort([(query.sort, direction), ("rank", ASCENDING)])
    if query.top is not None:
        cursor = cursor.limit(query.top)
    places = [RankingDocument.from_mongo(row) for row in cursor]
    structures = load_structures(store, (place.structure_id for place in places))
    rows = []
    for place in places:
        structure = structures.get(place.structure_id)
        known = place.model_dump(include=set(ResultRow.model_fields))
        rows.append(
            ResultRow(
                **known,
                source_ids=[entry.id for entry in structure.sources] if structure else [],
                label=structure.label if structure else None,
                measured=[m for m in structure.measured if m.ion == query.ion] if structure else [],
                properties=structure.properties if structure else {},
            )
        )
    return rows


def get_voltages(store: Store, name: str, model_id: str | None = None) -> list[VoltageDocument]:
    """Every model's voltages of a structure, or those of one model.

    Args:
        name: a structure id or an id of its source.

    Raises:
        QueryError: no such structure.
    """
    structure = get_structure(store, name)
    wanted: Row = {"structure_id": structure.id}
    if model_id is not None:
        wanted = {"_id": voltage_id(structure.id, model_id)}
    return [VoltageDocument.from_mongo(row) for row in store.voltages.find(wanted)]


def get_campaign(store: Store, name: str) -> CampaignDocument:
    """The campaign's document.

    Raises:
        CampaignError: none of that name; lists those there are.
    """
    row = store.campaigns.find_one({"_id": name})
    if row is None:
        names = sorted(str(known["_id"]) for known in store.campaigns.find({}, {"_id": 1}))
        listed = f"there are {', '.join(names[:20])}" if names else "there are none yet"
        raise CampaignError(f"no campaign {name!r} in the database: {listed}")
    return CampaignDocument.from_mongo(row)


def _check(store: Store, query: ResultQuery) -> None:
    ions = get_campaign(store, query.campaign).spec["ions"]
    if query.ion not in ions:
        raise QueryError(
            f"campaign {query.campaign!r} was not ranked for {query.ion!r}: choose from "
            f"{', '.join(ions)}"
        )
    low, high = query.min_voltage, query.max_voltage
    if low is not None and high is not None and low > high:
        raise QueryError(f"impossible window: --min-voltage {low:g} is above {high:g}")
    both = sorted(set(query.elements) & set(query.exclude_elements))
    if both:
        raise QueryError(f"impossible query: {', '.join(both)} both wanted and excluded")


def _conditions(query: ResultQuery) -> Row:
    conditions: Row = {"campaign": query.campaign, "ion": query.ion}
    if query.sort == "rank":
        # True of every row; the embedded server's planner takes the index of the sort for it.
        conditions["rank"] = {"$gte": 1}
    window = {
        operator: limit
        for operator, limit in (("$gte", query.min_voltage), ("$lte", query.max_voltage))
        if limit is not None
    }
    if window:
        conditions["voltage"] = window
    elements: Row = {}
    if query.elements:
        elements["$all"] = _symbols(query.elements)
    if query.exclude_elements:
        elements["$nin"] = _symbols(query.exclude_elements)
    if elements:
        conditions["elements"] = elements
    if query.formula is not None:
        conditions["formula"] = _reduced(query.formula)
    if query.pareto:
        conditions["pareto"] = True
    if query.known is not None:
        conditions["known.voltage"] = {"$exists": query.known}
    return conditions


def _symbols(symbols: Sequence[str]) -> list[str]:
    from pymatgen.core import Element

    for symbol in symbols:
        if not Element.is_valid_symbol(symbol):
            raise QueryError(f"unknown element {symbol!r}: give symbols such as Mn or O")
    return list(symbols)


def _reduced(formula: str) -> str:
    from pymatgen.core import Composition

    try:
        composition = Composition(formula)
    except (ValueError, KeyError):
        raise QueryError(f"not a formula: {formula!r}; write it as Mn2O4 or MnO2") from None
    return str(composition.reduced_formula)
