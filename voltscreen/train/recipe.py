"""The recipes of one training run, their out-of-fold predictions, and the model with its card.

Every recipe is judged on the same folds. Nothing is chosen by a test row: the networks' options
are fixed beforehand, and what the baselines choose they choose on folds inside the training rows.
"""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from voltscreen import __version__
from voltscreen.errors import FileFormatError
from voltscreen.graph import INSERTION
from voltscreen.ions import ION_SYMBOLS
from voltscreen.model.card import ModelCard, TrainingData
from voltscreen.model.element_table import build_element_table
from voltscreen.model.readout import QUADRATURE_NODES
from voltscreen.model.trunk import N_FEATURES
from voltscreen.model.uncertainty import Domain
from voltscreen.model.voltage_model import VoltageModel
from voltscreen.train.baselines import BASELINES
from voltscreen.train.dataset import ATTRIBUTION, LabelledElectrodes
from voltscreen.train.distill import Network
from voltscreen.train.frozen import FROZEN
from voltscreen.train.held_out import HeldOutFold, bounds, calibrate, folds_of, neighborhood_of
from voltscreen.train.out_of_fold import OutOfFold
from voltscreen.train.parts import (
    Options,
    PartKey,
    Progress,
    Workshop,
    average_of,
    make_parts,
    pretrained,
    silent,
)
from voltscreen.train.pretrained import Pretrained, save_pretrained
from voltscreen.train.report import build_report
from voltscreen.train.rungs import (
    DESCRIPTIONS,
    MAIN_SPLITS,
    OTHER_NETWORKS,
    OTHER_SEED,
    SEEDS,
    fitted_on,
    held_out_rows,
    parts_of,
)
from voltscreen.train.splits import Split, ladder
from voltscreen.train.training_hosts import TrainingHosts
from voltscreen.train.two_branches import (
    MODEL_RECIPE,
    NETWORK_RECIPE,
    PROCESS_RECIPE,
    RIDGE,
    add_two_branches,
    fit_linear,
    process_key,
    with_process,
)

SINGLE = "single"
"""Name of the model of one network."""
COMMAND = "make train"


@dataclass(frozen=True, slots=True)
class TrainingRun:
    """What to train on, and where its parts are kept.

    pretrained: networks to start from; None pre-trains on the pool hosts.
    """

    data: LabelledElectrodes
    hosts: TrainingHosts
    folder: Path
    workers: int = 1
    options: Options = field(default_factory=Options)
    pretrained: Pretrained | None = None

    def workshop(self) -> Workshop:
        """The parts of this run, in a folder named after everything that decides them."""
        inputs = f"{self.data.sha256} {self.hosts.sha256} {self.options}"
        if self.pretrained is not None:
            inputs += f" {self.pretrained.sha256}"
        folder = self.folder / hashlib.sha256(inputs.encode()).hexdigest()[:12]
        splits = ladder(self.data)
        return Workshop(self.data, self.hosts, splits, self.options, folder, self.pretrained)


@dataclass(frozen=True, slots=True)
class Trained:
    """What a training gives: the model, its first branch as a model of its own, what both and
    every other recipe say of rows held out.
    """

    model: VoltageModel
    single: VoltageModel
    out_of_fold: OutOfFold


def train_model(
    run: TrainingRun, name: str, command: str = COMMAND, progress: Progress = silent
) -> Trained:
    """Train, evaluate on every rung of the ladder, and assemble the model with its card.

    Args:
        run: data, hosts and folder; finished parts in the folder are used again.
        name: of the model. command: for the card.
    """
    shop = run.workshop()
    finals = [PartKey(NETWORK_RECIPE, "all", None, seed) for seed in SEEDS]
    keys = [*_keys(shop.splits), *finals, process_key("all", None)]
    make_parts(shop, keys, run.workers, progress)
    out_of_fold = rerun_out_of_fold(run, progress)
    single = _assemble(shop, finals, out_of_fold, SINGLE, command)
    return Trained(with_process(single, shop, out_of_fold, name), single, out_of_fold)


def rerun_out_of_fold(run: TrainingRun, progress: Progress = silent) -> OutOfFold:
    """Out-of-fold predictions of every recipe; parts that are in the folder are used again."""
    shop = run.workshop()
    make_parts(shop, list(_keys(shop.splits)), run.workers, progress)
    store = OutOfFold.of(run.data, MODEL_RECIPE)
    _add_network(store, shop)
    for recipe, name in _compared(shop.splits):
        predicted = held_out_rows(shop, recipe, shop.splits[name])
        _add(store, recipe, run.data, shop.splits[name], predicted)
    add_two_branches(store, shop)
    for recipe in store.recipes:
        store.describe(recipe, DESCRIPTIONS[recipe])
    return store


