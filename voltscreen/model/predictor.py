"""From candidates to voltages: hosts, graphs, one trunk pass, all ions' heads."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from voltscreen.errors import ModelError, StructureError
from voltscreen.graph import build_graphs, chunks_of_atoms, merge_alike
from voltscreen.graph.on_device.ahead import SitesAhead
from voltscreen.ions import WORKING_IONS
from voltscreen.model.memory import in_halves
from voltscreen.model.trunk import GraphTensors
from voltscreen.model.voltage_model import VoltageModel
from voltscreen.structures import HostState, PackedStructure, make_host, overlapping, refuse_overlap
from voltscreen.structures.packed import element_symbol
from voltscreen.structures.radioactive import is_radioactive, refuse_radioactive

ATOMS_PER_CHUNK = {"cpu": 6000, "cuda": 200_000}
"""Atoms in one pass: on a CPU few enough for its cache and enough for its products of matrices, on
a GPU what fills it."""
THREADS_FOR_SITES = 4
"""CPU threads from which on they find insertion sites ahead of a GPU, faster than it would itself:
docs/ten-million.md has the estimate."""


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
    *,
    on_device: bool | None = None,
) -> list[CandidatePrediction]:
    """Voltages and local voltages of candidates, in their order; arguments of `predict_columns`."""
    columns = predict_columns(model, structures, ions, host_state, on_device=on_device)
    return [columns.of(candidate) for candidate in range(len(structures))]


def predict_columns(
    model: VoltageModel,
    structures: Sequence[PackedStructure],
    ions: Sequence[str] | None = None,
    host_state: HostState = HostState.ION_REMOVED,
    *,
    on_device: bool | None = None,
) -> PredictionColumns:
    """Voltages and local voltages of candidates, as arrays.

    Ions for which a candidate gives the same host share one trunk pass. A candidate that
    cannot be predicted gets a reason and stops nothing; the result of a candidate does not
    depend on the others (beyond 1e-5 V of float32 rounding).

    Args:
        structures: candidates. ions: among the model's, default all of them.
        host_state: how candidates that contain the ion become hosts.
        on_device: whether everything is torch operations where the model is, as on a GPU, rather
            than compiled loops on the CPU; by default where the model is not on the CPU.

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

    by_torch = model.device.type != "cpu" if on_device is None else on_device
    predict = partial(_predict_hosts, model)
    with ExitStack() as stack:
        if by_torch:
            ahead = None
            if model.graph_spec.insertion_sites and torch.get_num_threads() >= THREADS_FOR_SITES:
                ahead = SitesAhead(hosts.structures, torch.get_num_threads())
                stack.callback(ahead.close)
            predict = partial(_predict_on_device, model, ahead)
        for which in chunks_of_atoms(sizes, ATOMS_PER_CHUNK[model.device.type]):
            in_halves(lambda chunk: parts.append(predict(hosts, chunk)), which.tolist(), too_large)
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
    plain = build_graphs([hosts.structures[i] for i in which], model.graph_spec)
    merged = merge_alike(plain)
    graphs, kind_of_node = merged.graphs, merged.kind_of_node
    vectors = torch.from_numpy(model.folded(graphs))
    with torch.inference_mode():
        graph = GraphTensors.from_batch(graphs, model.device, windows=False)
        reading = model.readout.read(vectors, graph)
        baseline = torch.from_numpy(model.baseline)
        asked = torch.from_numpy(hosts.wanted(which))
        shares = model.readout.shares(reading, graph, baseline, asked)
        linear = None
        if model.linear:
            linear = model.linear.local_voltages(vectors[~graph.is_site]).float().numpy()
    # From kinds of nodes to atoms.
    is_atom = graphs.atomic_numbers > 0
    atoms = (np.cumsum(is_atom) - 1)[kind_of_node[is_atom[kind_of_node]]]
    voltages = reading.voltages.numpy()
    percentile = uncertainty = None
    if model.domain:
        squares = None if reading.squares is None else reading.squares.float().numpy()
        difficulty = model.domain.difficulty(reading.pooled.numpy(), squares)
        percentile = model.domain.percentile(difficulty)
        if model.intervals:
            uncertainty = model.intervals.around(voltages, difficulty)
    _refuse_isolated(model, hosts, which, plain.isolated_atom)
    return _Part(
        voltage=voltages,
        site=shares.site.numpy(),
        uncertainty=uncertainty,
        out_of_domain=percentile,
        undercoordinated=plain.n_undercoordinated,
        linear=None if linear is None else linear[:, atoms],
        additive=shares.atoms.float().numpy()[:, atoms],
    )


def _predict_on_device(
    model: VoltageModel, ahead: SitesAhead | None, hosts: _Hosts, which: Sequence[int]
) -> _Part:
    """The same with torch operations where the model is; insertion sites from threads that work
    ahead, if there are any.
    """
    asked = torch.from_numpy(hosts.wanted(which)).to(model.device)
    sites = ahead.of(which, model.device) if ahead else None
    graphs = model.on_device.graphs([hosts.structures[i] for i in which], sites)
    found = model.on_device.predict(graphs, asked)

    def array(tensor: Tensor | None) -> Any:
        return None if tensor is None else tensor.cpu().numpy()

    voltages, difficulties = array(found.voltages), array(found.difficulties)
    intervals = model.intervals if model.domain else None
    _refuse_isolated(model, hosts, which, array(found.isolated_atoms))
    return _Part(
        voltage=voltages,
        site=array(found.sites),
        uncertainty=intervals.around(voltages, difficulties) if intervals else None,
        out_of_domain=array(found.percentiles),
        undercoordinated=array(found.undercoordinated),
        linear=array(found.linear),
        additive=array(found.additive),
    )


def _refuse_isolated(
    model: VoltageModel, hosts: _Hosts, which: Sequence[int], isolated_atom: NDArray[np.int64]
) -> None:
    """Take hosts out that have an atom without neighbours; isolated_atom: (h,), -1 for none."""
    for b in np.flatnonzero(isolated_atom >= 0).tolist():
        atom = int(isolated_atom[b])
        symbol = element_symbol(int(hosts.structures[which[b]].atomic_numbers[atom]))
        hosts.refuse(
            which[b],
            f"isolated atom: site {atom} ({symbol}) has no other within "
            f"{model.graph_spec.cutoff:g} angstrom",
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
