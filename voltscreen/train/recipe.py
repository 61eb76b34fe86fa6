"""The recipes of one training run, their out-of-fold predictions, and the model with its card.

Every recipe is judged on the same folds. Nothing is chosen by a test row: the networks' options
are fixed beforehand, and what the baselines choose they choose on folds inside the training rows.
"""

from __future__ import annotations

import hashlib
import platform
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from voltscreen import __version__
from voltscreen.graph import INSERTION
from voltscreen.ions import ION_SYMBOLS
from voltscreen.model.card import ModelCard, TrainingData
from voltscreen.model.element_table import build_element_table
from voltscreen.model.local_voltage import LinearLocal, fit_linear_local
from voltscreen.model.trunk import N_FEATURES
from voltscreen.model.uncertainty import Intervals, fit_domain, fit_intervals
from voltscreen.model.voltage_model import VoltageModel
from voltscreen.train.baselines import BASELINES
from voltscreen.train.dataset import ATTRIBUTION, LabelledElectrodes
from voltscreen.train.distill import Network
from voltscreen.train.frozen import FROZEN
from voltscreen.train.insertion_labels import TrainingHosts
from voltscreen.train.out_of_fold import OutOfFold
from voltscreen.train.parts import (
    Fitted,
    Options,
    PartKey,
    Progress,
    Workshop,
    average_of,
    ion_index,
    make_parts,
)
from voltscreen.train.report import PAPER_RECIPE, build_report
from voltscreen.train.splits import Split, ladder

MODEL_RECIPE = "distilled"
SEEDS = (0, 1)
MAIN_SPLITS = ("grouped", "random")
RIDGE = 10.0
"""On the centred pooled features, for `linear` local voltages: it keeps the spread of V_i over
bootstrap samples near 0.2 V."""

DESCRIPTIONS = {
    "pooled-ions": "one trunk trained on all ions at once, ion-conditioned head",
    "pooled-ions-site": "the same with the insertion sites as nodes",
    PAPER_RECIPE: "the paper's recipe: trunk on Li, frozen, the last two layers by ion",
    "distilled-1": "trunk pre-trained on insertion energies of pool hosts, then fine-tuned on "
    "all ions; one network",
    MODEL_RECIPE: f"the same, weights averaged over {len(SEEDS)} fine-tunings: still one network "
    "(on other splits than grouped and random one fine-tuning stands for them)",
    "distilled-ensemble": f"the same, predictions averaged over {len(SEEDS)} networks",
    "blend": "mean of the model's recipe and boosting",
    **{name: baseline.description for name, baseline in BASELINES.items()},
    **{name: frozen.description for name, frozen in FROZEN.items()},
}

COMMAND = "make train"


@dataclass(frozen=True, slots=True)
class TrainingRun:
    """What to train on, and where its parts are kept."""

    data: LabelledElectrodes
    hosts: TrainingHosts
    folder: Path
    workers: int = 1
    options: Options = field(default_factory=Options)

    def workshop(self) -> Workshop:
        """The parts of this run, in a folder named after everything that decides them."""
        digest = hashlib.sha256(f"{self.data.sha256} {self.hosts.sha256} {self.options}".encode())
        folder = self.folder / digest.hexdigest()[:12]
        return Workshop(self.data, self.hosts, ladder(self.data), self.options, folder)


def train_model(
    run: TrainingRun, name: str, command: str = COMMAND, progress: Progress | None = None
) -> tuple[VoltageModel, OutOfFold]:
    """Train, evaluate on every rung of the ladder, and assemble the model with its card.

    Args:
        run: data, hosts and folder; finished parts in the folder are used again.
        name: of the model. command: for the card.
    """
    started = time.monotonic()
    out_of_fold = rerun_out_of_fold(run, progress)
    shop = run.workshop()
    finals = [PartKey(MODEL_RECIPE, "all", None, seed) for seed in SEEDS]
    make_parts(shop, finals, run.workers, progress)
    seconds = time.monotonic() - started
    return _assemble(shop, finals, out_of_fold, name, command, seconds), out_of_fold


def rerun_out_of_fold(run: TrainingRun, progress: Progress | None = None) -> OutOfFold:
    """Out-of-fold predictions of every recipe; parts that are in the folder are used again."""
    shop = run.workshop()
    make_parts(shop, list(_keys(shop.splits)), run.workers, progress)
    store = OutOfFold.of(run.data, MODEL_RECIPE)
    _add_model(store, shop)
    _add_other_networks(store, shop)
    for key in _row_keys(shop.splits):
        _add(store, key.recipe, run.data, shop.splits[key.split], shop.read_rows(key))
    _add_blend(store, shop)
    for recipe in store.recipes:
        store.describe(recipe, DESCRIPTIONS[recipe])
    return store


