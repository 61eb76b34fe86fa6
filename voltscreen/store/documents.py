"""The documents of the collections: these models are the schema.

Units stand in the descriptions. A field is absent from MongoDB only where its model gives it a
default of None.
"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field

from voltscreen import __version__
from voltscreen.errors import DatabaseError

SCHEMA_VERSION = 2
"""Raised with a step in `store.migrations` that brings older documents forward."""


def now() -> datetime:
    """The present in UTC, in MongoDB's resolution of a millisecond."""
    time = datetime.now(UTC)
    return time.replace(microsecond=time.microsecond // 1000 * 1000)


class Document(BaseModel):
    """What every document carries."""

    model_config = ConfigDict(frozen=True, populate_by_name=True, extra="ignore")
    collection: ClassVar[str]

    schema_version: int = Field(default=SCHEMA_VERSION, description="version of these models")
    voltscreen_version: str = Field(default=__version__, description="version that wrote it")
    written_at: datetime = Field(default_factory=now, description="UTC")

    def to_mongo(self) -> dict[str, Any]:
        """The document as pymongo takes it; what is None is left out."""
        return self.model_dump(by_alias=True, exclude_none=True)

    @classmethod
    def from_mongo(cls, document: dict[str, Any]) -> Self:
        """The inverse of `to_mongo`; documents of older schema versions are read as well.

        Raises:
            DatabaseError: a newer voltscreen wrote it.
        """
        if (version := document.get("schema_version", 1)) > SCHEMA_VERSION:
            raise DatabaseError(
                f"{cls.collection} {document.get('_id')!r} was written by voltscreen "
                f"{document.get('voltscreen_version')} with schema version {version}; this is "
                f"{__version__} and knows versions up to {SCHEMA_VERSION}: update voltscreen"
            )
        return cls.model_validate(document)


class Part(BaseModel):
    """A part of a document."""

    model_config = ConfigDict(frozen=True)


# --- structures -----------------------------------------------------------------------------


class SourceEntry(Part):
    """One place a structure was found in."""

    source: str = Field(description="mp, files, parquet or hosts")
    id: str = Field(description="id there: Materials Project id, file name, host name")
    db_version: str | None = Field(default=None, description="release of that source")
    aliases: list[str] | None = Field(default=None, description="its other ids there")
    updated: str | None = Field(default=None, description="when the source last changed it")
    superseded_by: str | None = Field(
        default=None, description="structure id that the source now has under this id"
    )
    fetched_at: datetime = Field(default_factory=now, description="UTC")


class MeasuredVoltage(Part):
    """A measured average insertion voltage."""

    ion: str = Field(description="working ion")
    voltage: float = Field(description="volt against the ion's metal")
    reference: str = Field(description="where it was published")
    uncertainty: float | None = Field(
        default=None, description="volt; how far the average can be taken differently"
    )
    insertion: bool = Field(default=True, description="whether the reaction is an insertion")
    note: str | None = Field(default=None, description="what one must know to compare it")


class StructureDocument(Document):
    """A crystal, or an item of a source that was refused with a reason."""

    collection: ClassVar[str] = "structures"

    id: str = Field(alias="_id", description="content hash, 32 hex digits")
    formula: str = Field(description="reduced formula; empty for a refused item")
    chemsys: str = Field(description="elements in alphabetical order, joined by -")
    elements: list[str] = Field(description="in alphabetical order")
    element_counts: dict[str, int] = Field(description="atoms in the cell by element")
    nsites: int = Field(description="atoms in the cell; 0 for a refused item")
    packed: bytes | None = Field(
        default=None, description="PackedStructure.to_bytes(); None when refused"
    )
    sources: list[SourceEntry] = Field(description="every place it was found in")
    label: str | None = Field(default=None, description="a name for people")
    properties: dict[str, Any] = Field(
        default_factory=dict, description="from the source: energy_above_hull (eV/atom), ..."
    )
    measured: list[MeasuredVoltage] = Field(default_factory=list, description="experiments")
    refused: str | None = Field(default=None, description="why no voltage can be predicted")


class ElectrodeDocument(Document):
    """An insertion electrode that the Materials Project has computed."""

    collection: ClassVar[str] = "electrodes"

    id: str = Field(alias="_id", description="battery id: Materials Project id and ion")
    ion: str = Field(description="working ion")
    voltage: float = Field(description="average, computed by DFT; volt against the ion's metal")
    charged_id: str = Field(description="Materials Project id of the charged end")
    discharged_id: str | None = Field(default=None, description="of the discharged end")
    formula_charge: str | None = None
    formula_discharge: str | None = None
    capacity: float | None = Field(default=None, description="mAh/g of the discharged end")
    volume_change: float | None = Field(default=None, description="largest / smallest - 1")
    stability_charge: float | None = Field(default=None, description="above hull, eV/atom")
    stability_discharge: float | None = Field(default=None, description="above hull, eV/atom")
    steps: int | None = Field(default=None, description="voltage steps of the average")
    db_version: str = Field(description="release of the Materials Project")


class ReleaseDocument(Document):
    """Of which release a whole collection is."""

    collection: ClassVar[str] = "releases"

    id: str = Field(alias="_id", description="collection")
    db_version: str = Field(description="release of the Materials Project")
    count: int = Field(description="documents")


class ElectrodeEnd(StrEnum):
    """What a structure is to a known electrode."""

    HOST = "host"
    """Its charged end."""
    DISCHARGED = "discharged"
    """Its discharged end."""


class KnownVoltage(Part):
    """What the Materials Project has computed for a candidate and an ion."""

    battery_id: str
    end: ElectrodeEnd = Field(description="which end of the electrode the candidate is")
    voltage: float = Field(description="volt, average by DFT")
    capacity: float | None = Field(default=None, description="mAh/g")
    volume_change: float | None = Field(default=None, description="largest / smallest - 1")
    stability_charge: float | None = Field(default=None, description="above hull, eV/atom")
    stability_discharge: float | None = Field(default=None, description="above hull, eV/atom")
    db_version: str = Field(description="release of the Materials Project")


# --- campaigns and batches ------------------------------------------------------------------


class StageRun(Part):
    """One run of a stage that is no batch: ingest, plan, rank, refine."""

    stage: str
    started_at: datetime = Field(description="UTC")
    seconds: float = Field(description="wall time, s")
    host: str = Field(description="machine; in a SLURM job SLURM's name of the node")
    job: str | None = Field(default=None, description="SLURM job, or array_task")


class CampaignState(StrEnum):
    """Where a campaign stands."""

    NEW = "new"
    RUNNING = "running"
    DONE = "done"
    CANCELLED = "cancelled"


class CampaignDocument(Document):
    """A screening campaign."""

    collection: ClassVar[str] = "campaigns"

    id: str = Field(alias="_id", description="name")
    spec: dict[str, Any] = Field(description="the spec, with absolute paths")
    spec_hash: str = Field(description="hash of the spec")
    model_id: str = Field(description="model that predicts")
    state: CampaignState = Field(default=CampaignState.NEW)
    source_fingerprint: str | None = Field(
        default=None, description="of the source when it was last ingested as a whole"
    )
    expected: int | None = Field(
        default=None, description="structures that the source holds, once it has said so"
    )
    notices: list[str] = Field(
        default_factory=list, description="what one should know of the last ingest"
    )
    counts: dict[str, int] = Field(
        default_factory=dict,
        description="structures, predicted, reused, failed, when the campaign was last ranked",
    )
    environments: dict[str, int] = Field(
        default_factory=dict,
        description="by ion, members whose sites are on record in `environments`",
    )
    workflow_id: int | None = Field(default=None, description="FireWorks id of the last ingest")
    ranker: str | None = Field(
        default=None, description="mark of the process that ranks it, or ranked it last"
    )
    errors: list[dict[str, Any]] = Field(
        default_factory=list, description="stages that failed: {stage, batch, reason, at}"
    )
    stages: list[StageRun] = Field(
        default_factory=list, description="runs of its stages; those of its batches are attempts"
    )
    submitted_at: datetime = Field(default_factory=now, description="UTC")
    started_at: datetime | None = Field(default=None, description="UTC; first ingest")
    finished_at: datetime | None = Field(default=None, description="UTC; last ranking")


class BatchKind(StrEnum):
    """What the structures of a batch are to the campaign."""

    INGESTED = "ingested"
    """Found by the source, not yet planned; lives from ingest to plan."""
    PREDICT = "predict"
    """Predicted by this campaign, one Firework a batch."""
    REUSED = "reused"
    """Had a voltage by this model when the campaign was planned."""


class BatchState(StrEnum):
    """Where a batch stands."""

    READY = "ready"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


class Attempt(Part):
    """One attempt at a batch."""

    started_at: datetime = Field(description="UTC")
    seconds: float = Field(description="wall time, s")
    host: str = Field(description="machine; in a SLURM job SLURM's name of the node")
    pid: int = Field(description="process")
    device: str = Field(description="cpu or cuda:N")
    peak_memory: float = Field(description="of the process so far, MiB")
    gpu_memory: float | None = Field(
        default=None, description="most that torch took on its GPU so far, MiB"
    )
    job: str | None = Field(default=None, description="SLURM job, or array_task")
    restart: int | None = Field(default=None, description="how often that job was requeued before")
    gpus: str | None = Field(default=None, description="CUDA_VISIBLE_DEVICES of the allocation")
    spooled: bool | None = Field(
        default=None, description="whether the database was away and results went to a file first"
    )
    handed_back: bool | None = Field(
        default=None, description="whether it ended early because its worker had to leave"
    )
    error: str | None = Field(default=None, description="why it failed")


class BatchDocument(Document):
    """Structures of a campaign that are worked together."""

    collection: ClassVar[str] = "batches"

    id: str = Field(alias="_id", description="campaign:number")
    campaign: str
    number: int = Field(description="from 1, one row of numbers a campaign")
    kind: BatchKind
    state: BatchState
    structure_ids: list[str]
    n_structures: int
    atoms: int = Field(description="in all its cells")
    fw_id: int | None = Field(default=None, description="Firework of the last attempt")
    attempts: list[Attempt] = Field(default_factory=list)
    predicted: int = Field(default=0, description="structures with a voltage")
    failed: int = Field(default=0, description="structures that failed, with a reason")


class JobArrayDocument(Document):
    """An array of SLURM jobs that was submitted for a campaign."""

    collection: ClassVar[str] = "job_arrays"

    id: str = Field(alias="_id", description="cluster:number")
    campaign: str
    number: str = Field(description="SLURM's number of the array")
    size: int = Field(description="jobs in it")
    user: str = Field(description="who submitted it")
    script: str = Field(description="path of the batch script")
    log: str = Field(description="path of the logs; %A is the number, %a the task")
    spool: str = Field(description="folder of spool files")


# --- voltages -------------------------------------------------------------------------------


class IonVoltage(Part):
    """The prediction for one working ion; without a voltage, the reason in `error`."""

    voltage: float | None = Field(default=None, description="volt against the ion's metal")
    sd: float | None = Field(default=None, description="volt")
    lo80: float | None = Field(default=None, description="volt; lower end of the 80 % interval")
    hi80: float | None = Field(default=None, description="volt; upper end of the 80 % interval")
    lo90: float | None = Field(default=None, description="volt; lower end of the 90 % interval")
    hi90: float | None = Field(default=None, description="volt; upper end of the 90 % interval")
    out_of_domain: float | None = Field(
        default=None, description="percentile of the training set's own distances"
    )
    host_state: str | None = Field(default=None, description="ion_removed or as_given")
    undercoordinated: int | None = Field(
        default=None,
        description="atoms of the host with fewer than 12 neighbours within 8 angstrom",
    )
    linear: bytes | None = Field(
        default=None, description="local voltages, volt, float32 little-endian, host's sites"
    )
    additive: bytes | None = Field(
        default=None, description="local voltages, volt, float32 little-endian, host's sites"
    )
    site: float | None = Field(default=None, description="volt; the insertion site's share")
    error: str | None = Field(default=None, description="why there is no voltage")


class VoltageStatus(StrEnum):
    """Whether a structure has a voltage."""

    OK = "ok"
    """For at least one ion."""
    FAILED = "failed"
    """For none; the reason stands beside."""


class VoltageDocument(Document):
    """The voltages of a structure by a model, all of the model's ions."""

    collection: ClassVar[str] = "voltages"

    id: str = Field(alias="_id", description="structure:model")
    structure_id: str
    model_id: str
    formula: str = Field(description="as in structures")
    chemsys: str = Field(description="as in structures")
    elements: list[str] = Field(description="as in structures")
    element_counts: dict[str, int] = Field(description="as in structures, of the candidate")
    nsites: int = Field(description="as in structures")
    energy_above_hull: float | None = Field(
        default=None, description="eV/atom, from the source, when predicted"
    )
    status: VoltageStatus
    reason: str | None = Field(default=None, description="why there is no voltage at all")
    ions: dict[str, IonVoltage] = Field(default_factory=dict, description="by working ion")


def voltage_id(structure_id: str, model_id: str) -> str:
    """`_id` of the voltages of a structure by a model."""
    return f"{structure_id}:{model_id}"


# --- environments ---------------------------------------------------------------------------


class SiteGroup(Part):
    """Sites of a host that are alike: same element, neighbours and local voltages (to 1 mV)."""

    element: str
    sites: list[int] = Field(description="indices in the host")
    count: int = Field(description="number of these sites")
    neighbors: dict[str, int] = Field(description="by element, among the twelve nearest")
    oxygen: bool = Field(description="at least two O among the twelve (the paper's text)")
    nearest_oxygen: bool = Field(description="the two nearest are both O (the paper's code)")
    oxidation_state: float | None = Field(
        default=None, description="formal, mean of the element, where charges balance"
    )
    additive: float = Field(description="local voltage, volt")
    linear: float | None = Field(default=None, description="local voltage, volt")


class EnvironmentDocument(Document):
    """The sites of a host for one ion, what surrounds each and its local voltage."""

    collection: ClassVar[str] = "environments"

    id: str = Field(alias="_id", description="structure:model:ion")
    campaigns: list[str] = Field(description="campaigns that the structure is a member of")
    structure_id: str
    model_id: str
    ion: str
    formula: str = Field(description="of the host")
    elements: list[str] = Field(description="of the host")
    bag: int = Field(description="0 to 31, by the structure's id; the bootstrap draws bags")
    sites: list[SiteGroup]


def environment_id(structure_id: str, model_id: str, ion: str) -> str:
    """`_id` of the sites of a structure's host for an ion."""
    return f"{structure_id}:{model_id}:{ion}"


# --- rankings and models --------------------------------------------------------------------


class FastVoltage(Part):
    """What the network alone says of a candidate that had a second look."""

    voltage: float = Field(description="volt")
    lo90: float | None = Field(default=None, description="volt")
    hi90: float | None = Field(default=None, description="volt")


class RankingDocument(Document):
    """A place in a campaign's ranking for one ion."""

    collection: ClassVar[str] = "rankings"

    id: str = Field(alias="_id", description="campaign:ion:rank")
    campaign: str
    ion: str
    rank: int = Field(description="from 1, best first")
    structure_id: str
    model_id: str
    formula: str = Field(description="of the candidate")
    chemsys: str = Field(description="of the candidate")
    elements: list[str] = Field(description="of the candidate")
    nsites: int | None = Field(default=None, description="atoms in the candidate's cell")
    energy_above_hull: float | None = Field(
        default=None, description="eV/atom, from the source, when predicted"
    )
    score: float | None = Field(default=None, description="what the ranking orders by")
    voltage: float = Field(description="volt")
    sd: float | None = Field(default=None, description="volt")
    lo90: float | None = Field(default=None, description="volt")
    hi90: float | None = Field(default=None, description="volt")
    fast: FastVoltage | None = Field(
        default=None,
        description="of the network, where voltage, sd, lo90 and hi90 are refined ones",
    )
    out_of_domain: float | None = Field(default=None, description="percentile")
    capacity: float | None = Field(default=None, description="mAh/g")
    energy_density: float | None = Field(default=None, description="Wh/kg")
    pareto: bool = Field(description="on the Pareto front of the objectives")
    known: KnownVoltage | None = Field(
        default=None, description="computed by the Materials Project, when last ranked"
    )


class RankingColumnsDocument(Document):
    """A part of a ranking as columns, for queries; `voltscreen.store.ranking_columns` reads it."""

    collection: ClassVar[str] = "ranking_columns"

    id: str = Field(alias="_id", description="campaign:ion:part")
    campaign: str
    ion: str
    part: int = Field(description="from 1, in order of rank")
    parts: int = Field(description="parts of this ranking")
    rows: int = Field(description="candidates in this part")
    ranked_at: datetime = Field(description="UTC; when the columns were written")
    columns: dict[str, bytes] = Field(
        description="by name: numbers as float64 little-endian (NaN: none), texts by line, "
        "elements as 120 bits a candidate"
    )


class ModelDocument(Document):
    """A model; its weights are a GridFS file."""

    collection: ClassVar[str] = "models"

    id: str = Field(alias="_id", description="hash of weights and feature table")
    name: str
    ions: list[str]
    card: dict[str, Any] = Field(description="model card")
    weights: Any = Field(description="id of the file in GridFS bucket `weights`")
    size: int = Field(description="bytes")
    sha256: str = Field(description="of the file, hex")


# --- later rooms ----------------------------------------------------------------------------


class RefinedSite(Part):
    """A void that a second look put an ion in."""

    frac_coords: list[float] = Field(description="fractional, (3,)")
    clearance: float = Field(description="angstrom")
    distance: float = Field(description="angstrom, to the nearest atom")
    multiplicity: int = Field(description="voids like it in the cell")
    unrelaxed: float | None = Field(default=None, description="insertion energy, eV")
    relaxed: float | None = Field(
        default=None, description="after the short relaxation, eV; absent where it was given up"
    )


class RefinedFilling(Part):
    """The host with so many ions, relaxed."""

    count: float = Field(description="ions in the host's cell")
    energy: float = Field(description="eV, of the host's cell with them")
    volume_change: float = Field(description="relative to the relaxed host")
    min_distance: float = Field(description="angstrom, between any two atoms")
    max_force: float = Field(description="eV/angstrom")
    converged: bool
    kept: bool = Field(description="whether the framework survived")
    known: bool = Field(description="whether it began from a known structure")


class ProfileStep(Part):
    """A step of the voltage profile."""

    first: float = Field(description="ions in the host's cell where it begins")
    last: float = Field(description="and where it ends")
    voltage: float = Field(description="volt")


class StabilityPart(Part):
    """Where an end lies against the phases that the database holds; without them, why not."""

    above_hull: float | None = Field(
        default=None, description="eV/atom by the potential; a lower bound where phases are few"
    )
    phases: int = Field(default=0, description="competing phases that the hull was made of")
    decomposition: list[str] = Field(default_factory=list, description="into which formulas")
    oxygen: float | None = Field(
        default=None, description="chemical potential of O, eV against half an O2"
    )
    releases_oxygen: bool | None = Field(default=None, description="more than air at 298 K holds")
    unknown: str | None = Field(default=None, description="why there is no hull")


class PotentialEnergyDocument(Document):
    """The energy of a stored structure by a potential, as its source relaxed it."""

    collection: ClassVar[str] = "potential_energies"

    id: str = Field(alias="_id", description="structure:potential")
    elements: dict[str, int] = Field(description="atoms in the cell by element")
    energy: float | None = Field(default=None, description="eV a cell; absent where it has none")


class RefinementDocument(Document):
    """A second look at a candidate by a universal potential."""

    collection: ClassVar[str] = "refinements"

    id: str = Field(alias="_id", description="structure:ion:potential")
    structure_id: str
    ion: str
    potential: str = Field(description="name and weights")
    formula: str = Field(description="of the host")
    n_atoms: int = Field(default=0, description="of the host's cell")
    status: VoltageStatus
    reason: str | None = Field(default=None, description="why it failed")
    limit: int | None = Field(default=None, description="ions in the cell when charge balanced")
    insertion_energies: list[float] = Field(
        default_factory=list,
        description="eV, of one ion in the largest void, at every step of the short look; the "
        "first unrelaxed",
    )
    short_look: dict[str, float] = Field(
        default_factory=dict, description="forces, pressure and shifts of the short look"
    )
    insertion: dict[str, float] = Field(
        default_factory=dict,
        description="of one ion in the largest void, nothing relaxed: energies (eV) and moments",
    )
    crystal: list[float] = Field(
        default_factory=list, description="the potential's vector of the host as given"
    )
    sites: list[RefinedSite] = Field(default_factory=list, description="voids tried")
    fillings: list[RefinedFilling] = Field(default_factory=list, description="by number of ions")
    profile: list[ProfileStep] = Field(default_factory=list, description="on the convex hull")
    known_end: str | None = Field(
        default=None, description="structure id of the known discharged end that was used"
    )
    relaxed_host: bytes | None = Field(default=None, description="PackedStructure bytes")
    relaxed_discharged: bytes | None = Field(default=None, description="PackedStructure bytes")
    host_energy: float | None = Field(default=None, description="relaxed, eV a cell")
    host_volume_change: float | None = Field(default=None, description="by its relaxation")
    host_min_distance: float | None = Field(default=None, description="relaxed, angstrom")
    ions_inserted: float | None = Field(default=None, description="in the host's cell, at the end")
    volume_change: float | None = Field(default=None, description="relative to the relaxed host")
    min_distance: float | None = Field(default=None, description="discharged, angstrom")
    framework_kept: bool | None = Field(default=None, description="by StructureMatcher")
    potential_voltage: float | None = Field(
        default=None, description="average by the potential's energies, volt"
    )
    stability_host: StabilityPart | None = Field(default=None, description="of the relaxed host")
    stability_discharged: StabilityPart | None = Field(default=None, description="and filled")
    evaluations: int = Field(default=0, description="of forces")
    seconds: float = Field(default=0.0, description="wall time, s")
    device: str = Field(default="cpu", description="cpu or cuda:N")
    model_id: str | None = Field(default=None, description="whose fast voltage was refined")
    refiner_id: str | None = Field(default=None, description="by which refiner")
    voltage: float | None = Field(default=None, description="refined, volt")
    sd: float | None = Field(default=None, description="volt")
    lo80: float | None = Field(default=None, description="volt")
    hi80: float | None = Field(default=None, description="volt")
    lo90: float | None = Field(default=None, description="volt")
    hi90: float | None = Field(default=None, description="volt")


def refinement_id(structure_id: str, ion: str, potential: str) -> str:
    """`_id` of a second look."""
    return f"{structure_id}:{ion}:{potential}"


class Verdict(StrEnum):
    """What a substitution is worth."""

    IMPROVES = "improves"
    """The predicted voltage rises; whether beyond the interval, `lo90` says."""
    NO_GAIN = "no gain"
    OUT_OF_DOMAIN = "out of domain"
    """The new host is farther from the training hosts than any of them from the others."""
    UNBALANCED = "unbalanced"
    """No formal oxidation states make the new cell neutral."""


class SubstitutedElement(Part):
    """One element for another on some sites, with the local voltages there."""

    old: str
    new: str
    sites: list[int] = Field(description="in the host, or in its supercell")
    probability: float = Field(description="Hautier's, given the old ion; 0 to 1")
    local_before: float = Field(description="volt; mean additive local voltage of these sites")
    local_after: float | None = Field(default=None, description="volt; the same in the new host")


class SubstitutionDocument(Document):
    """A suggested element substitution, whether it helped or not."""

    collection: ClassVar[str] = "substitutions"

    id: str = Field(alias="_id", description="parent:ion:swap:model")
    campaign: str = Field(description="the campaign that asked first")
    parent: str = Field(description="structure id")
    parent_formula: str = Field(description="of the host")
    origin: str = Field(description="id in its source that the parent goes back to, e.g. mp-149")
    generation: int = Field(default=1, description="round in which it was first suggested")
    lineage: list[str] = Field(
        default_factory=list, description="structure ids from the ranked candidate to the parent"
    )
    ion: str
    swap: str = Field(description="such as Mn>Fe, or Mn>Fe(1/2) for half of the sites")
    model_id: str
    structure_id: str | None = Field(
        default=None,
        description="the new structure, or the known one that it turned out to be; none where no "
        "neutral cell came out",
    )
    formula: str = Field(description="of the new host")
    known: bool = Field(default=False, description="whether the structure was known before")
    multiples: list[int] = Field(description="supercell of the host that the sites count in")
    elements: list[SubstitutedElement] = Field(description="wanted swap, then a compensating one")
    probability: float = Field(description="of the substitution, 0 to 1")
    balanced: bool = Field(description="whether formal oxidation states make the cell neutral")
    voltage_before: float = Field(description="volt")
    voltage_after: float | None = Field(default=None, description="volt")
    change: float | None = Field(default=None, description="predicted, volt")
    lo90: float | None = Field(default=None, description="of the change, volt")
    hi90: float | None = Field(default=None, description="of the change, volt")
    out_of_domain: float | None = Field(default=None, description="percentile, of the new host")
    capacity_change: float | None = Field(default=None, description="mAh/g")
    energy_density_change: float | None = Field(default=None, description="Wh/kg")
    verdict: Verdict
    reason: str | None = Field(default=None, description="why there is no voltage")


def substitution_id(parent: str, ion: str, swap: str, model_id: str) -> str:
    """`_id` of a substitution."""
    return f"{parent}:{ion}:{swap}:{model_id}"


DOCUMENTS: tuple[type[Document], ...] = (
    StructureDocument,
    ElectrodeDocument,
    ReleaseDocument,
    CampaignDocument,
    BatchDocument,
    JobArrayDocument,
    VoltageDocument,
    EnvironmentDocument,
    RankingDocument,
    RankingColumnsDocument,
    ModelDocument,
    RefinementDocument,
    PotentialEnergyDocument,
    SubstitutionDocument,
)
