"""From candidates to voltages: hosts, graphs, one trunk pass, all ions' heads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from voltscreen.errors import ModelError, StructureError
from voltscreen.graph import GraphBatch, build_graphs, chunks_of_atoms, merge_alike
from voltscreen.ions import WORKING_IONS
from voltscreen.model.memory import in_halves
from voltscreen.model.trunk import GraphTensors
from voltscreen.model.voltage_model import VoltageModel
from voltscreen.structures import HostState, PackedStructure, make_host, overlapping, refuse_overlap
from voltscreen.structures.packed import element_symbol
from voltscreen.structures.radioactive import is_radioactive, refuse_radioactive

ATOMS_PER_CHUNK = {"cpu": 4000, "cuda": 100_000}
"""Atoms in one pass: on a CPU what stays in its cache, on a GPU what fills it."""


@dataclass(frozen=True, slots=True)
class IonPrediction:
    """The voltage of one host for one ion.

    host_state: how the host was made. voltage, sd, lo80, hi80, lo90, hi90: volt; all but the
    first are None for a model without training data. out_of_domain: percentile of the training
    hosts' own distances, 0 to 100, or None. undercoordinated: atoms with fewer than 12 neighbours.
    linear, additive: (n_host_atoms,) float32, volt, in the order of the host's sites; linear is
    None for a model without training data. site: share of the insertion site, volt.
    """

    ion: str
    host_state: HostState
    voltage: float
    sd: float | None
    lo80: float | None
    hi80: float | None
    lo90: float | None
    hi90: float | None
    out_of_domain: float | None
    undercoordinated: int
    linear: NDArray[np.float32] | None
    additive: NDArray[np.float32]
    site: float


@dataclass(frozen=True, slots=True)
class CandidatePrediction:
    """What the model says of one candidate: predictions by ion, or the reason there is none."""

    ions: dict[str, IonPrediction] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PredictionColumns:
    """Predictions of candidates as arrays. x ions, c candidates, h hosts, a atoms of the hosts.

    ions: names, (x,). host: (x, c) int64, the host that a candidate gives for an ion, -1 where
    there is no prediction; the reasons stand in errors, by candidate and ion.
    host_state: (h,). undercoordinated: (h,) int64, atoms with fewer than 12 neighbours.
    voltage, site: (x, h) float64, volt. uncertainty: (5, x, h) float64, volt: sd, lo80, hi80,
    lo90, hi90. out_of_domain: (x, h) float64, percentile.
    offsets: (h + 1,) int64, first atom of each host. linear, additive: (x, a) float32, volt.
    Where the model came without training data, linear, uncertainty and out_of_domain are None.
    Numbers of an ion and a host that no candidate has in common mean nothing.
    """

    ions: tuple[str, ...]
    host: NDArray[np.int64]
    errors: tuple[dict[str, str], ...]
    host_state: tuple[HostState, ...]
    undercoordinated: NDArray[np.int64]
    voltage: NDArray[np.float64]
    site: NDArray[np.float64]
    uncertainty: NDArray[np.float64] | None
    out_of_domain: NDArray[np.float64] | None
    offsets: NDArray[np.int64]
    linear: NDArray[np.float32] | None
    additive: NDArray[np.float32]

    def of(self, candidate: int) -> CandidatePrediction:
        """The prediction of one candidate as an object."""
        result = CandidatePrediction(errors=dict(self.errors[candidate]))
        for x, ion in enumerate(self.ions):
            h = int(self.host[x, candidate])
            if h < 0:
                continue
            span = slice(int(self.offsets[h]), int(self.offsets[h + 1]))
            sd, lo80, hi80, lo90, hi90 = (
                [None] * 5 if self.uncertainty is None else self.uncertainty[:, x, h].tolist()
            )
            percentile = None if self.out_of_domain is None else float(self.out_of_domain[x, h])
            result.ions[ion] = IonPrediction(
                ion=ion,
                host_state=self.host_state[h],
                voltage=float(self.voltage[x, h]),
                sd=sd,
                lo80=lo80,
                hi80=hi80,
                lo90=lo90,
                hi90=hi90,
                out_of_domain=percentile,
                undercoordinated=int(self.undercoordinated[h]),
                linear=None if self.linear is None else self.linear[x, span].copy(),
                additive=self.additive[x, span].copy(),
                site=float(self.site[x, h]),
            )
        return result


def predict_candidates(
    model: VoltageModel,
    structures: Sequence[PackedStructure],
    ions: Sequence[str] | None = None,
    host_state: HostState = HostState.ION_REMOVED,
) -> list[CandidatePrediction]:
    """Voltages and local voltages of candidates, in their order; arguments of `predict_columns`."""
    columns = predict_columns(model, structures, ions, host_state)
    return [columns.of(candidate) for candidate in range(len(structures))]


def predict_columns(
    model: VoltageModel,
    structures: Sequence[PackedStructure],
    ions: Sequence[str] | None = None,
    host_state: HostState = HostState.ION_REMOVED,
) -> PredictionColumns:
    """Voltages and local voltages of candidates, as arrays.

    Ions for which a candidate gives the same host share one trunk pass. A candidate that
    cannot be predicted gets a reason and stops nothing; the result of a candidate does not
    depend on the others (beyond 1e-5 V of float32 rounding).

    Args:
        structures: candidates. ions: among the model's, default all of them.
        host_state: how candidates that contain the ion become hosts.

    Raises:
        ModelError: an ion that the model has no head for.
    """
    wanted = model.ions if ions is None else tuple(ions)
    if missing := [ion for ion in wanted if ion not in model.ions]:
        raise ModelError(
            f"model {model.name!r} does not know {', '.join(missing)}: "
            f"it predicts {', '.join(model.ions)}"
        )
    hosts = _Hosts(model, wanted, host_state, len(structures))
    for index, reason in enumerate(_unfit(model, structures)):
        hosts.add(index, structures[index], reason)
    sizes = np.array([len(host) for host in hosts.structures], dtype=np.int64)
    parts: list[_Part] = []

    def too_large(host: int) -> None:
        hosts.refuse(
            host,
            f"out of memory: {sizes[host]} atoms are more than this machine can predict at once",
        )
        parts.append(_blank(model, int(sizes[host])))

    for which in chunks_of_atoms(sizes, ATOMS_PER_CHUNK[model.device.type]):
        in_halves(
            lambda chunk: parts.append(_predict_hosts(model, hosts, chunk)),
            which.tolist(),
            too_large,
        )
    return _joined(model, hosts, sizes, parts)


def _unfit(model: VoltageModel, structures: Sequence[PackedStructure]) -> list[str | None]:
    """For each structure why it cannot be predicted, or None."""
    reasons: list[str | None] = [None] * len(structures)
    if not structures:
        return reasons
    numbers = np.concatenate([structure.atomic_numbers for structure in structures])
    first = np.cumsum([0, *(len(structure) for structure in structures[:-1])])
    odd = is_radioactive(numbers) | ~model.table.has_row(numbers)
    suspect = np.logical_or.reduceat(odd, first) | overlapping(structures)
    for index in np.flatnonzero(suspect).tolist():
        try:
            if unknown := model.table.unknown_elements(structures[index].atomic_numbers):
                raise StructureError(
                    f"unknown element: the model has no node features for {', '.join(unknown)}"
                )
            refuse_radioactive(structures[index])
            refuse_overlap(structures[index])
        except StructureError as error:
            reasons[index] = str(error)
    return reasons


class _Hosts:
    """The distinct hosts of candidates, and which ions each serves."""

    def __init__(
        self, model: VoltageModel, ions: tuple[str, ...], state: HostState, n_candidates: int
    ) -> None:
        self.ions = ions
        self.structures: list[PackedStructure] = []
        self.states: list[HostState] = []
        self.errors: list[dict[str, str]] = [{} for _ in range(n_candidates)]
        self.host = np.full((len(ions), n_candidates), -1, np.int64)
        self._numbers = [WORKING_IONS[ion].atomic_number for ion in ions]
        self._removed = state is HostState.ION_REMOVED
        self._rows = np.array([model.ions.index(ion) for ion in ions], np.int64)
        self._n_model_ions = len(model.ions)

    def add(self, candidate: int, structure: PackedStructure, unfit: str | None) -> None:
        """The hosts of a candidate; reasons for ions without one are noted."""
        if unfit is not None:
            self.errors[candidate].update(dict.fromkeys(self.ions, unfit))
            return
        present = set(structure.atomic_numbers.tobytes()) if self._removed else set()
        given = -1
        for x, number in enumerate(self._numbers):
            if number not in present:
                if given < 0:
                    given = self._append(structure, HostState.AS_GIVEN)
                self.host[x, candidate] = given
                continue
            try:
                host = make_host(structure, self.ions[x])
            except StructureError as error:
                self.errors[candidate][self.ions[x]] = str(error)
            else:
                self.host[x, candidate] = self._append(host.structure, host.state)

    def _append(self, structure: PackedStructure, state: HostState) -> int:
        self.structures.append(structure)
        self.states.append(state)
        return len(self.structures) - 1

    def refuse(self, host: int, reason: str) -> None:
        """Take a host out, with the reason."""
        for x, candidate in zip(*np.nonzero(self.host == host), strict=True):
            self.errors[candidate][self.ions[x]] = reason
            self.host[x, candidate] = -1

    def wanted(self, which: Sequence[int]) -> NDArray[np.bool_]:
        """(ions of the model, h): whether an ion is asked of these hosts."""
        asked = np.zeros((self._n_model_ions, len(self.structures)), np.bool_)
        for x, row in enumerate(self._rows):
            asked[row, self.host[x][self.host[x] >= 0]] = True
        return asked[:, which]

    def rows(self, values: NDArray[Any]) -> NDArray[Any]:
        """Of values (..., ions of the model, h or a) those of the ions that were asked for."""
        return values[..., self._rows, :]


@dataclass(frozen=True, slots=True)
class _Part:
    """What the network says of some hosts: arrays of `PredictionColumns` for all of its ions."""

    voltage: NDArray[np.float64]
    site: NDArray[np.float64]
    uncertainty: NDArray[np.float64] | None
    out_of_domain: NDArray[np.float64] | None
    undercoordinated: NDArray[np.int64]
    linear: NDArray[np.float32] | None
    additive: NDArray[np.float32]


def _predict_hosts(model: VoltageModel, hosts: _Hosts, which: Sequence[int]) -> _Part:
    plain = graphs = build_graphs([hosts.structures[i] for i in which], model.graph_spec)
    if model.device.type == "cpu":
        merged = merge_alike(plain)
        graphs, kind_of_node = merged.graphs, merged.kind_of_node
        vectors = torch.from_numpy(model.folded(graphs))
    with torch.inference_mode():
        graph = GraphTensors.from_batch(graphs, model.device, windows=False)
        if model.device.type != "cpu":
            vectors = model.trunk(graph)
            kind_of_node = np.arange(len(vectors))
        reading = model.readout.read(vectors, graph)
        baseline = torch.from_numpy(model.baseline).to(model.device)
        asked = torch.from_numpy(hosts.wanted(which)).to(model.device)
        shares = model.readout.shares(reading, graph, baseline, asked)
        linear = None
        if model.linear:
            linear = model.linear.local_voltages(vectors[~graph.is_site]).float().cpu().numpy()
    # From kinds of nodes to atoms.
    is_atom = graphs.atomic_numbers > 0
    atoms = (np.cumsum(is_atom) - 1)[kind_of_node[is_atom[kind_of_node]]]
    voltages = reading.voltages.cpu().numpy()
    percentile = uncertainty = None
    if model.domain:
        squares = None if reading.squares is None else reading.squares.float().cpu().numpy()
        difficulty = model.domain.difficulty(reading.pooled.cpu().numpy(), squares)
        percentile = model.domain.percentile(difficulty)
        if model.intervals:
            uncertainty = model.intervals.around(voltages, difficulty)
    for b in np.flatnonzero(plain.isolated_atom >= 0).tolist():
        hosts.refuse(which[b], _isolated(plain, b))
    return _Part(
        voltage=voltages,
        site=shares.site.cpu().numpy(),
        uncertainty=uncertainty,
        out_of_domain=percentile,
        undercoordinated=plain.n_undercoordinated,
        linear=None if linear is None else linear[:, atoms],
        additive=shares.atoms.float().cpu().numpy()[:, atoms],
    )


def _isolated(graphs: GraphBatch, structure: int) -> str:
    atom = int(graphs.isolated_atom[structure])
    symbol = element_symbol(int(graphs.atomic_numbers[graphs.offsets[structure] + atom]))
    return (
        f"isolated atom: site {atom} ({symbol}) has no other within {graphs.spec.cutoff:g} angstrom"
    )


def _blank(model: VoltageModel, n_atoms: int) -> _Part:
    """The part of one host without a prediction."""
    n = len(model.ions)
    local = np.full((n, n_atoms), np.nan, np.float32)
    return _Part(
        voltage=np.full((n, 1), np.nan),
        site=np.full((n, 1), np.nan),
        uncertainty=np.full((5, n, 1), np.nan) if model.domain and model.intervals else None,
        out_of_domain=np.full((n, 1), np.nan) if model.domain else None,
        undercoordinated=np.zeros(1, np.int64),
        linear=local if model.linear else None,
        additive=local,
    )


def _joined(
    model: VoltageModel, hosts: _Hosts, sizes: NDArray[np.int64], parts: Sequence[_Part]
) -> PredictionColumns:
    """The parts as one, of the ions that were asked for."""

    def join(name: str) -> Any:
        arrays = [getattr(part, name) for part in parts]
        return None if arrays[0] is None else hosts.rows(np.concatenate(arrays, axis=-1))

    if not parts:
        parts = [_blank(model, 0)]
    return PredictionColumns(
        ions=hosts.ions,
        host=hosts.host,
        errors=tuple(hosts.errors),
        host_state=tuple(hosts.states),
        undercoordinated=np.concatenate([part.undercoordinated for part in parts]),
        voltage=join("voltage"),
        site=join("site"),
        uncertainty=join("uncertainty"),
        out_of_domain=join("out_of_domain"),
        offsets=np.concatenate(([0], np.cumsum(sizes))),
        linear=join("linear"),
        additive=join("additive"),
    )
