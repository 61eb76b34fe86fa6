"""What held-out rows and measured cells say of a model: the lists of its card, and Fig. 4."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypedDict

import numpy as np
from numpy.typing import NDArray

from voltscreen.errors import FileFormatError
from voltscreen.ions import ION_SYMBOLS
from voltscreen.model.card import Comparison, CoverageEntry, DomainDecile, LadderEntry, ModelCard
from voltscreen.structures import Candidate, HostState, PackedStructure
from voltscreen.train.dataset import LabelledElectrodes
from voltscreen.train.evaluate import (
    POOLED,
    ClusterBootstrap,
    coverage,
    error_by_decile,
    paper_trimmed,
    rounded,
    summarize,
)
from voltscreen.train.out_of_fold import HeldOut, OutOfFold

if TYPE_CHECKING:
    from voltscreen.model import IonPrediction, VoltageModel

PAPER_RECIPE = "paper"
"""Name of the paper's recipe in a store: every comparison with the paper is with these rows."""
COMPARED_WITH_PAPER = ("grouped", "random")
"""Splits on which every recipe, and not the model's alone, is compared with the paper's."""
MIN_CLUSTERS = 10
"""Chemical systems below which a bootstrap interval says nothing."""
EXPERIMENTS = (
    ("mno2-lambda", "Mg"),
    ("fesio4", "Mg"),
    ("tise2-1t", "Mg"),
    ("ti2s4-spinel", "Mg"),
    ("coo2-p2", "Ca"),
    ("kfefe-cn6", "Ca"),
    ("mno2-ramsdellite", "Zn"),
    ("moo3-alpha", "Zn"),
    ("graphite", "Al"),
    ("mo6s8-chevrel", "Al"),
)
"""Known host and working ion of the ten measured systems of the paper's Fig. 4, in its order."""
CLASSICAL = "composition_rf"


class CardReport(TypedDict):
    """The lists of a model card that follow from out-of-fold predictions."""

    ladder: list[LadderEntry]
    comparisons: list[Comparison]
    coverage: list[CoverageEntry]
    domain_curve: list[DomainDecile]


def build_report(data: LabelledElectrodes, oof: OutOfFold, recipe: str) -> CardReport:
    """Errors, comparisons, coverage and error against domain of a model's recipe.

    Args:
        data: what the predictions were made from. oof: the store. recipe: the model's.

    Raises:
        FileFormatError: other data, or a recipe without predictions.
    """
    oof.check(data)
    report = _Report(data, oof)
    if recipe not in oof.recipes:
        raise FileFormatError(
            f"there are no out-of-fold predictions of the model's recipe {recipe}: the store has "
            f"{', '.join(oof.recipes) or 'none'}"
        )
    own = [(split, report.held(recipe, split)) for split in oof.splits(recipe)]
    return CardReport(
        ladder=[entry for name in oof.recipes for entry in report.ladder(name, recipe)],
        comparisons=report.comparisons(recipe),
        coverage=[entry for split, held in own for entry in report.coverage(split, held)],
        domain_curve=[entry for split, held in own for entry in report.domain_curve(split, held)],
    )


def report_of(card: ModelCard) -> CardReport:
    """The lists that a card holds."""
    return CardReport(
        ladder=card.ladder,
        comparisons=card.comparisons,
        coverage=card.coverage,
        domain_curve=card.domain_curve,
    )


