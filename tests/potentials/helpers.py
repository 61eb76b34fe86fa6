"""Small hosts: layered MX2, with an open gap between the layers."""

from __future__ import annotations

from voltscreen.structures import PackedStructure

METALS = (22, 23, 24, 25, 26, 27, 28, 40, 41, 42, 72, 73)
"""Atomic numbers, each of which gives another host."""


def layered_host(metal: int = 22, anion: int = 16) -> PackedStructure:
    """One layer of octahedra in a cell of three atoms."""
    a, c = 3.4, 5.9
    lattice = [[a, 0, 0], [-a / 2, a * 0.75**0.5, 0], [0, 0, c]]
    sites = [[0, 0, 0], [1 / 3, 2 / 3, 0.24], [2 / 3, 1 / 3, 0.76]]
    return PackedStructure.from_arrays(lattice, sites, [metal, anion, anion])


def lonely_atom() -> PackedStructure:
    """Neon without neighbours: no potential can say anything of it."""
    return PackedStructure.from_arrays([[12, 0, 0], [0, 12, 0], [0, 0, 12]], [[0, 0, 0]], [10])


def with_ions() -> PackedStructure:
    """The layered host with lithium and magnesium in its gap."""
    host = layered_host()
    sites = [*host.frac_coords, [0, 0, 0.5], [1 / 3, 2 / 3, 0.6]]
    return PackedStructure.from_arrays(host.lattice, sites, [*host.atomic_numbers, 3, 12])