def _keys(splits: dict[str, Split]) -> Iterator[PartKey]:
    """Every part that the out-of-fold predictions need, the most telling first."""
    for seed in SEEDS:
        for name in MAIN_SPLITS:
            for fold in _folds(splits[name]):
                yield PartKey(MODEL_RECIPE, name, fold, seed)
    for recipe in (PAPER_RECIPE, "pooled-ions", "pooled-ions-site"):
        for name in MAIN_SPLITS:
            for fold in _folds(splits[name]):
                yield PartKey(recipe, name, fold)
    for name, split in splits.items():
        if name not in MAIN_SPLITS:
            for fold in _folds(split):
                yield PartKey(MODEL_RECIPE, name, fold)
    yield from _row_keys(splits)


def _row_keys(splits: dict[str, Split]) -> Iterator[PartKey]:
    """Parts of the baselines and of the regressors on the frozen trunk."""
    for recipe in (*BASELINES, *FROZEN):
        for name in MAIN_SPLITS:
            yield PartKey(recipe, name, None)
    for name in splits:
        if name not in MAIN_SPLITS:
            yield PartKey("mean", name, None)
    if "formula" in splits:
        yield PartKey("boosting", "formula", None)


def _folds(split: Split) -> list[int]:
    return [int(k) for k in np.unique(split.fold) if k >= 0]


def _test_rows(
    split: Split, fitted: dict[int, Fitted], shop: Workshop, ion: NDArray[np.int64]
) -> NDArray[np.float64]:
    """(r,) volt: of each row by the part of its fold; NaN where none tests it."""
    predicted = np.full(len(shop.data), np.nan)
    for fold, part in fitted.items():
        rows = split.test_rows(fold)
        predicted[rows] = part.voltages[shop.data.host_of_row[rows], ion[rows]]
    return predicted


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


def _add_other_networks(store: OutOfFold, shop: Workshop) -> None:
    ion = ion_index(shop.data)
    for name in MAIN_SPLITS:
        split = shop.splits[name]

        def rows(recipe: str, seed: int, split: Split = split) -> NDArray[np.float64]:
            keys = {k: PartKey(recipe, split.name, k, seed) for k in _folds(split)}
            parts = {k: shop.read(key) for k, key in keys.items()}
            return _test_rows(split, parts, shop, ion)

        for recipe in (PAPER_RECIPE, "pooled-ions", "pooled-ions-site"):
            _add(store, recipe, shop.data, split, rows(recipe, 0))
        members = [rows(MODEL_RECIPE, seed) for seed in SEEDS]
        _add(store, "distilled-1", shop.data, split, members[0])
        _add(store, "distilled-ensemble", shop.data, split, np.mean(members, axis=0))


def _add_blend(store: OutOfFold, shop: Workshop) -> None:
    for name in MAIN_SPLITS:
        both = [store.get(recipe, name, shop.data) for recipe in (MODEL_RECIPE, "boosting")]
        mean = 0.5 * (both[0].prediction + both[1].prediction)
        _add(store, "blend", shop.data, shop.splits[name], mean)


@dataclass(frozen=True, eq=False)
class _Rung:
    """The model's recipe on a split: (r,) predictions (V), distances and percentiles."""

    predicted: NDArray[np.float64]
    distance: NDArray[np.float64]
    percentile: NDArray[np.float64]


def _add_model(store: OutOfFold, shop: Workshop) -> None:
    """The model's own recipe on every split, with intervals and distances.

    Intervals are calibrated on the grouped folds: for a grouped fold on the other four, for the
    other splits on all five.
    """
    ion = ion_index(shop.data)
    splits = shop.splits
    rungs = {name: _rung_of(shop, split, ion) for name, split in splits.items()}
    grouped = rungs["grouped"]
    error = grouped.predicted - shop.data.voltage
    everything = fit_intervals(error, grouped.distance, ion, len(ION_SYMBOLS))
    for name, rung in rungs.items():
        rows = np.flatnonzero(np.isfinite(rung.predicted))
        bounds = np.full((5, len(shop.data)), np.nan)
        folds = _folds(splits[name]) if name == "grouped" else [None]
        for fold in folds:
            intervals, own = everything, rows
            if fold is not None:
                others = splits[name].train_rows(fold)
                intervals = fit_intervals(
                    error[others], grouped.distance[others], ion[others], len(ION_SYMBOLS)
                )
                own = splits[name].test_rows(fold)
            bounds[:, own] = _bounds(intervals, rung, ion, own)
        _add(
            store, MODEL_RECIPE, shop.data, splits[name], rung.predicted,
            lo80=bounds[1], hi80=bounds[2], lo90=bounds[3], hi90=bounds[4],
            out_of_domain=rung.percentile,
        )  # fmt: skip


def _bounds(
    intervals: Intervals, rung: _Rung, ion: NDArray[np.int64], rows: NDArray[np.int64]
) -> NDArray[np.float64]:
    """(5, k): sd, lo80, hi80, lo90, hi90 of these rows."""
    n_ions = len(ION_SYMBOLS)
    spread = (n_ions, len(rows))
    every = intervals.around(
        np.broadcast_to(rung.predicted[rows], spread), np.broadcast_to(rung.distance[rows], spread)
    )
    return every[:, ion[rows], np.arange(len(rows))]


