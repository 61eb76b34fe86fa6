"""A dossier: everything that is known of one structure, for the page, a file and the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from voltscreen import __version__
from voltscreen.ions import ION_SYMBOLS
from voltscreen.screening import gravimetric_capacity
from voltscreen.store import Store, get_structure, unpack
from voltscreen.store.documents import (
    IonVoltage,
    KnownVoltage,
    MeasuredVoltage,
    SourceEntry,
    StructureDocument,
    SubstitutionDocument,
    VoltageDocument,
    now,
)
from voltscreen.store.electrodes import known_of
from voltscreen.store.result_query import SecondLook
from voltscreen.structures import HostState, PackedStructure, make_host

if TYPE_CHECKING:
    from voltscreen.model import CandidatePrediction, IonPrediction, VoltageModel

MOST_SIMILAR = 12
"""Stored structures of the same formula that are looked at and shown."""
MOST_SUBSTITUTIONS = 30
SYMPREC = 0.1
"""Angstrom; the Materials Project's tolerance for space groups."""


class Part(BaseModel):
    """A part of a dossier."""

    model_config = ConfigDict(frozen=True)


class Crystal(Part):
    """The structure as it was given. n atoms."""

    formula: str
    lattice: list[list[float]] = Field(description="(3, 3) rows a, b, c, angstrom")
    symbols: list[str] = Field(description="(n,) element of every site")
    frac_coords: list[list[float]] = Field(description="(n, 3) fractional")
    lengths: list[float] = Field(description="(3,) angstrom")
    angles: list[float] = Field(description="(3,) degree")
    volume: float = Field(description="cubic angstrom")
    space_group: str | None = Field(description="symbol and number, tolerance 0.1 angstrom")


class LocalVoltages(Part):
    """What every site of the host carries. m sites, those of the crystal that are kept."""

    sites: list[int] = Field(description="(m,) index of the site in the crystal")
    additive: list[float] = Field(description="(m,) volt; mean + site = voltage")
    linear: list[float] | None = Field(description="(m,) volt, eq. 2 of the paper")
    site: float | None = Field(description="volt, share of the insertion site")


class Refined(SecondLook):
    """What a second look by a universal potential found, or why it failed."""

    reason: str | None = Field(default=None, description="why it failed")

    @property
    def best(self) -> float | None:
        """The refined voltage, or that of the energies alone, V; None where it failed."""
        return None if self.reason else super().best


class IonEntry(Part):
    """What is said of one working ion."""

    ion: str
    voltage: float | None = Field(description="volt, predicted by the network")
    sd: float | None = Field(description="volt")
    lo80: float | None = Field(description="volt")
    hi80: float | None = Field(description="volt")
    lo90: float | None = Field(description="volt")
    hi90: float | None = Field(description="volt")
    out_of_domain: float | None = Field(description="percentile")
    host_state: str | None = Field(description="ion_removed or as_given")
    undercoordinated: int | None = Field(description="atoms with fewer than 12 neighbours")
    capacity: float | None = Field(description="mAh/g of the discharged compound")
    energy_density: float | None = Field(description="Wh/kg of the discharged compound")
    known: KnownVoltage | None = Field(description="computed by the Materials Project")
    measured: list[MeasuredVoltage] = Field(description="experiments")
    refined: list[Refined] = Field(description="by a universal potential")
    local: LocalVoltages | None
    error: str | None = Field(description="why there is no voltage")


class ModelReference(Part):
    """The model behind the voltages, and how far its card says they can be trusted."""

    id: str
    name: str
    description: str
    mae_grouped: float | None = Field(description="V, all ions, chemical systems held out")
    mae_random: float | None = Field(description="V, all ions, random folds")


class Predictions(Part):
    """The voltages by one model."""

    model: ModelReference
    predicted_at: datetime = Field(description="UTC")
    reason: str | None = Field(description="why there is no voltage at all")
    ions: list[IonEntry]


class Similar(Part):
    """A stored structure of the same formula."""

    structure_id: str
    name: str
    nsites: int
    same_framework: bool = Field(description="by pymatgen's StructureMatcher")


class TrainingHost(Part):
    """A host of the model's training set near this one."""

    host_id: str = Field(description="Materials Project id")
    formula: str
    distance: float = Field(
        description="in the model's feature space, standard deviations of the training hosts"
    )
    ions: list[str] = Field(description="those it is labelled for")


class Placed(Part):
    """A place in a campaign's ranking."""

    campaign: str
    ion: str
    rank: int
    pareto: bool


class Dossier(Part):
    """Everything that is known of one structure."""

    name: str = Field(description="for people")
    formula: str
    structure_id: str = Field(description="content hash")
    stored: bool = Field(description="whether the database has the structure")
    sources: list[SourceEntry]
    properties: dict[str, Any] = Field(description="from its sources")
    measured: list[MeasuredVoltage]
    refused: str | None = Field(description="why no voltage can be predicted")
    crystal: Crystal | None
    predictions: list[Predictions]
    known: dict[str, KnownVoltage] = Field(description="by ion, by the Materials Project")
    nearest: list[TrainingHost] = Field(
        default=[], description="training hosts that the model finds most like it, nearest first"
    )
    similar: list[Similar]
    rankings: list[Placed]
    substitutions: list[SubstitutionDocument]
    voltscreen_version: str = __version__
    made_at: datetime = Field(default_factory=now, description="UTC")