class _Report:
    """The parts of a report; keeps what they share: aligned predictions and bootstrap draws."""

    def __init__(self, data: LabelledElectrodes, oof: OutOfFold) -> None:
        self.data = data
        self.oof = oof
        self._held: dict[tuple[str, str], HeldOut] = {}
        self._draws: dict[bytes, ClusterBootstrap] = {}

    def held(self, name: str, split: str) -> HeldOut:
        """The predictions of a recipe on a split."""
        if (name, split) not in self._held:
            self._held[name, split] = self.oof.get(name, split, self.data)
        return self._held[name, split]

    @cached_property
    def trimmed(self) -> NDArray[np.bool_]:
        """(r,) bool: rows that the paper's trimming leaves."""
        return paper_trimmed(self.data.ion, self.data.voltage)

    def ladder(self, name: str, model_recipe: str) -> Iterator[LadderEntry]:
        """Errors of a recipe; by ion for the model's own and the paper's, else pooled."""
        by_ion = name in {model_recipe, PAPER_RECIPE}
        for split in self.oof.splits(name):
            held = self.held(name, split)
            for ion, rows in self.parts(held.rows):
                if ion == POOLED or by_ion:
                    yield self.errors(name, split, ion, "all", held, rows)
                    if (kept := rows & self.trimmed).any():
                        yield self.errors(name, split, ion, "paper-trimmed", held, kept)

    def parts(self, rows: NDArray[np.bool_]) -> Iterator[tuple[str, NDArray[np.bool_]]]:
        """The rows pooled, then by ion where there is more than one."""
        yield POOLED, rows
        present = set(self.data.ion[rows])
        if len(present) > 1:
            for ion in ION_SYMBOLS:
                if ion in present:
                    yield ion, rows & (self.data.ion == ion)

    def errors(
        self,
        name: str,
        split: str,
        ion: str,
        choice: Literal["all", "paper-trimmed"],
        held: HeldOut,
        rows: NDArray[np.bool_],
    ) -> LadderEntry:
        """One entry of the ladder, over these rows."""
        found = summarize(self.data.voltage[rows], held.prediction[rows])
        return LadderEntry(
            recipe=name,
            split=split,
            ion=ion,
            rows=choice,
            n=found.n,
            mae=rounded(found.mae),
            median=rounded(found.median),
            rmse=rounded(found.rmse),
            r2=None if found.r2 is None else rounded(found.r2),
        )

    def comparisons(self, recipe: str) -> list[Comparison]:
        """The model's recipe against each other one, and each other one against the paper's."""
        others = [name for name in self.oof.recipes if name != recipe]
        pairs = [(split, recipe, other) for split in self.oof.splits(recipe) for other in others]
        pairs += [
            (split, other, PAPER_RECIPE)
            for split in COMPARED_WITH_PAPER
            for other in others
            if other != PAPER_RECIPE
        ]
        found = [self.comparison(*pair) for pair in pairs]
        return [comparison for comparison in found if comparison is not None]

    def comparison(self, split: str, recipe: str, against: str) -> Comparison | None:
        """Two recipes on the rows of a split that both predict; None where they are too few."""
        if any(split not in self.oof.splits(name) for name in (recipe, against)):
            return None
        first = self.held(recipe, split)
        second = self.held(against, split)
        rows = first.rows & second.rows
        if len(np.unique(self.data.group[rows])) < MIN_CLUSTERS:
            return None
        voltage = self.data.voltage[rows]
        found = self.bootstrap(rows).difference(
            first.prediction[rows] - voltage, second.prediction[rows] - voltage
        )
        return Comparison(
            split=split,
            recipe=recipe,
            against=against,
            difference=rounded(found.difference),
            lo95=rounded(found.lo95),
            hi95=rounded(found.hi95),
            gain=found.gain,
        )

    def bootstrap(self, rows: NDArray[np.bool_]) -> ClusterBootstrap:
        """The draws for these rows."""
        key = rows.tobytes()
        if key not in self._draws:
            self._draws[key] = ClusterBootstrap(self.data.group[rows])
        return self._draws[key]

    def coverage(self, split: str, held: HeldOut) -> Iterator[CoverageEntry]:
        """Coverage of the intervals of one split, pooled and by ion."""
        having = held.rows & np.isfinite(held.lo90) & np.isfinite(held.hi90)
        if not having.any():
            return
        both = bool(np.isfinite(held.lo80[having] + held.hi80[having]).all())
        for ion, rows in self.parts(having):
            voltage = self.data.voltage[rows]
            yield CoverageEntry(
                split=split,
                ion=ion,
                n=int(rows.sum()),
                cover80=(
                    rounded(coverage(voltage, held.lo80[rows], held.hi80[rows])) if both else None
                ),
                cover90=rounded(coverage(voltage, held.lo90[rows], held.hi90[rows])),
                width90=rounded((held.hi90 - held.lo90)[rows].mean()),
            )

    def domain_curve(self, split: str, held: HeldOut) -> Iterator[DomainDecile]:
        """Error by decile of out_of_domain of one split."""
        rows = held.rows & np.isfinite(held.out_of_domain)
        if not rows.any():
            return
        error = held.prediction[rows] - self.data.voltage[rows]
        for decile in error_by_decile(error, held.out_of_domain[rows]):
            yield DomainDecile(
                split=split,
                decile=decile.decile,
                n=decile.n,
                mae=rounded(decile.mae),
                highest=rounded(decile.highest),
            )


@dataclass(frozen=True, slots=True)
class MeasuredSystem:
    """A measured cell and what is predicted for it; volt.

    measured, uncertainty: the cell's average and how far it can be taken differently.
    insertion: False where the reaction is not, or not only, an insertion of the ion; note: why.
    voltage, lo90, hi90, out_of_domain: the model's, on the known host. paper: the paper's own
    network on the same host. classical: a random forest on the composition. None where there is
    no such prediction. labelled: whether the labels have the host's chemical system with this
    ion, which all but the classical column may have been trained on; None without labels.
    """

    host: str
    label: str
    ion: str
    measured: float
    uncertainty: float | None
    insertion: bool
    note: str | None
    voltage: float | None
    lo90: float | None
    hi90: float | None
    out_of_domain: float | None
    paper: float | None
    classical: float | None
    labelled: bool | None


@dataclass(frozen=True, slots=True)
class Deviation:
    """Mean absolute deviation from the measured voltages, volt, over n systems."""

    mean: float | None
    n: int


