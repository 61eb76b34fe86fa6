"""Documents of the Materials Project, held to a schema of our own that its changes do not break."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from voltscreen.errors import StructureError, VoltscreenError
from voltscreen.structures import (
    Candidate,
    PackedStructure,
    Refused,
    SourceRef,
    refuse_overlap,
)
from voltscreen.structures.mp_ids import battery_id, plain_id
from voltscreen.structures.plain_dict import from_plain_dict

SOURCE = "mp"


def _element(value: Any) -> Any:
    """Documents name an element by its symbol or as {"element": symbol}."""
    return value.get("element") if isinstance(value, dict) else value


def _plain(value: Any) -> Any:
    return plain_id(value) if isinstance(value, str) else value


MaterialId = Annotated[str, BeforeValidator(_plain)]
Element = Annotated[str, BeforeValidator(_element)]


class _Fields(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    @classmethod
    def names(cls) -> list[str]:
        """The fields to ask for."""
        return list(cls.model_fields)


class Material(_Fields):
    """A line of the listing: which material, and when it last changed."""

    material_id: MaterialId
    last_updated: str | None = None


class Summary(Material):
    """A material of the summary endpoint. Energies in eV/atom, band gap in eV."""

    task_ids: list[MaterialId] | None = None
    structure: dict[str, Any] | None = None
    energy_above_hull: float | None = None
    formation_energy_per_atom: float | None = None
    band_gap: float | None = None
    is_stable: bool | None = None
    theoretical: bool | None = None


class KnownElectrode(_Fields):
    """An insertion electrode that the Materials Project has computed."""

    working_ion: Element
    average_voltage: float
    """V against the ion's metal"""
    id_charge: MaterialId
    id_discharge: MaterialId | None = None
    formula_charge: str | None = None
    formula_discharge: str | None = None
    capacity_grav: float | None = None
    """mAh/g"""
    max_delta_volume: float | None = None
    """largest over smallest volume, less 1"""
    stability_charge: float | None = None
    """energy above hull of the charged end, eV/atom"""
    stability_discharge: float | None = None
    """eV/atom"""
    num_steps: int | None = None
    material_ids: list[MaterialId] | None = None

    @property
    def battery_id(self) -> str:
        """As the Materials Project forms it."""
        return battery_id(self.material_ids or [self.id_charge], self.working_ion)


class LabelledElectrode(KnownElectrode):
    """An electrode with the structure of its host, from which the ion was removed."""

    host_structure: dict[str, Any] | None = None


def read_material(document: dict[str, Any], release: str) -> Candidate | Refused:
    """A summary document as a candidate, or refused with the reason.

    Raises:
        ValidationError: the document does not even say which material it is.
    """
    try:
        summary = Summary.model_validate(document)
    except ValidationError as error:
        date = document.get("last_updated")
        material = Material.model_validate({"material_id": document.get("material_id")})
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        ref = SourceRef(SOURCE, material.material_id, release, updated=date and str(date))
        return Refused(ref, f"unexpected answer of the Materials Project: {where}: {first['msg']}")
    aliases = dict.fromkeys(summary.task_ids or ())
    aliases.pop(summary.material_id, None)
    ref = SourceRef(SOURCE, summary.material_id, release, tuple(aliases), summary.last_updated)
    try:
        packed = read_structure(summary.structure)
        refuse_overlap(packed)
    except VoltscreenError as error:
        return Refused(ref, str(error))
    properties = summary.model_dump(
        include={"energy_above_hull", "formation_energy_per_atom", "band_gap", "is_stable",
                 "theoretical"},
        exclude_none=True,
    )  # fmt: skip
    return Candidate(packed, ref, properties=properties)


def read_structure(content: dict[str, Any] | None) -> PackedStructure:
    """A structure from pymatgen's dictionary.

    Raises:
        StructureError: none, disordered, or not such a dictionary.
    """
    if content is None:
        raise StructureError("no structure: the Materials Project gives none for it")
    return from_plain_dict(content)
