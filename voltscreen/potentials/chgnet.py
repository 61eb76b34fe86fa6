"""CHGNet as a potential: energies and moments of many structures, without forces.

CHGNet (Deng et al., Nature Machine Intelligence 5, 1031, 2023) ships its weights in its package.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from voltscreen.errors import MissingPackageError, StructureError
from voltscreen.structures import PackedStructure

if TYPE_CHECKING:
    from chgnet.graph.crystalgraph import CrystalGraph

WEIGHTS = "0.3.0"
"""Name of the weights: trained on MPtrj, PBE energies with the Materials Project's corrections."""
LAST_ELEMENT = 94
"""Atomic number of plutonium, the last element that CHGNet knows."""

# Larger passes are slower on a CPU, whose cache they leave, and faster on a GPU.
_ATOMS_AT_ONCE = {"cpu": 128, "cuda": 4096}


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What the potential says of one structure of n atoms.

    energy: eV, of the whole cell; the sum of the site energies.
    site_energies: (n,) float64, eV.
    moments: (n,) float64, absolute magnetic moments, Bohr magneton.
    crystal: (64,) float64, mean of the atoms' last vectors.
    """

    energy: float
    site_energies: NDArray[np.float64]
    moments: NDArray[np.float64]
    crystal: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Forces:
    """Energy of one structure of n atoms and how it changes.

    energy: eV, of the whole cell. forces: (n, 3) float64, eV/angstrom.
    strain_gradient: (3, 3) float64, eV, symmetric: derivative of the energy by the strain e of a
    cell whose rows become rows @ (1 + e); divided by the volume it is the stress.
    """

    energy: float
    forces: NDArray[np.float64]
    strain_gradient: NDArray[np.float64]


class ChgnetPotential:
    """CHGNet, loaded once, on one device.

    Attributes:
        name: of the potential.
        version: of the weights and of the package.
        label: name and weights, by which stored results are told apart.
    """

    name = "chgnet"

    def __init__(self, device: str = "auto") -> None:
        """Load the weights.

        Args:
            device: `auto` (a GPU if there is one), `cpu`, `cuda` or `cuda:N`.

        Raises:
            MissingPackageError: CHGNet is not installed.
            ModelError: the device is not there.
        """
        self.version = chgnet_version()
        self.label = chgnet_label()
        from chgnet.model.model import CHGNet

        from voltscreen.model.device import choose_device

        self.device = choose_device(device)

        with contextlib.redirect_stdout(io.StringIO()):  # it prints its name
            self._model = CHGNet.load(
                model_name=WEIGHTS, use_device=str(self.device), verbose=False
            ).eval()
        # Derivatives are taken by places and strains alone.
        self._model.requires_grad_(requires_grad=False)

    def graph(self, structure: PackedStructure) -> CrystalGraph:
        """The graph of a structure, for `evaluate` and `with_last_atom`.

        Raises:
            StructureError: an element that CHGNet does not know, an atom without neighbours, or
                a structure whose graph CHGNet cannot make.
        """
        if structure.atomic_numbers.max() > LAST_ELEMENT:
            raise StructureError("CHGNet knows no element beyond plutonium")
        try:
            with warnings.catch_warnings():
                # CHGNet has pymatgen write the formula, which warns of noble gases.
                warnings.filterwarnings("ignore", message="No Pauling electronegativity")
                graph: CrystalGraph = self._model.graph_converter(structure.to_pymatgen())
        except (ValueError, RuntimeError) as error:
            if "isolated atom" in str(error):
                raise StructureError(
                    "isolated atom: no neighbour within CHGNet's cutoff of "
                    f"{self._model.graph_converter.atom_graph_cutoff:g} angstrom"
                ) from None
            raise StructureError(f"CHGNet cannot make the graph: {_one_line(error)}") from None
        return graph

    def evaluate(self, graphs: Sequence[CrystalGraph]) -> list[Evaluation]:
        """Energies, moments and vectors, in the order of the graphs.

        Raises:
            StructureError: the potential gives a number that is not finite.
        """
        found: list[Evaluation] = []
        for batch in _batches(graphs, _ATOMS_AT_ONCE[self.device.type]):
            found.extend(self._pass(batch))
        if not all(np.isfinite(item.energy) for item in found):
            raise StructureError("CHGNet gives an energy that is not finite")
        return found

    def energies(self, structures: Sequence[PackedStructure]) -> list[float]:
        """Energies in eV, of whole cells.

        Raises:
            StructureError: as for `graph` and `evaluate`.
        """
        graphs = [self.graph(structure) for structure in structures]
        return [item.energy for item in self.evaluate(graphs)]

    def forces(self, graphs: Sequence[CrystalGraph]) -> list[Forces]:
        """Energies, forces and strain gradients, in the order of the graphs.

        CHGNet's own call keeps the graph of the derivatives for a training; without it a step of
        a relaxation takes less than half of the time.

        Raises:
            StructureError: the potential gives a number that is not finite.
        """
        found: list[Forces] = []
        for batch in _batches(graphs, _ATOMS_AT_ONCE[self.device.type]):
            found.extend(self._force_pass(batch))
        if not all(np.isfinite(item.energy) and np.isfinite(item.forces).all() for item in found):
            raise StructureError("CHGNet gives an energy or a force that is not finite")
        return found

    def _force_pass(self, graphs: Sequence[CrystalGraph]) -> list[Forces]:
        import torch
        from chgnet.model.model import BatchedGraph

        with warnings.catch_warnings():
            # CHGNet makes numbers of volumes that carry a derivative, and needs none.
            warnings.filterwarnings("ignore", message="Converting a tensor with requires_grad")
            batched = BatchedGraph.from_graphs(
                [graph.to(str(self.device)) for graph in graphs],
                bond_basis_expansion=self._model.bond_basis_expansion,
                angle_basis_expansion=self._model.angle_basis_expansion,
                compute_stress=True,
            )
        # The composition's part of the energy does not depend on places: added below.
        answer = self._model._compute(batched, return_site_energies=True)  # noqa: SLF001
        energies = [sites.sum() for sites in answer["site_energies"]]
        wanted = [*batched.atom_positions, *batched.strains]
        gradients = torch.autograd.grad(torch.stack(energies).sum(), wanted)
        composition: Any = self._model.composition_model
        shifts = composition.get_site_energies(graphs)
        return [
            Forces(
                float(sites.detach().double().sum() + shift.double().sum()),
                -slope.double().cpu().numpy(),
                0.5 * (strain + strain.T).double().cpu().numpy(),
            )
            for sites, shift, slope, strain in zip(
                answer["site_energies"],
                shifts,
                gradients[: len(graphs)],
                gradients[len(graphs) :],
                strict=True,
            )
        ]

    def _pass(self, graphs: Sequence[CrystalGraph]) -> list[Evaluation]:
        import torch

        with torch.inference_mode():
            answer: Any = self._model.predict_graph(
                list(graphs),
                task="em",
                return_site_energies=True,
                return_crystal_feas=True,
                batch_size=len(graphs),
            )
        return [_evaluation(item) for item in (answer if isinstance(answer, list) else [answer])]


def chgnet_version() -> str:
    """Version of the weights and of the package, without loading them.

    Raises:
        MissingPackageError: CHGNet is not installed.
    """
    try:
        return f"{WEIGHTS} (chgnet {importlib.metadata.version('chgnet')})"
    except importlib.metadata.PackageNotFoundError:
        raise MissingPackageError(
            "insertion energies need CHGNet: pip install 'voltscreen[potential]'"
        ) from None


def chgnet_label() -> str:
    """Name and weights, such as chgnet-0.3.0."""
    return f"{ChgnetPotential.name}-{WEIGHTS}"


def with_last_atom(graph: CrystalGraph, atomic_number: int) -> CrystalGraph:
    """The same graph with another element in its last place: edges depend on places alone."""
    from chgnet.graph.crystalgraph import CrystalGraph

    numbers = graph.atomic_number.clone()
    numbers[-1] = atomic_number
    return CrystalGraph(
        atomic_number=numbers,
        atom_frac_coord=graph.atom_frac_coord,
        atom_graph=graph.atom_graph,
        atom_graph_cutoff=graph.atom_graph_cutoff,
        neighbor_image=graph.neighbor_image,
        directed2undirected=graph.directed2undirected,
        undirected2directed=graph.undirected2directed,
        bond_graph=graph.bond_graph,
        bond_graph_cutoff=graph.bond_graph_cutoff,
        lattice=graph.lattice,
    )


def _evaluation(answer: dict[str, Any]) -> Evaluation:
    # The sum in double precision: CHGNet's own energy is a mean over atoms in single precision,
    # whose rounding grows to 1e-4 eV in a large cell.
    sites = np.asarray(answer["site_energies"], dtype=np.float64)
    return Evaluation(
        energy=float(sites.sum()),
        site_energies=sites,
        moments=np.abs(np.asarray(answer["m"], dtype=np.float64)),
        crystal=np.asarray(answer["crystal_fea"], dtype=np.float64),
    )


def _batches(graphs: Sequence[CrystalGraph], atoms: int) -> Iterator[list[CrystalGraph]]:
    """Runs of graphs of at most so many atoms together, and of one at least."""
    batch: list[CrystalGraph] = []
    held = 0
    for graph in graphs:
        size = len(graph.atomic_number)
        if batch and held + size > atoms:
            yield batch
            batch, held = [], 0
        batch.append(graph)
        held += size
    if batch:
        yield batch


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