def measured_systems(
    model: VoltageModel, data: LabelledElectrodes | None, paper: Path | None
) -> list[MeasuredSystem]:
    """The paper's Fig. 4: ten measured cells beside the predictions for their hosts.

    Args:
        model: the model. data: labels for the classical baseline, which is fitted to them
        without the chemical systems of the ten hosts. paper: folder with the paper's
        `atom_init.json` and `checkpoints`.
    """
    from voltscreen.sources.hosts import read_hosts, select_hosts

    names = [name for name, _ in EXPERIMENTS]
    candidates = [c for c in read_hosts(select_hosts(names)) if isinstance(c, Candidate)]
    hosts = [candidate.structure for candidate in candidates]
    ions = [ion for _, ion in EXPERIMENTS]
    found = _model_voltages(model, hosts, ions)
    by_paper = _paper_voltages(paper, hosts, ions) if paper else [None] * len(hosts)
    classical = _classical_voltages(data, hosts, ions) if data else [None] * len(hosts)
    systems = []
    for index, (candidate, ion) in enumerate(zip(candidates, ions, strict=True)):
        measured = next(m for m in candidate.measured if m.ion == ion)
        own = found[index]
        systems.append(
            MeasuredSystem(
                host=candidate.ref.id,
                label=candidate.label or candidate.ref.id,
                ion=ion,
                measured=measured.voltage,
                uncertainty=measured.uncertainty,
                insertion=measured.insertion,
                note=measured.note,
                voltage=own.voltage if own else None,
                lo90=own.lo90 if own else None,
                hi90=own.hi90 if own else None,
                out_of_domain=own.out_of_domain if own else None,
                paper=by_paper[index],
                classical=classical[index],
                labelled=_is_labelled(data, hosts[index], ion) if data else None,
            )
        )
    return systems


def mean_deviation(
    systems: Sequence[MeasuredSystem], column: Literal["voltage", "paper", "classical"]
) -> Deviation:
    """Mean of |measured - predicted| over the real insertions that the column has a value for."""
    sizes = [
        abs(system.measured - predicted)
        for system in systems
        if system.insertion and (predicted := getattr(system, column)) is not None
    ]
    return Deviation(sum(sizes) / len(sizes) if sizes else None, len(sizes))


def _model_voltages(
    model: VoltageModel, hosts: list[PackedStructure], ions: list[str]
) -> list[IonPrediction | None]:
    from voltscreen.model import predict_candidates

    asked = [ion for ion in dict.fromkeys(ions) if ion in model.ions]
    found = predict_candidates(model, hosts, asked)
    return [p.ions.get(ion) for p, ion in zip(found, ions, strict=True)]


def _paper_voltages(
    folder: Path, hosts: list[PackedStructure], ions: list[str]
) -> list[float | None]:
    """By the paper's checkpoints, which see the host as it is given."""
    from voltscreen.model import predict_candidates
    from voltscreen.model.element_table import read_element_table
    from voltscreen.model.paper_checkpoint import import_checkpoint

    table = read_element_table(folder / "atom_init.json")
    voltages: list[float | None] = [None] * len(hosts)
    for ion in dict.fromkeys(ions):
        path = folder / "checkpoints" / f"model_best_{ion}.pth.tar"
        model = import_checkpoint(path, table, ion, f"paper-{ion}")
        own = [index for index, other in enumerate(ions) if other == ion]
        found = predict_candidates(model, [hosts[i] for i in own], (ion,), HostState.AS_GIVEN)
        for index, prediction in zip(own, found, strict=True):
            if ion in prediction.ions:
                voltages[index] = prediction.ions[ion].voltage
    return voltages


def _classical_voltages(
    data: LabelledElectrodes, hosts: list[PackedStructure], ions: list[str]
) -> list[float | None]:
    """By a random forest on the composition that saw no chemical system of any of these hosts."""
    from voltscreen.train.baselines import (
        BASELINES,
        Features,
        composition_features,
        composition_names,
    )

    groups = [_group(host, ion) for host, ion in zip(hosts, ions, strict=True)]
    unknown = np.full(len(hosts), np.nan)
    with_hosts = LabelledElectrodes(
        hosts=[*data.hosts, *hosts],
        host_of_row=np.append(data.host_of_row, len(data.hosts) + np.arange(len(hosts))),
        ion=np.append(data.ion, ions),
        voltage=np.append(data.voltage, unknown),
        group=np.append(data.group, groups),
        paper_prediction=np.append(data.paper_prediction, unknown),
        folds={},
    )
    composition = composition_features(with_hosts.hosts)[with_hosts.host_of_row]
    predicted = BASELINES[CLASSICAL].fit_predict(
        with_hosts,
        Features(composition, composition, composition_names()),
        np.flatnonzero(~np.isin(data.group, groups)),
        len(data) + np.arange(len(hosts)),
    )
    return [float(voltage) for voltage in predicted]


def _is_labelled(data: LabelledElectrodes, host: PackedStructure, ion: str) -> bool:
    return bool(np.any((data.group == _group(host, ion)) & (data.ion == ion)))


def _group(host: PackedStructure, ion: str) -> str:
    """The chemical system of a host without the ion, as in labelled data."""
    return "-".join(sorted(set(host.element_counts) - {ion}))