def _rung_of(shop: Workshop, split: Split, ion: NDArray[np.int64]) -> _Rung:
    rung = _Rung(*(np.full(len(shop.data), np.nan) for _ in range(3)))
    for fold in _folds(split):
        seeds = SEEDS if split.name in MAIN_SPLITS else SEEDS[:1]
        keys = [PartKey(MODEL_RECIPE, split.name, fold, seed) for seed in seeds]
        network = average_of(shop, keys)
        voltages, pooled = network.voltages, network.pooled.astype(np.float64)
        rows, hosts = split.test_rows(fold), shop.data.host_of_row
        domain = fit_domain(pooled, trained_on(shop.data, split.train_rows(fold)))
        distance = domain.distance(pooled)
        rung.predicted[rows] = voltages[hosts[rows], ion[rows]]
        rung.distance[rows] = distance[ion[rows], hosts[rows]]
        rung.percentile[rows] = domain.percentile(distance)[ion[rows], hosts[rows]]
    return rung


def trained_on(data: LabelledElectrodes, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(x, h): hosts that these rows have with an ion; all of the rows' where an ion has none."""
    used = np.zeros((len(ION_SYMBOLS), len(data.hosts)), np.bool_)
    used[ion_index(data)[rows], data.host_of_row[rows]] = True
    used[used.sum(axis=1) < 2] = used.any(axis=0)
    return used


def _assemble(
    shop: Workshop,
    keys: list[PartKey],
    store: OutOfFold,
    name: str,
    command: str,
    seconds: float,
) -> VoltageModel:
    data = shop.data
    table = build_element_table()
    fitted = average_of(shop, keys)
    network = Network(table, INSERTION)
    network.load_state_dict(fitted.state or {})
    network.eval().requires_grad_(False)
    pooled = fitted.pooled.astype(np.float64)
    grouped = store.get(MODEL_RECIPE, "grouped", data)
    ion = ion_index(data)
    rung = _rung_of(shop, shop.splits["grouped"], ion)
    used = trained_on(data, np.arange(len(data)))
    return VoltageModel(
        name=name,
        ions=ION_SYMBOLS,
        graph_spec=INSERTION,
        table=table,
        trunk=network.trunk,
        readout=network.readout.double(),
        baseline=pooled.mean(axis=0),
        linear=_linear(data, pooled[:, :N_FEATURES]),
        intervals=fit_intervals(
            grouped.prediction - data.voltage, rung.distance, ion, len(ION_SYMBOLS)
        ),
        domain=fit_domain(pooled, used),
        card=_card(shop, store, name, table.hash, command, seconds),
    )


def _linear(data: LabelledElectrodes, features: NDArray[np.float64]) -> LinearLocal:
    """Of the mean node vectors (h, 64)."""
    fits = [
        fit_linear_local(features[data.host_of_row[rows]], data.voltage[rows], RIDGE)
        for rows in map(data.rows_of, ION_SYMBOLS)
    ]
    return LinearLocal(
        np.stack([weights for weights, _ in fits]), np.array([bias for _, bias in fits]), RIDGE
    )


def _card(
    shop: Workshop, store: OutOfFold, name: str, table_hash: str, command: str, seconds: float
) -> ModelCard:
    data, hosts = shop.data, shop.hosts
    return ModelCard(
        name=name,
        description="Average insertion voltage for ten working ions: CGCNN pre-trained on "
        "insertion energies, transferred to labelled electrodes",
        created=datetime.now(UTC).date().isoformat(),
        recipe=f"A trunk of three gated convolutions with the insertion sites as nodes learned "
        f"{hosts.n_labels} insertion energies of {len(hosts.pool)} unlabelled pool hosts, none "
        "of a chemical system that the labelled electrodes have "
        f"({shop.options.pretrain}); trunk and ion-conditioned head were then fine-tuned on the "
        f"electrodes of all ions together ({shop.options.finetune}); the model's weights are the "
        f"mean of {len(SEEDS)} such fine-tunings. Options were fixed beforehand; no test row "
        "chose anything.",
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
        own_recipe=MODEL_RECIPE,
        **build_report(data, store, MODEL_RECIPE),
        potential="CHGNet 0.3.0 (B. Deng et al., Nature Machine Intelligence 5, 1031, 2023), "
        "trained on Materials Project relaxations: hosts of the pool and of the electrodes are "
        "not new to it, so that every figure of a recipe that learns from insertion energies may "
        "be a little too good. It is not needed to screen",
        intervals="conformal, by ion: a quantile of held-out errors on the grouped folds, each "
        "divided by 1 + slope x distance from the training hosts, times that of the new host; "
        "sd: root mean square of the same",
        local_voltages=f"linear: closed form of eq. 2 with ridge {RIDGE:g} on the mean node "
        "vectors; additive: integrated gradients of readout and head from the mean pooled vector "
        "of the training hosts, 16 Gauss-Legendre nodes; site: what belongs to the insertion site",
        intended_use="screening ordered inorganic crystals; a first order of a candidate list",
        limits=[
            "labels are DFT averages over the whole reaction, not measured voltages",
            (
                "errors grow on chemistries without relatives in the training set: see the ladder, "
                "and out_of_domain in every prediction"
            ),
            "Rb and Cs rest on fewer than 50 labels each",
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
        seconds=round(seconds),
    )
