"""The transfer recipe: trunk on Li, frozen with its batch-norm statistics, one head an ion.

Training is cut into parts (one trunk with its heads for every fold, and one on all rows), each
saved when it is done, so that a stopped run goes on where it was.
"""

from __future__ import annotations

import hashlib
import io
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from voltscreen import __version__
from voltscreen.errors import FileFormatError
from voltscreen.graph import NEAREST, GraphBatch, build_graphs
from voltscreen.ions import ION_SYMBOLS
from voltscreen.model.card import HeldOutError, ModelCard, TrainingData
from voltscreen.model.element_table import ElementTable, build_element_table
from voltscreen.model.heads import IonHeads
from voltscreen.model.local_voltage import LinearLocal, fit_linear_local
from voltscreen.model.trunk import Trunk
from voltscreen.model.uncertainty import Intervals, conformal_half_width, fit_domain
from voltscreen.model.voltage_model import VoltageModel
from voltscreen.train.dataset import LabelledElectrodes
from voltscreen.train.evaluate import held_out_errors
from voltscreen.train.heads import HeadOptions, fit_head, stack_heads
from voltscreen.train.trunk import TrunkOptions, freeze, pooled_features, train_trunk

TRUNK_ION = "Li"
NOMINAL_COVERAGE = 0.9
MATERIALS_PROJECT = (
    "Materials Project (CC BY 4.0), A. Jain et al., APL Materials 1, 011002 (2013), "
    "doi:10.1063/1.4812323; insertion electrodes as tabulated by Zhang et al."
)

