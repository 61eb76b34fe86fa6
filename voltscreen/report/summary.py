"""A campaign's ranking for one ion, summed up for a report."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from voltscreen import __version__
from voltscreen.campaign.status import campaign_status
from voltscreen.report.dossier import ModelReference, model_reference
from voltscreen.report.drawings import Point
from voltscreen.store import ResultQuery, ResultRow, Store, query_page
from voltscreen.store.documents import now
from voltscreen.store.queries import measured_with, select
from voltscreen.store.ranking_columns import RankingColumns, load_columns

REPORT_ROWS = 200
"""Candidates in the report's table; the others are in the exports."""
DRAWN = (240, 160)
"""Points that share a cell of this grid over the plot cover each other; one of them is drawn."""


class Summary(BaseModel):
    """What a report shows."""

    model_config = ConfigDict(frozen=True)

    campaign: str
    ion: str
    filters: dict[str, Any]
    ranked: int
    total: int = Field(description="candidates that fit")
    with_capacity: int = Field(description="those of them that can be drawn")
    front: int = Field(description="those of them on the Pareto front")
    any_known: bool
    rows: list[ResultRow] = Field(description="the first of the order")
    points: list[Point]
    voltages: list[float] = Field(description="V, of all that fit")
    model: ModelReference
    structures: int
    predicted: int
    failed: int
    objectives: list[str]
    voltscreen_version: str = __version__
    made_at: datetime = Field(default_factory=now)


def summarise(store: Store, query: ResultQuery) -> Summary:
    """Sum up what a query finds; `top` bounds it, the table shows `REPORT_ROWS` at most.

    Raises:
        CampaignError, QueryError: as for `query_page`.
    """
    rows = REPORT_ROWS if query.top is None else min(query.top, REPORT_ROWS)
    columns = load_columns(store, query.campaign, query.ion)
    page = query_page(store, query.model_copy(update={"top": rows}), columns)
    places = select(columns, query, measured_with(store, query.ion) if query.measured else None)
    places = places[query.skip : None if query.top is None else query.skip + query.top]
    status = campaign_status(store, query.campaign)
    asked = query.model_dump(exclude={"campaign", "ion"}, exclude_defaults=True)
    capacity = columns.number("capacity")[places]
    return Summary(
        campaign=query.campaign,
        ion=query.ion,
        filters={
            name: ", ".join(value) if isinstance(value, tuple) else value
            for name, value in asked.items()
        },
        ranked=page.ranked,
        total=len(places),
        with_capacity=int(np.isfinite(capacity).sum()),
        front=int(columns.number("pareto")[places].sum()),
        any_known=page.any_known,
        rows=page.rows,
        points=plot_points(columns, places),
        voltages=columns.number("voltage")[places].tolist(),
        model=model_reference(store, status.model_id),
        structures=status.structures,
        predicted=status.predicted,
        failed=status.failed,
        objectives=[str(each) for each in status.spec["rank"]["objectives"]],
    )


def plot_points(columns: RankingColumns, places: NDArray[np.int64]) -> list[Point]:
    """Candidates to draw: the front, and of those that would cover each other the best ranked.

    Args:
        places: of candidates in the ranking (rank - 1).
    """
    capacity, voltage = columns.number("capacity"), columns.number("voltage")
    places = places[np.isfinite(capacity[places])]
    if not len(places):
        return []
    cells = np.zeros(len(places), np.int64)
    for values, steps in ((capacity[places], DRAWN[0]), (voltage[places], DRAWN[1])):
        span = max(float(np.ptp(values)), 1e-9)
        cells = cells * steps + ((values - values.min()) / span * (steps - 1)).astype(np.int64)
    order = np.argsort(places, kind="stable")
    _, first = np.unique(cells[order], return_index=True)
    front = columns.number("pareto")[places] == 1
    chosen = np.union1d(places[order[first]], places[front])
    return [
        Point(
            rank=int(place) + 1,
            structure_id=columns.texts["structure_id"][place],
            formula=columns.texts["formula"][place],
            capacity=float(capacity[place]),
            voltage=float(voltage[place]),
            energy_density=float(columns.number("energy_density")[place]),
            pareto=bool(columns.number("pareto")[place] == 1),
        )
        for place in chosen
    ]
