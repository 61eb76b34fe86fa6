"""From voltages to rankings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from voltscreen.campaign.plan import campaign_members
from voltscreen.campaign.refined import refined_voltages
from voltscreen.campaign.spec import CampaignSpec
from voltscreen.campaign.turn import Turn
from voltscreen.failpoints import reach
from voltscreen.ions import working_ion
from voltscreen.screening import RankedRow, RankInput, Uptake, rank_candidates, uptake
from voltscreen.store import Store
from voltscreen.store.connection import INSERT_CHUNK, Row, find_by_ids
from voltscreen.store.documents import (
    FastVoltage,
    KnownVoltage,
    RankingDocument,
    VoltageStatus,
    voltage_id,
)
from voltscreen.store.electrodes import known_voltages
from voltscreen.store.ranking_columns import drop_columns, put_columns
from voltscreen.structures import HostState

if TYPE_CHECKING:
    from voltscreen.train.refined import RefinedVoltage

_CHEMISTRY = ("chemsys", "elements", "nsites", "energy_above_hull")
"""Columns of the candidate that its place in a ranking repeats."""
_COLUMNS = ("voltage", "sd", "lo90", "hi90", "out_of_domain", "host_state")


def rank_campaign(
    store: Store, spec: CampaignSpec, model_id: str, turn: Turn | None = None
) -> dict[str, int]:
    """Rank the campaign's members for each of its ions; a former ranking is replaced.

    Candidates that had a second look are ranked by their refined voltage.

    Args:
        turn: begun before anything of the campaign was read; begun here when None.

    Returns:
        Counts: structures, predicted, failed.

    Raises:
        TurnLostError: another process ranks the campaign since; what it wrote is untouched.
    """
    turn = turn or Turn.begin(store, spec.name)
    inputs: dict[str, list[RankInput]] = {ion: [] for ion in spec.ions}
    chemistry: dict[str, Row] = {}
    counts = {"structures": 0, "predicted": 0, "failed": 0}
    for row in _voltages(store, spec, model_id):
        counts["structures"] += 1
        if row["status"] != VoltageStatus.OK:
            counts["failed"] += 1
            continue
        counts["predicted"] += 1
        chemistry[row["structure_id"]] = {name: row.get(name) for name in _CHEMISTRY}
        as_given = uptake(row["element_counts"])
        for ion in spec.ions:
            found = row["ions"].get(ion, {})
            if "voltage" in found:
                removed = found["host_state"] == HostState.ION_REMOVED
                host = _without(row["element_counts"], ion) if removed else as_given
                inputs[ion].append(_input(row, host, found))
    for ion, rows in inputs.items():
        fast = {
            row.structure_id: {"voltage": row.voltage, "lo90": row.lo90, "hi90": row.hi90}
            for row in rows
        }
        refined = refined_voltages(store, fast, ion, model_id)
        ranked = rank_candidates([_with(row, refined) for row in rows], ion, spec.rank)
        known = known_voltages(store, ion)
        documents = [
            _document(
                place,
                spec.name,
                ion,
                model_id,
                chemistry[place.structure_id],
                known.get(place.structure_id),
                fast[place.structure_id] if place.structure_id in refined else None,
            )
            for place in ranked
        ]
        _replace(store, spec.name, ion, documents, turn)
    return counts


def _replace(store: Store, campaign: str, ion: str, documents: list[Row], turn: Turn) -> None:
    """A ranking in the place of the former one; its columns go first and come last."""
    turn.check()
    drop_columns(store, campaign, ion)
    store.rankings.delete_many({"campaign": campaign, "ion": ion})
    reach("rank.cleared")
    for start in range(0, len(documents), INSERT_CHUNK):
        turn.check()
        store.rankings.insert_many(documents[start : start + INSERT_CHUNK], ordered=False)
    turn.check()
    put_columns(store, campaign, ion, documents)
    reach("rank.part")


def _voltages(store: Store, spec: CampaignSpec, model_id: str) -> Iterator[Row]:
    """The members' voltages without their local ones."""
    columns = [f"ions.{ion}.{column}" for ion in spec.ions for column in _COLUMNS]
    return find_by_ids(
        store.voltages,
        (voltage_id(key, model_id) for key in campaign_members(store, spec.name)),
        ("structure_id", "status", "formula", "element_counts", *_CHEMISTRY, *columns),
        hashed="structure_id",
    )


def _without(counts: Mapping[str, float], ion: str) -> Uptake:
    symbol = working_ion(ion).symbol
    return uptake({element: count for element, count in counts.items() if element != symbol})


def _input(row: Row, host: Uptake, found: Row) -> RankInput:
    return RankInput(
        structure_id=row["structure_id"],
        formula=row["formula"],
        uptake=host,
        voltage=found["voltage"],
        sd=found.get("sd"),
        lo90=found.get("lo90"),
        hi90=found.get("hi90"),
        out_of_domain=found.get("out_of_domain"),
    )


def _with(row: RankInput, refined: Mapping[str, RefinedVoltage]) -> RankInput:
    """The row with its refined voltage where it has one."""
    found = refined.get(row.structure_id)
    if found is None:
        return row
    return replace(row, voltage=found.voltage, sd=found.sd, lo90=found.lo90, hi90=found.hi90)


def _document(
    place: RankedRow,
    campaign: str,
    ion: str,
    model_id: str,
    chemistry: Row,
    known: KnownVoltage | None,
    fast: Row | None,
) -> Row:
    return RankingDocument(
        id=f"{campaign}:{ion}:{place.rank}",
        campaign=campaign,
        ion=ion,
        rank=place.rank,
        structure_id=place.structure_id,
        model_id=model_id,
        formula=place.formula,
        **chemistry,
        score=place.score,
        voltage=place.voltage,
        sd=place.sd,
        lo90=place.lo90,
        hi90=place.hi90,
        fast=FastVoltage(**fast) if fast else None,
        out_of_domain=place.out_of_domain,
        capacity=place.capacity,
        energy_density=place.energy_density,
        pareto=place.pareto,
        known=known,
    ).to_mongo()
