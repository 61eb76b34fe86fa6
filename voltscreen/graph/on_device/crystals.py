"""`Crystals`: many structures as tensors on one device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from voltscreen.graph.on_device.ragged import offsets_of, owners, spans
from voltscreen.structures import PackedStructure


@dataclass(frozen=True, slots=True)
class Crystals:
    """b structures, one after another; a atoms in all. All on one device.

    lattices: (b, 3, 3) float64, rows a, b, c, angstrom. frac_coords: (a, 3) float64, fractional.
    atomic_numbers: (a,) int64. offsets: (b + 1,) int64, first atom of each structure.
    """

    lattices: Tensor
    frac_coords: Tensor
    atomic_numbers: Tensor
    offsets: Tensor

    @classmethod
    def from_structures(
        cls, structures: Sequence[PackedStructure], device: torch.device
    ) -> Crystals:
        """Copy structures, at least one, to a device."""
        sizes = np.array([len(structure) for structure in structures], dtype=np.int64)
        numbers = np.concatenate([structure.atomic_numbers for structure in structures])
        arrays = (
            np.stack([structure.lattice for structure in structures]),
            np.concatenate([structure.frac_coords for structure in structures]),
            numbers,
            np.concatenate(([0], np.cumsum(sizes))),
        )
        lattices, coords, numbers_, offsets = (torch.from_numpy(a).to(device) for a in arrays)
        return cls(lattices, coords, numbers_.long(), offsets)

    def to(self, device: torch.device) -> Crystals:
        """The same on another device."""
        names = (item.name for item in fields(self))
        return Crystals(*(getattr(self, name).to(device) for name in names))

    def __len__(self) -> int:
        return len(self.lattices)

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return self.lattices.device

    @property
    def n_atoms(self) -> Tensor:
        """(b,) int64."""
        return self.offsets.diff()

    @property
    def owner(self) -> Tensor:
        """(a,) int64: structure of each atom."""
        return owners(self.n_atoms)

    @property
    def wrapped(self) -> Tensor:
        """(a, 3): fractional coordinates in [0, 1)."""
        return self.frac_coords - self.frac_coords.floor()

    @property
    def volumes(self) -> Tensor:
        """(b,) float64, cubic angstrom."""
        a, b, c = self.lattices.unbind(1)
        volumes: Tensor = (a * torch.linalg.cross(b, c)).sum(1).abs()
        return volumes

    @property
    def inverses(self) -> Tensor:
        """(b, 3, 3): inverses of the lattices."""
        a, b, c = self.lattices.unbind(1)
        planes = torch.stack(
            (torch.linalg.cross(b, c), torch.linalg.cross(c, a), torch.linalg.cross(a, b)), 2
        )
        return planes / (a * planes[:, :, 0]).sum(1)[:, None, None]

    @property
    def spacings(self) -> Tensor:
        """(b, 3): distance between neighbouring lattice planes, angstrom."""
        return 1.0 / self.inverses.square().sum(1).sqrt()

    def select(self, which: Tensor) -> Crystals:
        """The structures of these indices, in that order."""
        sizes = self.n_atoms[which]
        _, atoms = spans(self.offsets[which], sizes)
        return Crystals(
            self.lattices[which], self.frac_coords[atoms], self.atomic_numbers[atoms],
            offsets_of(sizes),
        )  # fmt: skip
