"""Questions to the results: what a campaign's ranking holds, joined with its structures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from voltscreen.errors import CampaignError, QueryError
from voltscreen.store.connection import IN_CHUNK, Row, Store, find_by_ids
from voltscreen.store.documents import (
    CampaignDocument,
    MeasuredVoltage,
    RankingDocument,
    VoltageDocument,
    VoltageStatus,
    voltage_id,
)
from voltscreen.store.ranking_columns import (
    ATOMIC_NUMBERS,
    RankingColumns,
    element_mask,
    has_element,
    load_columns,
    needed_columns,
)
from voltscreen.store.result_query import RANGES, ResultPage, ResultQuery, ResultRow, SecondLook
from voltscreen.store.structures import get_structure

_OF_LOOK = (
    "structure_id", "status", "stability_host", "stability_discharged", *SecondLook.model_fields,
)  # fmt: skip
_OF_STRUCTURE = ("sources.id", "label", "measured", "properties")


def query_results(store: Store, query: ResultQuery) -> list[ResultRow]:
    """Ranked candidates that fit, in the order asked for; as for `query_page`."""
    return query_page(store, query).rows


def query_page(
    store: Store, query: ResultQuery, columns: RankingColumns | None = None
) -> ResultPage:
    """A page of the ranked candidates that fit.

    Args:
        columns: of this ranking, where the caller has them at hand.

    Raises:
        CampaignError: no campaign of that name.
        QueryError: an ion that the campaign has not, an impossible window, an unknown formula.
    """
    check_query(store, query)
    if columns is None:
        columns = load_columns(store, query.campaign, query.ion, _columns_behind(query))
    places = select(columns, query, measured_with(store, query.ion) if query.measured else None)
    stop = None if query.top is None else query.skip + query.top
    ranks = (places[query.skip : stop] + 1).tolist()
    return ResultPage(
        rows=_rows(store, query.campaign, query.ion, ranks),
        total=len(places),
        ranked=columns.n,
        any_known=bool(np.isfinite(columns.number("known_voltage")).any()),
    )


def select(
    columns: RankingColumns, query: ResultQuery, measured: Iterable[str] | None = None
) -> NDArray[np.int64]:
    """Places (rank - 1) of the candidates that fit, on all pages, in the order asked for.

    Args:
        measured: structure ids with a measured voltage, for a query that asks for these.

    Raises:
        QueryError: an unknown element or formula.
    """
    fits = np.ones(columns.n, np.bool_)
    for name, (column, from_below) in RANGES.items():
        limit = getattr(query, name)
        if limit is not None:
            values = columns.number(column)
            fits &= values >= limit if from_below else values <= limit
    fits &= _chemistry_fits(columns, query)
    if query.pareto:
        fits &= columns.number("pareto") == 1
    if query.known is not None:
        fits &= np.isfinite(columns.number("known_voltage")) == query.known
    if query.measured:
        fits &= np.isin(columns.texts["structure_id"], list(measured or ()))
    return _sorted(columns, query, np.flatnonzero(fits))


def _chemistry_fits(columns: RankingColumns, query: ResultQuery) -> NDArray[np.bool_]:
    fits = np.ones(columns.n, np.bool_)
    if columns.elements is not None:
        for symbol in _symbols(query.elements):
            fits &= has_element(columns.elements, symbol)
        for symbol in _symbols(query.exclude_elements):
            fits &= ~has_element(columns.elements, symbol)
        if query.chemsys is not None:
            mask = element_mask(_symbols(query.chemsys.split("-")))
            fits &= (columns.elements == mask).all(axis=1)
    if query.formula is not None:
        fits &= columns.texts["formula"] == _reduced(query.formula)
    return fits


def _sorted(
    columns: RankingColumns, query: ResultQuery, places: NDArray[np.int64]
) -> NDArray[np.int64]:
    """In the order asked for; candidates without the number come last, equal ones by rank."""
    by_formula = query.sort == "formula"
    values = (columns.formula_places if by_formula else columns.number(query.sort))[places]
    # NaN sorts last in either direction.
    return places[np.argsort(-values if query.descending else values, kind="stable")]


def _columns_behind(query: ResultQuery) -> set[str]:
    asked: set[str] = {"known_voltage", query.sort}
    asked |= {column for name, (column, _) in RANGES.items() if getattr(query, name) is not None}
    if query.elements or query.exclude_elements or query.chemsys is not None:
        asked.add("elements")
    if query.formula is not None:
        asked.add("formula")
    if query.pareto:
        asked.add("pareto")
    if query.measured:
        asked.add("structure_id")
    return needed_columns(asked)


def measured_with(store: Store, ion: str) -> set[str]:
    """Ids of the structures with a measured voltage for the ion."""
    return {row["_id"] for row in store.structures.find({"measured.ion": ion}, {"_id": 1})}


def _rows(store: Store, campaign: str, ion: str, ranks: Sequence[int]) -> list[ResultRow]:
    """Candidates of these ranks, in this order; a rank that is gone is left out."""
    found = {
        row["rank"]: RankingDocument.from_mongo(row)
        for row in find_by_ids(store.rankings, (f"{campaign}:{ion}:{rank}" for rank in ranks))
    }
    places = [found[rank] for rank in ranks if rank in found]
    ids = [place.structure_id for place in places]
    structures = {row["_id"]: row for row in find_by_ids(store.structures, ids, _OF_STRUCTURE)}
    looks = second_looks(store, ids, ion)
    return [
        _row(place, structures.get(place.structure_id, {}), looks.get(place.structure_id), ion)
        for place in places
    ]


def second_looks(store: Store, ids: Sequence[str], ion: str) -> dict[str, SecondLook]:
    """By structure id, the last second look that succeeded, of those among the ids that had one."""
    if store.refinements.find_one({}, {"_id": 1}) is None:
        return {}
    found: dict[str, SecondLook] = {}
    for start in range(0, len(ids), IN_CHUNK):
        wanted = {"structure_id": {"$in": list(ids[start : start + IN_CHUNK])}, "ion": ion}
        for row in store.refinements.find(wanted, _OF_LOOK).sort("written_at", 1):
            if row["status"] == VoltageStatus.OK:
                found[row["structure_id"]] = SecondLook.of(row)
    return found


def _row(place: RankingDocument, structure: Row, look: SecondLook | None, ion: str) -> ResultRow:
    measured = [MeasuredVoltage.model_validate(each) for each in structure.get("measured", [])]
    return ResultRow(
        **place.model_dump(include=set(ResultRow.model_fields)),
        source_ids=[entry["id"] for entry in structure.get("sources", [])],
        label=structure.get("label"),
        measured=[each for each in measured if each.ion == ion],
        refined=look,
        properties=structure.get("properties", {}),
    )


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


def check_query(store: Store, query: ResultQuery) -> None:
    """Refuse a query that cannot be answered.

    Raises:
        CampaignError: no campaign of that name.
        QueryError: an ion that the campaign has not, a window that nothing fits.
    """
    ions = get_campaign(store, query.campaign).spec["ions"]
    if query.ion not in ions:
        raise QueryError(
            f"campaign {query.campaign!r} was not ranked for {query.ion!r}: choose from "
            f"{', '.join(ions)}"
        )
    for name in ("voltage", "capacity", "energy_density", "sites"):
        low, high = getattr(query, f"min_{name}"), getattr(query, f"max_{name}")
        if low is not None and high is not None and low > high:
            option = f"--min-{name.replace('_', '-')}"
            raise QueryError(f"impossible window: {option} {low:g} is above {high:g}")
    both = sorted(set(query.elements) & set(query.exclude_elements))
    if both:
        raise QueryError(f"impossible query: {', '.join(both)} both wanted and excluded")
    _symbols((*query.elements, *query.exclude_elements))


def _symbols(symbols: Sequence[str]) -> list[str]:
    for symbol in symbols:
        if symbol not in ATOMIC_NUMBERS:
            raise QueryError(f"unknown element {symbol!r}: give symbols such as Mn or O")
    return list(symbols)


def _reduced(formula: str) -> str:
    from pymatgen.core import Composition

    try:
        composition = Composition(formula)
        return str(composition.reduced_formula)
    except Exception:  # noqa: BLE001 - pymatgen fails in many ways on what is no formula
        raise QueryError(f"not a formula: {formula!r}; write it as Mn2O4 or MnO2") from None
