"""Substitutions for a campaign's best candidates: proposed, made, scored and kept on record."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from voltscreen.campaign.environments import ensure_environments
from voltscreen.errors import CampaignError, StructureError
from voltscreen.explain.environments import oxygen_environments
from voltscreen.explain.statistics import Environment, site_statistics
from voltscreen.failpoints import reach
from voltscreen.model import IonPrediction, VoltageModel, predict_candidates
from voltscreen.screening import (
    Proposal,
    SubstituteSpec,
    gravimetric_capacity,
    propose,
    substitute,
)
from voltscreen.screening.substitution import ElementVoltages
from voltscreen.store import Store, unpack
from voltscreen.store.connection import insert_new
from voltscreen.store.documents import (
    StructureDocument,
    SubstitutedElement,
    SubstitutionDocument,
    Verdict,
    substitution_id,
)
from voltscreen.store.structures import ingest
from voltscreen.structures import Candidate, HostState, PackedStructure, SourceRef, make_host

SOURCE = "substitution"
SMALLEST_GAIN = 0.05
"""V; a smaller rise is no gain."""
MOST_LIKE = 50
"""Known structures of one formula that a new one is compared with."""


@dataclass(frozen=True, slots=True)
class _Parent:
    """A host to substitute in, with its prediction."""

    document: StructureDocument
    host: PackedStructure
    prediction: IonPrediction


def substitute_campaign(
    store: Store,
    campaign: str,
    ion: str,
    model: VoltageModel,
    spec: SubstituteSpec,
    progress: Callable[[str], None] | None = None,
) -> list[SubstitutionDocument]:
    """Suggest substitutions for the best of a campaign's ranking, score and store them.

    What is on record already is not scored again.

    Args:
        progress: called with the formula of every parent.

    Returns:
        Suggestions by parent in the order of the ranking, new and recorded ones.

    Raises:
        CampaignError: the campaign has no ranking for the ion.
    """
    ranked = store.rankings.find(
        {"campaign": campaign, "ion": ion, "rank": {"$lte": spec.top}}, {"structure_id": 1}
    ).sort("rank", 1)
    ids = [row["structure_id"] for row in ranked]
    if not ids:
        raise CampaignError(
            f"campaign {campaign!r} has no ranking for {ion}: finish it first with "
            f"voltscreen campaign run {campaign}"
        )
    voltages = element_voltages(store, campaign, ion)
    documents: list[SubstitutionDocument] = []
    for key in ids:
        row = store.structures.find_one({"_id": key})
        if row is None:
            continue
        parent = _parent(StructureDocument.from_mongo(row), ion, model)
        if progress:
            progress(parent.document.formula)
        documents += _suggest(store, campaign, parent, ion, model, voltages, spec)
    return documents


def element_voltages(store: Store, campaign: str, ion: str) -> ElementVoltages:
    """Median additive local voltages of a campaign, by element and oxygen environment."""
    model_id = ensure_environments(store, campaign, ion)
    return {
        (one.element, where is Environment.OXYGEN): (one.median, one.sites)
        for where in (Environment.OXYGEN, Environment.OTHER)
        for one in site_statistics(store, campaign, ion, model_id, environment=where)
    }


def _parent(document: StructureDocument, ion: str, model: VoltageModel) -> _Parent:
    host = make_host(unpack(document), ion).structure
    prediction = predict_candidates(model, [host], [ion], HostState.AS_GIVEN)[0]
    return _Parent(document, host, prediction.ions[ion])


def _suggest(
    store: Store,
    campaign: str,
    parent: _Parent,
    ion: str,
    model: VoltageModel,
    voltages: ElementVoltages,
    spec: SubstituteSpec,
) -> list[SubstitutionDocument]:
    oxygen, _ = oxygen_environments([parent.host])
    local = parent.prediction.additive.astype(np.float64)
    documents = []
    for proposal in propose(parent.host, ion, local, oxygen, voltages, spec):
        key = substitution_id(parent.document.id, ion, proposal.name, model.id)
        row = store.substitutions.find_one({"_id": key})
        if row is not None:
            documents.append(SubstitutionDocument.from_mongo(row))
            continue
        document = _scored(store, campaign, parent, proposal, ion, model)
        reach("substitute.scored")
        insert_new(store.substitutions, [document])
        reach("substitute.written")
        documents.append(document)
    return documents


def _scored(
    store: Store,
    campaign: str,
    parent: _Parent,
    proposal: Proposal,
    ion: str,
    model: VoltageModel,
) -> SubstitutionDocument:
    new: PackedStructure | None = None
    known: str | None = None
    after: IonPrediction | None = None
    reason: str | None = None
    try:
        made = substitute(parent.host, proposal)
        known, new = _known(store, made)
        new = new or made
        # Where the structure is known, the real one is scored instead of ours.
        prediction = predict_candidates(model, [new], [ion], HostState.AS_GIVEN)[0]
        after, reason = prediction.ions.get(ion), prediction.errors.get(ion)
        if known is None:
            _keep(store, made, parent, ion, proposal)
    except StructureError as error:
        reason = str(error)
    return _document(campaign, parent, proposal, ion, model.id, new, known, after, reason)


def _known(store: Store, made: PackedStructure) -> tuple[str | None, PackedStructure | None]:
    """Id and arrays of the structure in the database that the new one is, at any volume."""
    from pymatgen.analysis.structure_matcher import StructureMatcher

    matcher, wanted = StructureMatcher(), made.to_pymatgen()
    like = store.structures.find({"formula": made.formula, "sources.source": {"$ne": SOURCE}})
    for row in like.sort("nsites", 1).limit(MOST_LIKE):
        document = StructureDocument.from_mongo(row)
        if document.packed is None:
            continue
        found = unpack(document)
        if matcher.fit(wanted, found.to_pymatgen()):
            return document.id, found
    return None, None


def _keep(
    store: Store, made: PackedStructure, parent: _Parent, ion: str, proposal: Proposal
) -> None:
    ref = SourceRef(SOURCE, f"{parent.document.id}:{ion}:{proposal.name}")
    lineage = {"origin": _origin(parent.document), "parent": parent.document.id}
    for _ in ingest(store, [Candidate(made, ref, properties=lineage)]):
        pass


def _origin(document: StructureDocument) -> str:
    """The id in its source that a structure goes back to, through any number of generations."""
    inherited = document.properties.get("origin")
    return str(inherited or document.sources[0].id)


def _document(
    campaign: str,
    parent: _Parent,
    proposal: Proposal,
    ion: str,
    model_id: str,
    new: PackedStructure | None,
    known: str | None,
    after: IonPrediction | None,
    reason: str | None,
) -> SubstitutionDocument:
    before = parent.prediction
    change = None if after is None else after.voltage - before.voltage
    half = None if after is None else _half_width(before, after)
    capacities = (
        gravimetric_capacity(parent.host.element_counts, ion),
        None if new is None else gravimetric_capacity(new.element_counts, ion),
    )
    capacity_change = energy_change = None
    if after is not None and capacities[0] is not None and capacities[1] is not None:
        capacity_change = capacities[1] - capacities[0]
        energy_change = capacities[1] * after.voltage - capacities[0] * before.voltage
    return SubstitutionDocument(
        id=substitution_id(parent.document.id, ion, proposal.name, model_id),
        campaign=campaign,
        parent=parent.document.id,
        parent_formula=parent.host.formula,
        origin=_origin(parent.document),
        ion=ion,
        swap=proposal.name,
        model_id=model_id,
        structure_id=known or (None if new is None else new.content_hash),
        formula="" if new is None else new.formula,
        known=known is not None,
        multiples=list(proposal.multiples),
        elements=_elements(parent, proposal, after if known is None else None),
        probability=proposal.probability,
        balanced=proposal.balanced,
        voltage_before=before.voltage,
        voltage_after=None if after is None else after.voltage,
        change=change,
        lo90=None if change is None or half is None else change - half,
        hi90=None if change is None or half is None else change + half,
        out_of_domain=None if after is None else after.out_of_domain,
        capacity_change=capacity_change,
        energy_density_change=energy_change,
        verdict=_verdict(proposal, after, change),
        reason=reason,
    )


def _half_width(before: IonPrediction, after: IonPrediction) -> float | None:
    """Half of the change's 90 % interval, V, as if the two errors were independent.

    Errors of parent and child share their framework, so the true interval is narrower.
    """
    bounds = (before.lo90, before.hi90, after.lo90, after.hi90)
    if any(bound is None for bound in bounds):
        return None
    low, high, new_low, new_high = (float(bound) for bound in bounds if bound is not None)
    return math.hypot((high - low) / 2, (new_high - new_low) / 2)


def _elements(
    parent: _Parent, proposal: Proposal, after: IonPrediction | None
) -> list[SubstitutedElement]:
    """The swaps with local voltages; a known structure's sites have another order, so none."""
    images = math.prod(proposal.multiples)
    before = np.tile(parent.prediction.additive, images)
    return [
        SubstitutedElement(
            old=swap.old,
            new=swap.new,
            sites=list(swap.sites),
            probability=swap.probability,
            local_before=float(before[list(swap.sites)].mean()),
            local_after=None if after is None else float(after.additive[list(swap.sites)].mean()),
        )
        for swap in proposal.swaps
    ]


def _verdict(proposal: Proposal, after: IonPrediction | None, change: float | None) -> Verdict:
    if not proposal.balanced:
        return Verdict.UNBALANCED
    if after is not None and after.out_of_domain is not None and after.out_of_domain >= 100:
        return Verdict.OUT_OF_DOMAIN
    return Verdict.IMPROVES if change is not None and change >= SMALLEST_GAIN else Verdict.NO_GAIN
