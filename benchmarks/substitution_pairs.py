"""How often a predicted change of voltage on a substitution is the labelled one.

Labelled hosts of one working ion that are the same framework but for one element, an element that
`voltscreen substitute` may exchange: neither an anion, nor the centre of a polyanion, nor the ion.
Frameworks are compared by pymatgen's StructureMatcher at any volume. Predictions are those that
are stored beside the model, of hosts that were held out of training; beside it stand models that
see the composition alone, and chance. Last, what it costs that a suggestion's cell is the old one
with a predicted volume, and not the relaxed one of the labelled host.

Run: python benchmarks/substitution_pairs.py [--data DIR] [--model NAME] [--split grouped|random]
     [--cells N] [--csv FILE]
"""

from __future__ import annotations

import argparse
import itertools
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Composition, Structure
from scipy.stats import spearmanr
from tqdm import tqdm

from voltscreen.errors import StructureError
from voltscreen.model import load_model, model_path, predict_candidates, read_card
from voltscreen.screening import Proposal, Swap, substitute
from voltscreen.screening.oxidation import family, is_framework
from voltscreen.structures import HostState
from voltscreen.train.dataset import LabelledElectrodes, load_electrodes
from voltscreen.train.out_of_fold import OutOfFold, store_path

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
WILDCARD = "Xe"
"""Stands for the element that differs; no electrode holds it."""
SMALLEST = 0.05
"""V; a smaller change of the label has no direction."""
DRAWS = 2000
BASELINES = ("composition_rf", "composition_svr", "composition_krr", "boosting", "mean")

Key = tuple[str, str]


def pairs(data: LabelledElectrodes) -> pd.DataFrame:
    """Rows i and j of the data (one each for a host and ion), elements old and new, framework."""
    cells = primitive_cells(data)
    groups: dict[Key, list[tuple[int, str]]] = defaultdict(list)
    for row in first_rows(data):
        host = data.hosts[data.host_of_row[row]]
        for symbol, count in host.element_counts.items():
            if symbol == data.ion[row] or is_framework(symbol, host.element_counts):
                continue
            rest = {s: n for s, n in host.element_counts.items() if s != symbol}
            reduced = Composition(rest | {WILDCARD: count}).reduced_formula
            groups[data.ion[row], reduced].append((row, symbol))
    found = []
    matcher = StructureMatcher(primitive_cell=False)
    for (ion, formula), members in tqdm(groups.items(), unit=" formulas", mininterval=5):
        for (i, old), (j, new) in itertools.combinations(members, 2):
            if old == new or data.host_of_row[i] == data.host_of_row[j]:
                continue
            one, other = cells(i, old), cells(j, new)
            if len(one) == len(other) and matcher.fit(one, other, skip_structure_reduction=True):
                found.append((i, j, ion, old, new, f"{ion} {formula.replace(WILDCARD, '*')}"))
    frame = pd.DataFrame(found, columns=["i", "j", "ion", "old", "new", "framework"])
    return frame.drop_duplicates(["i", "j"], ignore_index=True)


def first_rows(data: LabelledElectrodes) -> Iterator[int]:
    """The first row of every host and ion."""
    seen = set()
    for row in range(len(data)):
        key = (data.host_of_row[row], data.ion[row])
        if key not in seen:
            seen.add(key)
            yield row


def primitive_cells(data: LabelledElectrodes) -> Callable[[int, str], Structure]:
    """The primitive cell of a row's host with an element as the wildcard, made once."""
    made: dict[tuple[int, str], Structure] = {}

    def cell(row: int, symbol: str) -> Structure:
        host = int(data.host_of_row[row])
        if (host, symbol) not in made:
            structure = data.hosts[host].to_pymatgen()
            structure.replace_species({symbol: WILDCARD})
            made[host, symbol] = structure.get_primitive_structure().get_reduced_structure()
        return made[host, symbol]

    return cell


def row_of(
    name: str, label: NDArray[np.float64], change: NDArray[np.float64], framework: NDArray[np.int64]
) -> dict[str, object]:
    """A line of the table: direction and size of the changes; intervals by whole frameworks."""
    clear = np.abs(label) >= SMALLEST
    right = np.where(change == 0, 0.5, np.sign(change) == np.sign(label))
    said = clear & (np.abs(change) >= SMALLEST)
    low, high = interval(right[clear], framework[clear])
    error = np.abs(change - label)
    varies = np.ptp(change) > 0
    return {
        "model": name,
        "direction %": 100 * right[clear].mean(),
        "95 %": f"{100 * low:.1f}-{100 * high:.1f}",
        "where it says >= 0.05 V": 100 * right[said].mean() if said.any() else np.nan,
        "off by (V)": error.mean(),
        "median (V)": np.median(error),
        "Spearman": spearmanr(change, label).statistic if varies else np.nan,
    }