Progress = Callable[[str, int, int, float], None]
"""Called with the part's name, epoch, epochs and mean loss."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """Options of the transfer recipe.

    ridge: strength on the centred pooled features for `linear` local voltages; 10 keeps the
    spread of V_i over bootstrap samples near 0.2 V.
    """

    trunk: TrunkOptions = field(default_factory=TrunkOptions)
    head: HeadOptions = field(default_factory=HeadOptions)
    ridge: float = 10.0


@dataclass(frozen=True, eq=False)
class _Part:
    """A trunk with the heads of all ions, and the pooled features of all hosts by it."""

    trunk: Trunk
    heads: IonHeads
    pooled: NDArray[np.float64]


def train_model(
    data: LabelledElectrodes,
    name: str,
    folder: Path,
    command: str,
    recipe: Recipe | None = None,
    progress: Progress | None = None,
) -> VoltageModel:
    """Train, evaluate on every split of the data, and assemble a model with its card.

    Args:
        data: labelled electrodes. name: of the model. folder: where finished parts are kept;
        they are used again by a run with the same data and options. command: for the card.

    Raises:
        FileFormatError: an ion without enough rows to hold some of them out.
    """
    _check_rows(data)
    recipe = recipe or Recipe()
    started = time.monotonic()
    table = build_element_table()
    graphs = build_graphs(data.hosts, NEAREST)
    key = hashlib.sha256(
        f"{data_hash(data)} {table.hash} {NEAREST} {asdict(recipe)}".encode()
    ).hexdigest()[:12]
    parts = folder / key

    held_out: list[HeldOutError] = []
    predictions: dict[str, NDArray[np.float64]] = {}
    for split, fold in data.folds.items():
        predicted = np.empty(len(data))
        for number in np.unique(fold):
            part = _part(
                parts / f"{split}-{number}.pt",
                data, graphs, table, np.flatnonzero(fold != number), recipe, progress,
            )  # fmt: skip
            test = np.flatnonzero(fold == number)
            predicted[test] = _predict_rows(part, data, test)
        predictions[split] = predicted
        held_out += held_out_errors(data, predicted, fold, split)

    everything = np.arange(len(data))
    final = _part(parts / "final.pt", data, graphs, table, everything, recipe, progress)
    residual = predictions["grouped"] - data.voltage
    return _assemble(
        data, name, table, final, residual, recipe, held_out, command, time.monotonic() - started
    )


def _check_rows(data: LabelledElectrodes) -> None:
    """Every fold must leave at least two chemical systems of every ion to train on."""
    for split, fold in data.folds.items():
        for number in np.unique(fold):
            for ion in ION_SYMBOLS:
                left = set(data.group[(data.ion == ion) & (fold != number)])
                if len(left) < 2:
                    raise FileFormatError(
                        f"too few labelled electrodes for {ion}: fold {number} of the {split} "
                        f"split leaves {len(left)} chemical systems to train on, and it needs two"
                    )


def data_hash(data: LabelledElectrodes) -> str:
    """sha256 of hosts, ions and voltages, in order."""
    digest = hashlib.sha256()
    for host, ion, voltage in zip(data.host_of_row, data.ion, data.voltage, strict=True):
        digest.update(data.hosts[host].to_bytes())
        digest.update(f"{ion} {voltage!r}".encode())
    return digest.hexdigest()


def _part(
    path: Path,
    data: LabelledElectrodes,
    graphs: GraphBatch,
    table: ElementTable,
    rows: NDArray[np.int64],
    recipe: Recipe,
    progress: Progress | None,
) -> _Part:
    """Trunk and heads fitted to these rows alone, from the file when it is there."""
    if path.exists():
        return _read_part(path, table, graphs)
    report = None
    if progress:

        def report(epoch: int, loss: float) -> None:
            progress(path.stem, epoch, recipe.trunk.epochs, loss)

    trunk_rows = rows[data.ion[rows] == TRUNK_ION]
    trunk, trunk_head = train_trunk(
        graphs, data.host_of_row[trunk_rows], data.voltage[trunk_rows], table, recipe.trunk, report
    )
    pooled = pooled_features(trunk, graphs)
    heads = []
    for ion in ION_SYMBOLS:
        own = rows[data.ion[rows] == ion]
        if ion == TRUNK_ION:
            heads.append(trunk_head)
            continue
        features = pooled[data.host_of_row[own]]
        head, _ = fit_head(features, data.voltage[own], data.group[own], trunk_head, recipe.head)
        heads.append(head)
    part = _Part(trunk, stack_heads(heads), pooled)
    buffer = io.BytesIO()
    torch.save({"trunk": trunk.state_dict(), "heads": part.heads.state_dict()}, buffer)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".part")
    partial.write_bytes(buffer.getvalue())
    partial.replace(path)
    return part


def _read_part(path: Path, table: ElementTable, graphs: GraphBatch) -> _Part:
    saved = torch.load(path, weights_only=True)
    trunk = Trunk(torch.from_numpy(table.features), graphs.spec)
    trunk.load_state_dict(saved["trunk"])
    heads = IonHeads(len(ION_SYMBOLS))
    heads.load_state_dict(saved["heads"])
    return _Part(freeze(trunk), heads.requires_grad_(False), pooled_features(trunk, graphs))


def _predict_rows(
    part: _Part, data: LabelledElectrodes, rows: NDArray[np.int64]
) -> NDArray[np.float64]:
    pooled = torch.from_numpy(part.pooled[data.host_of_row[rows]]).float()
    voltages = part.heads(pooled).numpy()
    ion = np.array([ION_SYMBOLS.index(symbol) for symbol in data.ion[rows]])
    predicted: NDArray[np.float64] = voltages[ion, np.arange(len(rows))].astype(np.float64)
    return predicted


def _assemble(
    data: LabelledElectrodes,
    name: str,
    table: ElementTable,
    final: _Part,
    residual: NDArray[np.float64],
    recipe: Recipe,
    held_out: list[HeldOutError],
    command: str,
    seconds: float,
) -> VoltageModel:
    rows = {ion: data.rows_of(ion) for ion in ION_SYMBOLS}
    fits = [
        fit_linear_local(final.pooled[data.host_of_row[r]], data.voltage[r], recipe.ridge)
        for r in rows.values()
    ]
    trained_on = np.zeros((len(ION_SYMBOLS), len(data.hosts)), np.bool_)
    for x, r in enumerate(rows.values()):
        trained_on[x, data.host_of_row[r]] = True
    card = ModelCard(
        name=name,
        description="Average insertion voltage for ten working ions by transfer-learned CGCNN",
        created=datetime.now(UTC).date().isoformat(),
        recipe=f"Trunk trained on {TRUNK_ION} ({recipe.trunk}), then frozen with its batch-norm "
        "statistics; for every other ion the last two layers fitted on the frozen features, "
        f"starting from the {TRUNK_ION} head ({recipe.head}). No test row chose anything.",
        ions=list(ION_SYMBOLS),
        graph_spec=NEAREST.name,
        element_table_hash=table.hash,
        host_state="as labelled: the charged structure, which for many Li rows keeps some Li",
        data=TrainingData(
            source="4,401 DFT (GGA/GGA+U) insertion electrodes of the Materials Project"
            if len(data) == 4401
            else f"{len(data)} labelled insertion electrodes",
            attribution=MATERIALS_PROJECT,
            rows={ion: len(r) for ion, r in rows.items()},
            hosts=len(data.hosts),
            filters=[],
            sha256=data_hash(data),
        ),
        held_out=held_out,
        intervals="sd: root mean square of the errors on the grouped folds, by ion; lo90, hi90: "
        "split conformal on the same errors, one width an ion. They do not widen with the "
        "distance from the training hosts: read out_of_domain beside them",
        local_voltages=f"linear: closed form of eq. 2 with ridge {recipe.ridge:g}; additive: "
        "integrated gradients of the head from the mean pooled vector of the training hosts, "
        "8 Gauss-Legendre nodes; site is 0, the model has no insertion site",
        intended_use="screening ordered inorganic crystals; a first order of a candidate list",
        limits=[
            "labels are DFT averages over the whole reaction, not measured voltages",
            "errors grow on chemistries without relatives in the training set",
            "Rb and Cs rest on fewer than 50 labels each",
            (
                "ties at the 12th neighbour are decided by site order: another cell or atom order "
                "of the same crystal can move a voltage by tens of millivolt"
            ),
        ],
        command=command,
        versions={
            "voltscreen": __version__,
            "torch": str(torch.__version__),
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        seconds=round(seconds),
    )
    return VoltageModel(
        name=name,
        ions=ION_SYMBOLS,
        graph_spec=NEAREST,
        table=table,
        trunk=final.trunk,
        heads=final.heads.double(),
        baseline=final.pooled.mean(axis=0),
        linear=LinearLocal(
            np.stack([weights for weights, _ in fits]),
            np.array([bias for _, bias in fits]),
            recipe.ridge,
        ),
        intervals=Intervals(
            sd=np.array([np.sqrt((residual[r] ** 2).mean()) for r in rows.values()]),
            half90=np.array(
                [conformal_half_width(residual[r], NOMINAL_COVERAGE) for r in rows.values()]
            ),
        ),
        domain=fit_domain(final.pooled, trained_on),
        card=card,
    )