def stored_dossier(store: Store, name: str, model: VoltageModel | None = None) -> Dossier:
    """The dossier of a stored structure.

    Args:
        name: a structure id or an id of its source.
        model: where it is at hand, to name the nearest training hosts.

    Raises:
        QueryError: none, or several, by that id.
    """
    document = get_structure(store, name)
    packed = None if document.packed is None else unpack(document)
    voltages = [
        VoltageDocument.from_mongo(row)
        for row in store.voltages.find({"structure_id": document.id})
    ]
    known = dict(known_of(store, document))
    refined = _refined(store, document.id)
    return _dossier(
        store,
        document,
        packed,
        known,
        [_of_document(store, each, document, packed, known, refined) for each in voltages],
        model,
    )


def predicted_dossier(
    store: Store,
    name: str,
    structure: PackedStructure,
    model: VoltageModel,
    prediction: CandidatePrediction,
) -> Dossier:
    """The dossier of a structure that was just predicted, with what the database knows of it."""
    row = store.structures.find_one({"_id": structure.content_hash})
    document = None if row is None else StructureDocument.from_mongo(row)
    known = {} if document is None else dict(known_of(store, document))
    measured = [] if document is None else document.measured
    refined = _refined(store, structure.content_hash)
    ions = [
        _entry(
            ion,
            _as_stored(prediction.ions.get(ion), prediction.errors.get(ion)),
            structure,
            known,
            measured,
            refined,
        )
        for ion in model.ions
        if ion in prediction.ions or ion in prediction.errors
    ]
    predictions = Predictions(
        model=_reference(model.id, model.card.name, model.card.model_dump(mode="json")),
        predicted_at=now(),
        reason=None,
        ions=ions,
    )
    dossier = _dossier(store, document, structure, known, [predictions], model)
    return dossier if document is not None else dossier.model_copy(update={"name": name})


def _dossier(
    store: Store,
    document: StructureDocument | None,
    packed: PackedStructure | None,
    known: dict[str, KnownVoltage],
    predictions: list[Predictions],
    model: VoltageModel | None,
) -> Dossier:
    key = document.id if document else (packed.content_hash if packed else "")
    formula = document.formula if document else (packed.formula if packed else "")
    return Dossier(
        name=_name(document) if document else formula,
        formula=formula,
        structure_id=key,
        stored=document is not None,
        sources=document.sources if document else [],
        properties=document.properties if document else {},
        measured=document.measured if document else [],
        refused=document.refused if document else None,
        crystal=None if packed is None else crystal_of(packed),
        predictions=predictions,
        known=known,
        nearest=[] if packed is None or model is None else _nearest(model, packed, predictions),
        similar=[] if packed is None else _similar(store, packed),
        rankings=[
            Placed(**{name: row[name] for name in Placed.model_fields})
            for row in store.rankings.find({"structure_id": key}).limit(50)
        ],
        substitutions=[
            SubstitutionDocument.from_mongo(row)
            for row in store.substitutions.find({"parent": key}).limit(MOST_SUBSTITUTIONS)
        ],
    )


def _name(document: StructureDocument) -> str:
    if document.label:
        return document.label
    ids = [entry.id for entry in document.sources]
    return f"{document.formula} ({ids[0]})" if document.formula and ids else document.formula


def crystal_of(packed: PackedStructure) -> Crystal:
    """The structure as plain values."""
    structure = packed.to_pymatgen()
    return Crystal(
        formula=packed.formula,
        lattice=packed.lattice.tolist(),
        symbols=packed.symbols,
        frac_coords=packed.frac_coords.tolist(),
        lengths=list(structure.lattice.abc),
        angles=list(structure.lattice.angles),
        volume=packed.volume,
        space_group=_space_group(structure),
    )


def _space_group(structure: Any) -> str | None:
    import warnings

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # spglib tells of its own changes to come
            symbol, number = structure.get_space_group_info(symprec=SYMPREC)
    except Exception:  # noqa: BLE001 - spglib gives up in many ways on odd cells
        return None
    return f"{symbol} ({number})"


def _of_document(
    store: Store,
    voltages: VoltageDocument,
    document: StructureDocument,
    packed: PackedStructure | None,
    known: dict[str, KnownVoltage],
    refined: dict[str, list[Refined]],
) -> Predictions:
    return Predictions(
        model=model_reference(store, voltages.model_id),
        predicted_at=voltages.written_at,
        reason=voltages.reason,
        ions=[]
        if packed is None
        else [
            _entry(ion, found, packed, known, document.measured, refined)
            for ion, found in sorted(voltages.ions.items(), key=_by_ion)
        ],
    )


