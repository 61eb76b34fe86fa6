"""Substitutions for a campaign's best candidates: proposed, made, scored and kept on record.

Every suggestion stays on record, also what did not help. New crystals that formal states make
neutral become structures of their own, with their lineage; others are scored and not kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

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
    why_none,
)
from voltscreen.screening.substitution import ElementVoltages
from voltscreen.store import Store, load_structures, unpack
from voltscreen.store.connection import find_by_ids, insert_new
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
SHARED = 0.84
"""Errors of hosts of one framework are alike, so that their difference errs by less than two
independent errors: of labelled pairs 90 % lie within this part of that interval
(`python benchmarks/substitution_pairs.py`)."""
MOST_LIKE = 50
"""Known structures of one formula that a new one is compared with."""


@dataclass(frozen=True, slots=True)
class _Parent:
    """A host to substitute in, with its prediction and the structures that it came from."""

    document: StructureDocument
    host: PackedStructure
    prediction: IonPrediction
    lineage: tuple[str, ...]

    @property
    def local(self) -> NDArray[np.float64]:
        """(n_atoms,) additive local voltages, V."""
        return self.prediction.additive.astype(np.float64)

    @property
    def oxygen(self) -> NDArray[np.bool_]:
        """(n_atoms,) whether in an oxygen environment."""
        return oxygen_environments([self.host])[0]


@dataclass(frozen=True, slots=True)
class _Made:
    """What became of a proposal.

    structure: the new crystal, or the known one that it turned out to be; None where its atoms
    overlap. known: id of the known one. reason: why there is no structure, or no voltage.
    """

    proposal: Proposal
    structure: PackedStructure | None
    known: str | None
    reason: str | None


def substitute_campaign(
    store: Store,
    campaign: str,
    ion: str,
    model: VoltageModel,
    spec: SubstituteSpec,
    progress: Callable[[str, str | None], None] | None = None,
) -> list[SubstitutionDocument]:
    """Suggest substitutions for the best of a campaign's ranking, score and store them.

    What improves beyond its interval is a parent in the next generation, as many of them as the
    spec says; the search ends when nothing does. What is on record already is not scored again.

    Args:
        progress: called with the host's formula of every parent when it is done, and with why there
            is no suggestion for it, where there is none.

    Returns:
        Suggestions by generation and parent, new and recorded ones.

    Raises:
        CampaignError: the campaign has no ranking for the ion.
    """
    run = Substitutions(store, campaign, ion, model, spec, progress)
    parents, documents = run.ranked(), []
    for generation in range(1, spec.generations + 1):
        found = run.generation(generation, parents)
        documents += found
        parents = run.next_parents(found, generation)
        if not parents:
            break
    return documents


class Substitutions:
    """The substitutions of a campaign for one ion, generation by generation.

    Args:
        progress: called with the host's formula of every parent when it is done, and with why there
            is no suggestion for it, where there is none.
    """

    def __init__(
        self,
        store: Store,
        campaign: str,
        ion: str,
        model: VoltageModel,
        spec: SubstituteSpec,
        progress: Callable[[str, str | None], None] | None = None,
    ) -> None:
        self._store, self._campaign, self._ion = store, campaign, ion
        self._model, self._spec, self._progress = model, spec, progress

    def ranked(self) -> list[str]:
        """Structure ids of the ranking's best: the parents of the first generation.

        Raises:
            CampaignError: the campaign has no ranking for the ion.
        """
        wanted = {
            "campaign": self._campaign, "ion": self._ion, "rank": {"$lte": self._spec.top}
        }  # fmt: skip
        rows = self._store.rankings.find(wanted, {"structure_id": 1}).sort("rank", 1)
        if ids := [row["structure_id"] for row in rows]:
            return ids
        raise CampaignError(
            f"campaign {self._campaign!r} has no ranking for {self._ion}: finish it first with "
            f"voltscreen campaign run {self._campaign}"
        )

    def generation(self, number: int, parents: Sequence[str]) -> list[SubstitutionDocument]:
        """Suggestions in these structures, scored and on record."""
        documents: list[SubstitutionDocument] = []
        structures = load_structures(self._store, parents)
        for key in parents:
            if key not in structures:
                continue
            parent = self._parent(structures[key], number)
            found = self._suggest(parent, number)
            documents += found
            if self._progress:
                self._progress(parent.host.formula, None if found else self._why_none(parent))
        return documents

    def next_parents(self, found: Sequence[SubstitutionDocument], number: int) -> list[str]:
        """The new structures that improve beyond their interval, the surest gain first.

        None that was a parent in this generation or an earlier one.
        """
        better = sorted(
            (one for one in found if one.verdict is Verdict.IMPROVES and (one.lo90 or 0) > 0),
            key=lambda one: -(one.lo90 or 0),
        )
        chosen = []
        for key in dict.fromkeys(one.structure_id for one in better if one.structure_id):
            before = self._store.substitutions.find_one(
                {"parent": key, "ion": self._ion, "model_id": self._model.id,
                 "generation": {"$lte": number}},
                {"_id": 1},
            )  # fmt: skip
            if before is None:
                chosen.append(key)
        return chosen[: self._spec.top]

    @cached_property
    def _voltages(self) -> ElementVoltages:
        return element_voltages(self._store, self._campaign, self._ion)

    def _parent(self, document: StructureDocument, generation: int) -> _Parent:
        host = make_host(unpack(document), self._ion).structure
        lineage: tuple[str, ...] = ()
        if generation > 1:
            row = self._store.substitutions.find_one(
                {"structure_id": document.id, "ion": self._ion, "model_id": self._model.id,
                 "generation": generation - 1},
                {"lineage": 1},
            )  # fmt: skip
            lineage = tuple(row["lineage"]) if row else ()
        prediction = predict_candidates(self._model, [host], [self._ion], HostState.AS_GIVEN)[0]
        return _Parent(document, host, prediction.ions[self._ion], (*lineage, document.id))

    def _suggest(self, parent: _Parent, generation: int) -> list[SubstitutionDocument]:
        proposals = {
            substitution_id(parent.document.id, self._ion, one.name, self._model.id): one
            for one in propose(
                parent.host, self._ion, parent.local, parent.oxygen, self._voltages, self._spec
            )
        }
        on_record = {
            row["_id"]: SubstitutionDocument.from_mongo(row)
            for row in find_by_ids(self._store.substitutions, proposals)
        }
        made = [self._made(parent, one) for key, one in proposals.items() if key not in on_record]
        for document in self._scored(parent, made, generation):
            reach("substitute.scored")
            insert_new(self._store.substitutions, [document])
            reach("substitute.written")
            on_record[document.id] = document
        return [on_record[key] for key in proposals if key in on_record]

    def _why_none(self, parent: _Parent) -> str:
        return why_none(
            parent.host, self._ion, parent.local, parent.oxygen, self._voltages, self._spec
        )

    def _made(self, parent: _Parent, proposal: Proposal) -> _Made:
        """The new crystal, on record if it is neutral; the known one where there is one."""
        try:
            new = substitute(parent.host, proposal)
        except StructureError as error:
            return _Made(proposal, None, None, str(error))
        if not proposal.balanced:
            return _Made(proposal, new, None, None)
        known, found = _known(self._store, new)
        if known is None:
            _keep(self._store, new, parent, self._ion, proposal)
        return _Made(proposal, found or new, known, None)

    def _scored(
        self, parent: _Parent, made: Sequence[_Made], generation: int
    ) -> Iterator[SubstitutionDocument]:
        """Suggestions of one parent, all scored in one pass."""
        structures = [one.structure for one in made if one.structure is not None]
        predictions = iter(
            predict_candidates(self._model, structures, [self._ion], HostState.AS_GIVEN)
        )
        for one in made:
            after, reason = None, one.reason
            if one.structure is not None:
                prediction = next(predictions)
                after, reason = prediction.ions.get(self._ion), prediction.errors.get(self._ion)
            yield _document(
                self._campaign, parent, one, self._ion, self._model.id, after, reason, generation
            )


def element_voltages(store: Store, campaign: str, ion: str) -> ElementVoltages:
    """Median additive local voltages of a campaign, by element and oxygen environment."""
    model_id = ensure_environments(store, campaign, ion)
    return {
        (one.element, where is Environment.OXYGEN): (one.median, one.sites)
        for where in (Environment.OXYGEN, Environment.OTHER)
        for one in site_statistics(store, campaign, ion, model_id, environment=where)
    }


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
    if inherited := document.properties.get("origin"):
        return str(inherited)
    ids = [entry.id for entry in document.sources]
    return next((key for key in ids if key.startswith(("mp-", "mvc-"))), ids[0])


def _document(
    campaign: str,
    parent: _Parent,
    made: _Made,
    ion: str,
    model_id: str,
    after: IonPrediction | None,
    reason: str | None,
    generation: int,
) -> SubstitutionDocument:
    before, new, proposal = parent.prediction, made.structure, made.proposal
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
    stored = new is not None and proposal.balanced
    return SubstitutionDocument(
        id=substitution_id(parent.document.id, ion, proposal.name, model_id),
        campaign=campaign,
        parent=parent.document.id,
        parent_formula=parent.host.formula,
        origin=_origin(parent.document),
        generation=generation,
        lineage=list(parent.lineage),
        ion=ion,
        swap=proposal.name,
        model_id=model_id,
        structure_id=made.known or (new.content_hash if new is not None and stored else None),
        formula="" if new is None else new.formula,
        known=made.known is not None,
        multiples=list(proposal.multiples),
        elements=_elements(parent, proposal, after if made.known is None else None),
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
    """Half of the change's 90 % interval, V.

    That of two independent errors, less what parent and child have in common (`SHARED`).
    """
    bounds = (before.lo90, before.hi90, after.lo90, after.hi90)
    if any(bound is None for bound in bounds):
        return None
    low, high, new_low, new_high = (float(bound) for bound in bounds if bound is not None)
    return SHARED * math.hypot((high - low) / 2, (new_high - new_low) / 2)


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
