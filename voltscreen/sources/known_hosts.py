"""The known electrode hosts: cells and measured voltages from `known_hosts.yaml`."""

from __future__ import annotations

import warnings
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from pymatgen.core import Structure


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Cell(_Part):
    """A conventional cell; what symmetry fixes may be left out of the file."""

    a: float = Field(gt=0, description="angstrom")
    b: float | None = Field(default=None, gt=0, description="angstrom; a by default")
    c: float | None = Field(default=None, gt=0, description="angstrom; a by default")
    alpha: float = Field(default=90, description="degree")
    beta: float = Field(default=90, description="degree")
    gamma: float | None = Field(
        default=None, description="degree; 120 in trigonal and hexagonal groups, else 90"
    )


class HostSite(_Part):
    """An occupied Wyckoff position, by the coordinates of one of its atoms."""

    element: str = Field(description="element symbol")
    wyckoff: str = Field(description="multiplicity and letter")
    x: float = Field(description="fractional")
    y: float = Field(description="fractional")
    z: float = Field(description="fractional")


class MeasuredVoltage(_Part):
    """A measured average insertion voltage."""

    ion: str = Field(description="working ion")
    voltage: float = Field(description="V against the ion's metal")
    kind: Literal["insertion", "other"] = Field(
        description="`other`: the reaction is not, or not only, an insertion of the ion"
    )
    uncertainty: float | None = Field(
        default=None, description="V; how far the average can be taken differently"
    )
    reference: str = Field(description="where it was published")
    note: str | None = Field(default=None, description="what one must know to compare it")


class KnownHost(_Part):
    """A host written from its crystallography."""

    name: str = Field(description="unique, kebab-case")
    label: str = Field(description="a name for people")
    formula: str = Field(description="one formula unit")
    space_group: str = Field(description="symbol as pymatgen takes it")
    space_group_number: int = Field(ge=1, le=230)
    lattice: Cell
    sites: tuple[HostSite, ...] = Field(min_length=1)
    formula_units: int = Field(ge=1, description="in the conventional cell")
    density: float = Field(gt=0, description="g/cm3")
    reference: str = Field(description="source of cell and coordinates")
    note: str | None = Field(default=None, description="what was idealised")
    measured: tuple[MeasuredVoltage, ...] = ()

    def conventional(self) -> Structure:
        """The conventional cell."""
        from pymatgen.core import Lattice, Structure

        cell = self.lattice
        hexagonal = 143 <= self.space_group_number <= 194
        gamma = cell.gamma if cell.gamma is not None else (120 if hexagonal else 90)
        lattice = Lattice.from_parameters(
            cell.a, cell.b or cell.a, cell.c or cell.a, cell.alpha, cell.beta, gamma
        )
        with warnings.catch_warnings():
            # pymatgen has no full symbol for settings such as Pbnm, and says so.
            warnings.filterwarnings("ignore", message="Full symbol not available")
            return Structure.from_spacegroup(
                self.space_group,
                lattice,
                [site.element for site in self.sites],
                [[site.x, site.y, site.z] for site in self.sites],
            )

    def structure(self) -> Structure:
        """The primitive cell, what is screened."""
        return self.conventional().get_primitive_structure()


@cache
def known_hosts() -> tuple[KnownHost, ...]:
    """All known hosts, in the order of the file."""
    text = (resources.files("voltscreen.sources") / "known_hosts.yaml").read_text(encoding="utf-8")
    return tuple(KnownHost.model_validate(entry) for entry in yaml.safe_load(text))