def _by_ion(item: tuple[str, IonVoltage]) -> int:
    return ION_SYMBOLS.index(item[0]) if item[0] in ION_SYMBOLS else len(ION_SYMBOLS)


def _entry(
    ion: str,
    found: IonVoltage,
    packed: PackedStructure,
    known: dict[str, KnownVoltage],
    measured: Iterable[MeasuredVoltage],
    refined: dict[str, list[Refined]],
) -> IonEntry:
    capacity = None
    if found.voltage is not None and found.host_state is not None:
        host = make_host(packed, ion, HostState(found.host_state)).structure
        capacity = gravimetric_capacity(host.element_counts, ion)
    plain = found.model_dump(exclude={"linear", "additive", "site"})
    return IonEntry(
        ion=ion,
        **plain,
        capacity=capacity,
        energy_density=None if capacity is None or not found.voltage else capacity * found.voltage,
        known=known.get(ion),
        measured=[each for each in measured if each.ion == ion],
        refined=refined.get(ion, []),
        local=_local(ion, found, packed),
    )


def _local(ion: str, found: IonVoltage, packed: PackedStructure) -> LocalVoltages | None:
    if found.additive is None or found.host_state is None:
        return None
    sites: Sequence[int] = range(len(packed))
    if found.host_state == HostState.ION_REMOVED:
        sites = [i for i, symbol in enumerate(packed.symbols) if symbol != ion]
    additive = np.frombuffer(found.additive, "<f4")
    linear = None if found.linear is None else np.frombuffer(found.linear, "<f4").tolist()
    return LocalVoltages(
        sites=list(sites), additive=additive.tolist(), linear=linear, site=found.site
    )


def _as_stored(prediction: IonPrediction | None, error: str | None) -> IonVoltage:
    """A fresh prediction in the form of a stored one."""
    if prediction is None:
        return IonVoltage(error=error)
    names = ("voltage", "sd", "lo80", "hi80", "lo90", "hi90", "out_of_domain", "undercoordinated")
    linear = prediction.linear
    return IonVoltage(
        **{name: getattr(prediction, name) for name in names},
        host_state=prediction.host_state.value,
        linear=None if linear is None else linear.astype("<f4").tobytes(),
        additive=prediction.additive.astype("<f4").tobytes(),
        site=prediction.site,
    )


def _refined(store: Store, structure_id: str) -> dict[str, list[Refined]]:
    """By ion, refined voltages that are on record."""
    found: dict[str, list[Refined]] = {}
    for row in store.refinements.find({"structure_id": structure_id}):
        found.setdefault(row["ion"], []).append(Refined.of(row))
    return found


def model_reference(store: Store, model_id: str) -> ModelReference:
    """What is known of a model that the database holds."""
    row = store.models.find_one({"_id": model_id}, {"name": 1, "card": 1}) or {}
    return _reference(model_id, row.get("name", model_id), row.get("card"))


def _reference(model_id: str, name: str, card: dict[str, Any] | None) -> ModelReference:
    card = card or {}

    def error(split: str) -> float | None:
        for entry in card.get("ladder", []):
            if (entry["recipe"], entry["split"], entry["ion"], entry["rows"]) == (
                card.get("own_recipe"), split, "all", "all",
            ):  # fmt: skip
                return float(entry["mae"])
        return None

    return ModelReference(
        id=model_id,
        name=name,
        description=card.get("description", ""),
        mae_grouped=error("grouped"),
        mae_random=error("random"),
    )


def _nearest(
    model: VoltageModel, packed: PackedStructure, predictions: Sequence[Predictions]
) -> list[TrainingHost]:
    """Training hosts of the model nearest to the host of the first ion that it predicted."""
    from voltscreen.model.training_hosts import nearest_training_hosts

    own = [each for each in predictions if each.model.id == model.id]
    entries = [entry for each in own for entry in each.ions if entry.host_state is not None]
    if not entries:
        return []
    state = HostState(str(entries[0].host_state))
    host = make_host(packed, entries[0].ion, state).structure
    (found,) = nearest_training_hosts(model, [host])
    return [
        TrainingHost(
            host_id=each.host_id,
            formula=each.formula,
            distance=each.distance,
            ions=list(each.ions),
        )
        for each in found
    ]


def _similar(store: Store, packed: PackedStructure) -> list[Similar]:
    """Other stored structures of the formula; those of the same framework first."""
    from pymatgen.analysis.structure_matcher import StructureMatcher

    own = packed.to_pymatgen()
    matcher = StructureMatcher()
    found = []
    rows = store.structures.find({"formula": packed.formula, "_id": {"$ne": packed.content_hash}})
    for row in rows.limit(MOST_SIMILAR):
        document = StructureDocument.from_mongo(row)
        if document.packed is not None:
            same = bool(matcher.fit(own, unpack(document).to_pymatgen()))
            found.append(
                Similar(
                    structure_id=document.id,
                    name=_name(document),
                    nsites=document.nsites,
                    same_framework=same,
                )
            )
    return sorted(found, key=lambda each: not each.same_framework)