def interval(values: NDArray[np.float64], cluster: NDArray[np.int64]) -> tuple[float, float]:
    """95 % interval of a mean, drawing whole clusters."""
    _, place = np.unique(cluster, return_inverse=True)
    n = place.max() + 1
    total, count = np.bincount(place, values, n), np.bincount(place, minlength=n)
    drawn = np.random.default_rng(0).integers(n, size=(DRAWS, n))
    means = total[drawn].sum(axis=1) / count[drawn].sum(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def table(found: pd.DataFrame, models: list[str]) -> pd.DataFrame:
    """The lines of all models on these pairs, chance first."""
    label = found["label"].to_numpy()
    framework = found["framework"].astype("category").cat.codes.to_numpy()
    lines = [row_of("no change (chance)", label, np.zeros(len(label)), framework)]
    lines += [row_of(name, label, found[name].to_numpy(), framework) for name in models]
    return pd.DataFrame(lines)


def print_intervals(found: pd.DataFrame, model: str) -> None:
    """Whether the 90 % interval of a change, made of those of the two ends, is that wide."""
    half = np.hypot(found["half_i"], found["half_j"])
    error = np.abs(found[model] - found["label"])
    covered = 100 * (error <= half).mean()
    needed = np.quantile(error / half, 0.9)
    print(
        f"\n90 % interval of the change, errors of both ends as independent: covers "
        f"{covered:.1f} %; {needed:.2f} times its width would cover 90 %."
    )
    beyond = np.abs(found[model]) > half
    right = (np.sign(found[model]) == np.sign(found["label"]))[beyond]
    print(
        f"{beyond.sum()} changes are beyond their interval; {100 * right.mean():.1f} % of them "
        "have the label's direction."
    )


def print_cells(data: LabelledElectrodes, found: pd.DataFrame, name: str, count: int) -> None:
    """Changes predicted on cells as `substitute` makes them beside those on the labelled cells."""
    model, drawn = load_model(name), found.sample(min(count, len(found)), random_state=0)
    made, real, old, volume, ions = [], [], [], [], []
    for pair in drawn.itertuples():
        one, other = (data.hosts[data.host_of_row[row]] for row in (pair.i, pair.j))
        sites = tuple(k for k, symbol in enumerate(one.symbols) if symbol == pair.old)
        swap = Swap(pair.old, pair.new, sites, 1.0)
        try:
            new = substitute(one, Proposal((swap,), (1, 1, 1), 1.0, balanced=True))
        except StructureError:
            continue
        made.append(new)
        real.append(other)
        old.append(one)
        ions.append(pair.ion)
        volume.append(new.volume / len(new) / (other.volume / len(other)))
    voltages = [
        np.array(
            [
                prediction.ions[ion].voltage
                for prediction, ion in zip(
                    predict_candidates(model, cells, host_state=HostState.AS_GIVEN),
                    ions,
                    strict=True,
                )
            ]
        )
        for cells in (old, made, real)
    ]
    ours, labelled = voltages[1] - voltages[0], voltages[2] - voltages[0]
    clear = np.abs(labelled) >= SMALLEST
    print(
        f"\n{len(made)} pairs with the cell that `substitute` makes (deployed model, in its "
        f"training): volume {100 * np.median(np.abs(np.array(volume) - 1)):.1f} % off in the "
        f"median; change against that on the labelled cell: {np.abs(ours - labelled).mean():.2f} V "
        f"off, same direction {100 * (np.sign(ours) == np.sign(labelled))[clear].mean():.1f} %."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--model", default="default")
    parser.add_argument("--split", default="grouped")
    parser.add_argument("--cells", type=int, default=300, help="pairs whose cells are made anew")
    parser.add_argument("--csv", type=Path, help="write the pairs")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")  # pymatgen: missing data of rare elements
    data = load_electrodes(options.data)
    oof = OutOfFold.read(store_path(model_path(options.model)))
    found = pairs(data)
    i, j = found["i"].to_numpy(), found["j"].to_numpy()
    found["label"] = data.voltage[j] - data.voltage[i]
    models = [oof.model_recipe]
    models += [name for name in BASELINES if options.split in oof.splits(name)]
    for name in models:
        held = oof.get(name, options.split, data)
        found[name] = held.prediction[j] - held.prediction[i]
    own = oof.get(oof.model_recipe, options.split, data)
    half = (own.hi90 - own.lo90) / 2
    found["half_i"], found["half_j"] = half[i], half[j]
    found["same_fold"] = own.fold[i] == own.fold[j]
    found["kin"] = [family(a) == family(b) for a, b in zip(found["old"], found["new"], strict=True)]
    found["host_i"], found["host_j"] = (
        [data.hosts[data.host_of_row[row]].formula for row in rows] for rows in (i, j)
    )
    if options.csv:
        found.to_csv(options.csv, index=False, float_format="%.4f")
    print(
        f"{len(found)} pairs of hosts in {found['framework'].nunique()} frameworks, "
        f"{found['kin'].sum()} within one family of elements; model {read_card(options.model)[0]}, "
        f"predictions of the {options.split} folds"
    )
    print(f"the labels of {(np.abs(found['label']) >= SMALLEST).sum()} change by {SMALLEST} V")
    print(f"mean size of the labelled change: {np.abs(found['label']).mean():.2f} V")
    for title, part in (
        ("all pairs", found),
        ("both elements of one family, as `substitute` proposes", found[found["kin"]]),
        ("both hosts in one fold: the model has seen neither", found[found["same_fold"]]),
    ):
        print(f"\n{title}: {len(part)}")
        print(table(part, models).to_string(index=False, float_format="%.2f"))
    print_intervals(found, oof.model_recipe)
    if options.cells:
        print_cells(data, found, options.model, options.cells)


if __name__ == "__main__":
    main()