def rerun_rung(
    run: TrainingRun, recipe: str, split: str, progress: Progress = silent
) -> NDArray[np.float64]:
    """(r,) volt: what one recipe says of the held-out rows of one split; NaN where there is none.

    Raises:
        ModelError: no such recipe. FileFormatError: no such split.
    """
    shop = run.workshop()
    if split not in shop.splits:
        raise FileFormatError(f"no split {split!r}: there are {', '.join(shop.splits)}")
    make_parts(shop, parts_of(recipe, shop.splits[split]), run.workers, progress)
    return held_out_rows(shop, recipe, shop.splits[split])


def write_pretrained(run: TrainingRun, path: Path) -> None:
    """Keep the pre-trained networks of a run as a file that others can start from."""
    shop = run.workshop()
    seeds = sorted({seed // 10 for seed in (*SEEDS, OTHER_SEED)})
    states = [shop.read(pretrained(10 * seed)).state or {} for seed in seeds]
    description = shop.pretrained.description if shop.pretrained else pretraining_of(shop)
    save_pretrained(states, description, path)


def _keys(splits: dict[str, Split]) -> Iterator[PartKey]:
    """Every part that the out-of-fold predictions need, the most telling first."""
    main = [splits[name] for name in MAIN_SPLITS]
    others = [split for name, split in splits.items() if name not in MAIN_SPLITS]
    for recipe in (NETWORK_RECIPE, PROCESS_RECIPE):
        for split in (*main, *others):
            yield from parts_of(recipe, split)
    for recipe, name in _compared(splits):
        yield from parts_of(recipe, splits[name])


def _compared(splits: dict[str, Split]) -> Iterator[tuple[str, str]]:
    """Recipe and split of what stands beside the model's own two branches."""
    distilled = ("blend", "distilled-1", "distilled-ensemble")
    for recipe in (*BASELINES, *FROZEN, *distilled, *OTHER_NETWORKS):
        yield from ((recipe, name) for name in MAIN_SPLITS)
    yield from (("mean", name) for name in splits if name not in MAIN_SPLITS)
    if "formula" in splits:
        yield "boosting", "formula"


def _add(
    store: OutOfFold,
    recipe: str,
    data: LabelledElectrodes,
    split: Split,
    predicted: NDArray[np.float64],
    **optional: NDArray[np.float64],
) -> None:
    rows = np.flatnonzero(np.isfinite(predicted))
    store.add(
        recipe, split.name, data.row_id[rows], split.fold[rows], predicted[rows],
        **{name: values[rows] for name, values in optional.items()},
    )  # fmt: skip


def _add_network(store: OutOfFold, shop: Workshop) -> None:
    """The network on every split, with intervals and percentiles.

    Both rest on the grouped folds: for a grouped fold on the other four, for the other splits on
    all five.
    """
    grouped = _held_out(shop, shop.splits["grouped"])
    everything = calibrate(shop.data, grouped.values())
    for name, split in shop.splits.items():
        folds, columns = _held_out(shop, split), []
        for number, fold in folds.items():
            calibration = everything
            if name == "grouped":
                calibration = calibrate(shop.data, (folds[k] for k in folds if k != number))
            columns.append({"prediction": fold.predicted, **bounds(fold, calibration)})
        rows = np.concatenate([fold.rows for fold in folds.values()])
        store.add(
            NETWORK_RECIPE, name, shop.data.row_id[rows], split.fold[rows],
            **{key: np.concatenate([part[key] for part in columns]) for key in columns[0]},
        )  # fmt: skip


def _held_out(shop: Workshop, split: Split) -> dict[int, HeldOutFold]:
    """By fold, what the network says of the rows that it tests."""
    return {
        fold: HeldOutFold.of(
            shop.data, split, fold, fitted_on(shop, NETWORK_RECIPE, split.name, fold)
        )
        for fold in folds_of(split)
    }


def _assemble(
    shop: Workshop,
    keys: list[PartKey],
    store: OutOfFold,
    name: str,
    command: str,
) -> VoltageModel:
    data = shop.data
    table = build_element_table()
    fitted = average_of(shop, keys)
    network = Network(table, INSERTION)
    network.load_state_dict(fitted.state or {})
    network.eval().requires_grad_(False)
    pooled = fitted.pooled.astype(np.float64)
    calibration = calibrate(data, _held_out(shop, shop.splits["grouped"]).values())
    neighborhood = neighborhood_of(data, np.arange(len(data)), fitted)
    return VoltageModel(
        name=name,
        ions=ION_SYMBOLS,
        graph_spec=INSERTION,
        table=table,
        trunk=network.trunk,
        readout=network.readout.double(),
        baseline=pooled.mean(axis=0),
        linear=fit_linear(data, pooled[:, :N_FEATURES]),
        intervals=calibration.intervals,
        domain=Domain.of(neighborhood, calibration.weights),
        card=_card(shop, store, name, table.hash, command),
    )


def _card(shop: Workshop, store: OutOfFold, name: str, table_hash: str, command: str) -> ModelCard:
    data = shop.data
    return ModelCard(
        name=name,
        description="Average insertion voltage for ten working ions: CGCNN pre-trained on what a "
        "universal potential says of pool hosts, transferred to labelled electrodes",
        created=datetime.now(UTC).date().isoformat(),
        recipe=_recipe_of(shop),
        ions=list(ION_SYMBOLS),
        graph_spec=INSERTION.name,
        element_table_hash=table_hash,
        host_state="as labelled: the charged structure, which for many Li rows keeps some Li; "
        "the head is told how much",
        data=TrainingData(
            source=f"{len(data)} labelled insertion electrodes (DFT, GGA/GGA+U)",
            attribution=f"{ATTRIBUTION}; insertion electrodes as tabulated by Zhang et al.",
            rows={ion: len(data.rows_of(ion)) for ion in ION_SYMBOLS},
            hosts=len(data.hosts),
            filters=[f"{f.name}: {f.rule} ({f.removed} of {f.rows} rows)" for f in data.filters],
            sha256=data.sha256,
        ),
        own_recipe=NETWORK_RECIPE,
        **build_report(data, store, NETWORK_RECIPE),
        potential="CHGNet 0.3.0 (B. Deng et al., Nature Machine Intelligence 5, 1031, 2023), "
        "trained on Materials Project relaxations: hosts of the pool and of the electrodes are "
        "not new to it, so that every figure of a recipe that learns from its energies may be a "
        "little too good. It is not needed to screen",
        intervals="conformal, by ion: a quantile of held-out errors on the grouped folds, each "
        "divided by the difficulty of its host, times that of the new host; sd: root mean square "
        "of the same. Difficulty grows with the distance to the nearest training hosts, the "
        "spread of their labels and the model's misfit there, by weights fitted to held-out "
        "errors; out_of_domain: its percentile among the training hosts",
        local_voltages=f"linear: closed form of eq. 2 with ridge {RIDGE:g} on the mean node "
        "vectors; additive: integrated gradients of readout and head from the mean pooled vector "
        f"of the training hosts, {QUADRATURE_NODES} Gauss-Legendre nodes; site: what belongs to "
        "the insertion site",
        intended_use="screening ordered inorganic crystals; a first order of a candidate list",
        limits=[
            "labels are DFT averages over the whole reaction, not measured voltages",
            (
                "errors grow on chemistries without relatives in the training set: see the ladder, "
                "and out_of_domain in every prediction"
            ),
            "Rb and Cs rest on 50 labels each or fewer",
            (
                "another training from nothing, with other seeds or other hosts to pre-train on, "
                "moves the mean errors of all ions by up to 0.003 V, those of an ion by more: "
                "smaller differences are noise"
            ),
            (
                "the insertion site is the largest void; a host with paths but small voids, or one "
                "that rearranges, is outside what was learned"
            ),
        ],
        command=command,
        versions={
            "voltscreen": __version__,
            "torch": str(torch.__version__),
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        seconds=round(shop.seconds),
    )


def _recipe_of(shop: Workshop) -> str:
    ready = shop.pretrained
    return (
        f"{ready.description if ready else pretraining_of(shop)}; trunk and ion-conditioned head "
        f"were then fine-tuned on the electrodes of all ions together ({shop.options.finetune}); "
        f"the model's weights are the mean of {len(SEEDS)} such fine-tunings. Options were fixed "
        "beforehand: what was compared was compared on grouped fold 1 with the model of folds 2 "
        "to 4."
    )


def pretraining_of(shop: Workshop) -> str:
    """What the pre-trained networks learned, in a sentence without its full stop."""
    hosts = shop.hosts
    energies, voltages = hosts.n_labels(hosts.strange)
    return (
        "A trunk of three gated convolutions with the insertion sites as nodes learned "
        f"{energies} insertion energies and {voltages} topotactic voltages (of structures "
        "against themselves without their ion, nothing relaxed) by the potential, of "
        f"{len(hosts.strange)} unlabelled pool hosts, none of a chemical system that the labelled "
        f"electrodes have ({shop.options.pretrain})"
    )
