"""What one can ask of a campaign's ranking, and what comes back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field

from voltscreen.store.documents import FastVoltage, KnownVoltage, MeasuredVoltage

SortKey = Literal[
    "rank", "voltage", "sd", "interval_width", "out_of_domain", "capacity", "energy_density",
    "energy_above_hull", "nsites", "known_voltage", "score", "formula",
]  # fmt: skip
SORT_KEYS: tuple[SortKey, ...] = get_args(SortKey)

RANGES: dict[str, tuple[str, bool]] = {
    "min_voltage": ("voltage", True),
    "max_voltage": ("voltage", False),
    "max_interval_width": ("interval_width", False),
    "max_out_of_domain": ("out_of_domain", False),
    "min_capacity": ("capacity", True),
    "max_capacity": ("capacity", False),
    "min_energy_density": ("energy_density", True),
    "max_energy_density": ("energy_density", False),
    "max_energy_above_hull": ("energy_above_hull", False),
    "min_sites": ("nsites", True),
    "max_sites": ("nsites", False),
}
"""Filters that bound a column: (column, whether from below)."""


class ResultFilters(BaseModel):
    """Which candidates, in which order, and which page of them.

    A candidate without the number that a filter bounds does not pass.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    min_voltage: float | None = Field(default=None, description="lowest voltage, V")
    max_voltage: float | None = Field(default=None, description="highest voltage, V")
    max_interval_width: float | None = Field(
        default=None, description="widest 90 % interval, hi90 - lo90, V"
    )
    max_out_of_domain: float | None = Field(
        default=None, description="largest out-of-domain percentile, 0 to 100"
    )
    min_capacity: float | None = Field(default=None, description="lowest capacity, mAh/g")
    max_capacity: float | None = Field(default=None, description="highest capacity, mAh/g")
    min_energy_density: float | None = Field(
        default=None, description="lowest energy density, Wh/kg"
    )
    max_energy_density: float | None = Field(
        default=None, description="highest energy density, Wh/kg"
    )
    max_energy_above_hull: float | None = Field(
        default=None, description="largest energy above the hull, eV/atom, where the source has it"
    )
    min_sites: int | None = Field(
        default=None, ge=0, le=10**9, description="fewest atoms in the cell"
    )
    max_sites: int | None = Field(
        default=None, ge=0, le=10**9, description="most atoms in the cell"
    )
    elements: tuple[str, ...] = Field(default=(), description="elements that are all in it")
    exclude_elements: tuple[str, ...] = Field(
        default=(), description="elements of which none is in it"
    )
    formula: str | None = Field(
        default=None, max_length=100, description="formula of the candidate, e.g. MnO2"
    )
    chemsys: str | None = Field(
        default=None,
        max_length=100,
        description="chemical system: these elements and no others, e.g. Mn-O",
    )
    pareto: bool = Field(default=False, description="only the Pareto front")
    measured: bool = Field(default=False, description="only with a measured voltage for the ion")
    known: bool | None = Field(
        default=None,
        description="only with (true) or without (false) a voltage that the Materials Project "
        "has computed for the ion",
    )
    sort: SortKey = Field(default="rank", description="column to sort by")
    descending: bool = Field(default=False, description="largest first")
    skip: int = Field(default=0, ge=0, description="rows of the order that are left out first")
    top: int | None = Field(default=None, ge=1, description="at most so many rows")


class ResultQuery(ResultFilters):
    """What to look for in a campaign's ranking for one ion."""

    campaign: str
    ion: str


class SecondLook(BaseModel):
    """What a universal potential found of a candidate."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    potential: str
    voltage: float | None = Field(default=None, description="refined, volt")
    lo90: float | None = Field(default=None, description="volt")
    hi90: float | None = Field(default=None, description="volt")
    potential_voltage: float | None = Field(
        default=None, description="by the potential's energies alone, volt"
    )
    ions_inserted: float | None = Field(default=None, description="in the host's cell")
    volume_change: float | None = Field(default=None, description="relative to the relaxed host")
    framework_kept: bool | None = Field(default=None, description="by StructureMatcher")
    above_hull_host: float | None = Field(
        default=None, description="of the relaxed host by the same potential, eV/atom"
    )
    above_hull_discharged: float | None = Field(
        default=None, description="of the filled host by the same potential, eV/atom"
    )
    releases_oxygen: bool | None = Field(
        default=None, description="whether the host gives off oxygen in air at 298 K"
    )
    stability_unknown: str | None = Field(
        default=None, description="why the host has no hull distance"
    )

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Self:
        """From a document of `refinements`, whole or without its arrays."""
        host, filled = row.get("stability_host") or {}, row.get("stability_discharged") or {}
        stability = {
            "above_hull_host": host.get("above_hull"),
            "above_hull_discharged": filled.get("above_hull"),
            "releases_oxygen": host.get("releases_oxygen"),
            "stability_unknown": host.get("unknown"),
        }
        plain = {name: row.get(name) for name in cls.model_fields if name not in stability}
        return cls.model_validate(plain | stability)

    @property
    def best(self) -> float | None:
        """The refined voltage, or that of the energies alone, V."""
        return self.voltage if self.voltage is not None else self.potential_voltage


class ResultRow(BaseModel):
    """A ranked candidate with what is known of it."""

    model_config = ConfigDict(frozen=True)

    rank: int
    structure_id: str
    source_ids: list[str]
    label: str | None
    formula: str
    chemsys: str
    nsites: int | None = Field(description="atoms in the candidate's cell")
    voltage: float = Field(description="volt")
    sd: float | None = Field(description="volt")
    lo90: float | None = Field(description="volt")
    hi90: float | None = Field(description="volt")
    fast: FastVoltage | None = Field(
        default=None, description="of the network, where the voltage is refined by a second look"
    )
    out_of_domain: float | None = Field(description="percentile")
    capacity: float | None = Field(description="mAh/g")
    energy_density: float | None = Field(description="Wh/kg")
    energy_above_hull: float | None = Field(description="eV/atom, from the source")
    pareto: bool
    score: float | None
    measured: list[MeasuredVoltage] = Field(description="experiments with this ion")
    known: KnownVoltage | None = Field(description="computed by the Materials Project")
    refined: SecondLook | None = Field(
        default=None, description="the last second look by a universal potential that succeeded"
    )
    properties: dict[str, Any] = Field(description="stored properties of the structure")

    @property
    def name(self) -> str:
        """What people call it: its label, or formula and first id in its source."""
        if self.label:
            return self.label
        return f"{self.formula} ({self.source_ids[0]})" if self.source_ids else self.formula


class ResultPage(BaseModel):
    """A page of candidates."""

    model_config = ConfigDict(frozen=True)

    rows: list[ResultRow]
    total: int = Field(description="candidates that fit, on all pages")
    ranked: int = Field(description="candidates in the ranking")
    any_known: bool = Field(
        description="whether the Materials Project has computed a voltage for any ranked candidate"
    )
