"""From candidates to voltages: hosts, graphs, one trunk pass, all ions' heads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from voltscreen.errors import ModelError, StructureError
from voltscreen.graph import build_graphs, chunks_of_atoms
from voltscreen.model.memory import in_halves
from voltscreen.model.trunk import GraphTensors
from voltscreen.model.voltage_model import VoltageModel
from voltscreen.structures import HostState, PackedStructure, make_host, refuse_overlap
from voltscreen.structures.packed import element_symbol
from voltscreen.structures.radioactive import refuse_radioactive

ATOMS_PER_CHUNK = {"cpu": 1000, "cuda": 100_000}
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
class _Job:
    """A distinct host and the (candidate, ions) that it serves."""

    host: PackedStructure
    state: HostState
    candidate: int
    ions: tuple[str, ...]


def predict_candidates(
    model: VoltageModel,
    structures: Sequence[PackedStructure],
    ions: Sequence[str] | None = None,
    host_state: HostState = HostState.ION_REMOVED,
) -> list[CandidatePrediction]:
    """Voltages and local voltages of candidates, in their order.

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
    results = [CandidatePrediction() for _ in structures]
    jobs: list[_Job] = []
    for index, structure in enumerate(structures):
        jobs += _hosts_of(model, structure, index, wanted, host_state, results[index].errors)
    sizes = np.array([len(job.host) for job in jobs], dtype=np.int64)
    for which in chunks_of_atoms(sizes, ATOMS_PER_CHUNK[model.device.type]):
        in_halves(
            lambda chunk: _predict_chunk(model, chunk, results),
            [jobs[i] for i in which],
            lambda job: _refuse(job, results, _too_large(job)),
        )
    return results


def _too_large(job: _Job) -> str:
    return f"out of memory: {len(job.host)} atoms are more than this machine can predict at once"


def _refuse(job: _Job, results: list[CandidatePrediction], reason: str) -> None:
    results[job.candidate].errors.update(dict.fromkeys(job.ions, reason))


def _hosts_of(
    model: VoltageModel,
    structure: PackedStructure,
    index: int,
    ions: Sequence[str],
    host_state: HostState,
    errors: dict[str, str],
) -> list[_Job]:
    """The distinct hosts of a candidate; reasons for ions without one go to `errors`."""
    try:
        if unknown := model.table.unknown_elements(structure.atomic_numbers):
            raise StructureError(
                f"unknown element: the model has no node features for {', '.join(unknown)}"
            )
        refuse_radioactive(structure)
        refuse_overlap(structure)
    except StructureError as error:
        errors.update(dict.fromkeys(ions, str(error)))
        return []
    present = set(structure.symbols).intersection(ions)
    if host_state is HostState.AS_GIVEN:
        present = set()
    jobs = []
    if shared := tuple(ion for ion in ions if ion not in present):
        jobs.append(_Job(structure, HostState.AS_GIVEN, index, shared))
    for ion in sorted(present, key=list(ions).index):
        try:
            host = make_host(structure, ion, host_state)
        except StructureError as error:
            errors[ion] = str(error)
        else:
            jobs.append(_Job(host.structure, host.state, index, (ion,)))
    return jobs


def _isolated(job: _Job, atom: int, cutoff: float) -> str:
    symbol = element_symbol(int(job.host.atomic_numbers[atom]))
    return f"isolated atom: site {atom} ({symbol}) has no other within {cutoff:g} angstrom"


def _predict_chunk(
    model: VoltageModel,
    jobs: list[_Job],
    results: list[CandidatePrediction],
) -> None:
    graphs = build_graphs([job.host for job in jobs], model.graph_spec)
    isolated = graphs.isolated_atom
    undercoordinated = graphs.n_undercoordinated
    wanted = torch.tensor([[ion in job.ions for job in jobs] for ion in model.ions])
    with torch.inference_mode():
        graph = GraphTensors.from_batch(graphs, model.device)
        nodes = model.trunk(graph).double()
        pooled = model.readout.pool(nodes, graph)
        voltage = model.readout.voltages(pooled, graph)
        baseline = torch.from_numpy(model.baseline).to(model.device)
        shares = model.readout.shares(
            nodes, pooled, voltage, graph, baseline, wanted.to(model.device)
        )
        linears = None
        if model.linear:
            linears = model.linear.local_voltages(nodes[~graph.is_site]).float().cpu().numpy()
    voltages, features = voltage.cpu().numpy(), pooled.cpu().numpy()
    additives = shares.atoms.cpu().numpy().astype(np.float32)
    sites = shares.site.cpu().numpy()
    percentile = uncertainty = None
    if model.domain:
        difficulty = model.domain.difficulty(features)
        percentile = model.domain.percentile(difficulty)
        if model.intervals:
            uncertainty = model.intervals.around(voltages, difficulty)
    offsets = np.concatenate(([0], np.cumsum(graphs.n_atoms)))
    for b, job in enumerate(jobs):
        if isolated[b] >= 0:
            _refuse(job, results, _isolated(job, int(isolated[b]), model.graph_spec.cutoff))
            continue
        span = slice(int(offsets[b]), int(offsets[b + 1]))
        for ion in job.ions:
            x = model.ions.index(ion)
            sd, lo80, hi80, lo90, hi90 = (
                [None] * 5 if uncertainty is None else uncertainty[:, x, b].tolist()
            )
            results[job.candidate].ions[ion] = IonPrediction(
                ion=ion,
                host_state=job.state,
                voltage=float(voltages[x, b]),
                sd=sd,
                lo80=lo80,
                hi80=hi80,
                lo90=lo90,
                hi90=hi90,
                out_of_domain=None if percentile is None else float(percentile[x, b]),
                undercoordinated=int(undercoordinated[b]),
                linear=None if linears is None else linears[x, span].copy(),
                additive=additives[x, span].copy(),
                site=float(sites[x, b]),
            )
