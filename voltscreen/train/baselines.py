"""Recipes without a network: what a model must beat before its architecture means anything.

Every recipe is fitted on the training rows of a fold and predicts its test rows. Options are the
same for every split, or chosen by folds inside the training rows that keep chemical systems
together. The fixed options of the kernel models were found on such folds of the Li rows.

Composition features follow L. Ward et al., npj Comput. Mater. 2, 16028 (2016): statistics of
elemental properties, weighted by composition, and stoichiometric norms.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voltscreen.graph import NEAREST, build_graphs
from voltscreen.ions import ION_SYMBOLS, WORKING_IONS
from voltscreen.structures import PackedStructure
from voltscreen.structures.insertion_sites import insertion_sites
from voltscreen.structures.packed import MAX_ATOMIC_NUMBER, element_symbol
from voltscreen.train.dataset import LabelledElectrodes
from voltscreen.train.splits import Split, inner_folds

Array = NDArray[np.float64]
Rows = NDArray[np.int64]

FEWEST_ROWS = 5
"""An ion with fewer training rows gets their mean instead of a model of its own."""
FEW_ROWS = 1000
"""Up to here the kernel models choose their options by inner folds; above, they are fixed."""
INNER_FOLDS = 3
N_SEEDS = 5
ATOMIC_MASS_IN_GRAMS = 1.66053906660e-24

ELEMENT_PROPERTIES = (
    "atomic_number mendeleev_number atomic_mass melting_point group row covalent_radius "
    "electronegativity ionization_energy electron_affinity molar_volume highest_oxidation_state "
    "valence_s valence_p valence_d valence_f valence unfilled_s unfilled_p unfilled_d unfilled_f "
    "unfilled"
).split()
_PYMATGEN_NAMES = (
    "Z mendeleev_no atomic_mass melting_point group row X ionization_energy electron_affinity "
    "molar_volume max_oxidation_state"
).split()
"""Of the first twelve, without the covalent radius."""
LAST_KNOWN_NUMBER = 103
"""Lawrencium: beyond it pymatgen has no electronic structures."""
STATISTICS = ("mean", "range", "deviation", "min", "max", "mode")
NORMS = (0, 2, 3, 5, 7, 10)
SHARES = (
    "H B C N O F Al Si P S Cl Ti V Cr Mn Fe Co Ni Cu Ge As Se Br Nb Mo Ru Ag Sn Sb Te I W Re Bi"
).split()
"""Elements whose share of the atoms is a feature of its own: redox metals, anions, their kin."""
ANION_CHARGES = {
    "F": -1, "Cl": -1, "Br": -1, "I": -1, "O": -2, "S": -2, "Se": -2, "Te": -2, "N": -3,
}  # fmt: skip
REDOX_METALS = frozenset(
    "Ti V Cr Mn Fe Co Ni Cu Nb Mo Ru Rh Pd Ag Ta W Re Os Ir Pt Au Sn Sb Bi Ce Eu U".split()
)


# Features ----------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Features:
    """What the recipes see of a data set; made once, used for every split.

    composition: (r, 142) float64, of the host as labelled.
    everything: (r, f) float64, composition, shares of elements, structure of the host, and ion.
    names: f names of the columns of `everything`, the first 142 those of `composition`.
    """

    composition: Array
    everything: Array
    names: list[str]

    @classmethod
    def of(cls, data: LabelledElectrodes) -> Features:
        """The features of these rows."""
        composition = composition_features(data.hosts)
        structure, structure_names = structure_features(data.hosts)
        shares = np.array([[_share(host, e) for e in SHARES] for host in data.hosts])
        ions, ion_names = ion_features(data)
        host = data.host_of_row
        columns = np.concatenate((composition, shares, structure), axis=1)[host]
        names = [*composition_names(), *(f"share_{e}" for e in SHARES)]
        return cls(
            composition=composition[host],
            everything=np.concatenate((columns, ions), axis=1),
            names=[*names, *structure_names, *ion_names],
        )


def composition_features(hosts: list[PackedStructure]) -> Array:
    """(h, 142) float64: six statistics of 22 elemental properties, norms, valence orbitals.

    With w the shares of the elements and p a property: mean sum_i w_i p_i, range, mean absolute
    deviation sum_i w_i |p_i - mean|, min, max, and mode, the mean over the most abundant
    elements. Norms are (sum_i w_i^q)^(1/q) for q in `NORMS`, the number of elements for q = 0.
    Orbitals are the shares of s, p, d and f among the valence electrons (Ward et al. 2016).
    """
    table = element_properties()
    rows = np.empty((len(hosts), len(composition_names())))
    for index, host in enumerate(hosts):
        numbers, counts = np.unique(host.atomic_numbers, return_counts=True)
        weights = counts / counts.sum()
        values = table[numbers]
        mean = weights @ values
        low, high = values.min(axis=0), values.max(axis=0)
        deviation = weights @ np.abs(values - mean)
        mode = values[counts == counts.max()].mean(axis=0)
        norms = [float((weights**q).sum() ** (1 / q)) if q else float(len(weights)) for q in NORMS]
        first = ELEMENT_PROPERTIES.index("valence_s")
        orbitals = mean[first : first + 4] / max(mean[first : first + 4].sum(), 1e-9)
        rows[index] = np.concatenate(
            (mean, high - low, deviation, low, high, mode, norms, orbitals)
        )
    return rows


def composition_names() -> list[str]:
    """Names of the columns of `composition_features`."""
    return [
        *(f"{name}_{statistic}" for statistic in STATISTICS for name in ELEMENT_PROPERTIES),
        *(f"norm_{q}" for q in NORMS),
        *(f"orbital_{orbital}" for orbital in "spdf"),
    ]


def element_properties(*, impute: bool = True) -> Array:
    """(119, 22) float64 by atomic number, as pymatgen has them; row 0 is empty.

    Where an element has no value it gets the median of the others, or NaN without `impute`.
    """
    table = np.full((MAX_ATOMIC_NUMBER + 1, len(ELEMENT_PROPERTIES)), np.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pymatgen: one an element for every missing datum
        for number in range(1, LAST_KNOWN_NUMBER + 1):
            table[number] = _properties_of(element_symbol(number))
    if not impute:
        return table
    return np.where(np.isfinite(table), table, np.nanmedian(table, axis=0))


def _properties_of(symbol: str) -> list[float]:
    """Units: u, K, angstrom, Pauling's scale, eV, cm3/mol; NaN for what is not known."""
    from pymatgen.analysis.local_env import CovalentRadius
    from pymatgen.core import Element

    element = Element(symbol)
    occupied, unfilled = _valence_shells(symbol)
    found = [_known(element, name) for name in _PYMATGEN_NAMES]
    found.insert(ELEMENT_PROPERTIES.index("covalent_radius"), CovalentRadius.radius.get(symbol))
    return [
        *(np.nan if value is None else value for value in found),
        *occupied,
        sum(occupied),
        *unfilled,
        sum(unfilled),
    ]


def _known(element: Any, name: str) -> float | None:
    try:
        value = getattr(element, name)
    except KeyError:
        return None
    return None if value is None else float(value)


def _valence_shells(symbol: str) -> tuple[list[float], list[float]]:
    """Electrons, and empty places, in the s, p, d and f shells outside the noble-gas core."""
    from pymatgen.core import Element

    element = Element(symbol)
    shells = {(n, kind): count for n, kind, count in element.full_electronic_structure}
    row = int(element.row)
    outer = ((row, "s", 2), (row, "p", 6), (row - 1, "d", 10), (row - 2, "f", 14))
    occupied = [float(shells.get((n, kind), 0)) for n, kind, _ in outer]
    places = [room for _, _, room in outer]
    unfilled = [
        room - count if count else 0.0 for room, count in zip(places, occupied, strict=True)
    ]
    return occupied, unfilled


def structure_features(hosts: list[PackedStructure]) -> tuple[Array, list[str]]:
    """(h, g) float64 and g names: density, neighbour distances, voids; angstrom, g/cm3.

    `first` is an atom's distance to its nearest neighbour, `mean12` the mean over its twelve,
    `coordination` its neighbours within 1.25 times the first. Places that no atom within 8
    angstrom fills count as 8 angstrom.
    """
    graphs = build_graphs(hosts, NEAREST)
    sites = insertion_sites(hosts)
    slots = np.full((len(graphs.atomic_numbers), NEAREST.n_neighbors), NEAREST.cutoff)
    filled = np.arange(NEAREST.n_neighbors) < np.diff(graphs.edge_offsets)[:, None]
    slots[filled] = graphs.distances
    by_atom = {
        "first": slots[:, 0],
        "mean12": slots.mean(axis=1),
        "spread12": slots.std(axis=1),
        "coordination": (slots <= 1.25 * slots[:, :1]).sum(axis=1).astype(np.float64),
    }
    columns: dict[str, Array] = {}
    for name, values in by_atom.items():
        columns |= _statistics(name, values, graphs.offsets)
    anion = np.isin(graphs.atomic_numbers, [_number_of(symbol) for symbol in ANION_CHARGES])
    columns["first_of_cations"] = _mean_where(slots[:, 0], ~anion, graphs.offsets)
    columns["first_of_anions"] = _mean_where(slots[:, 0], anion, graphs.offsets)
    masses = element_properties()[:, ELEMENT_PROPERTIES.index("atomic_mass")]
    mass = np.add.reduceat(masses[graphs.atomic_numbers], graphs.offsets[:-1])
    best = sites.best()
    columns |= {
        "n_atoms": graphs.n_atoms.astype(np.float64),
        "volume_per_atom": graphs.volumes / graphs.n_atoms,
        "density": mass * ATOMIC_MASS_IN_GRAMS / (graphs.volumes * 1e-24),
        "void_clearance": sites.clearance[best],
        "void_distance": sites.distance[best],
        "n_voids": np.diff(sites.offsets).astype(np.float64),
    }
    return np.stack(list(columns.values()), axis=1), list(columns)


def _statistics(name: str, values: Array, offsets: Rows) -> dict[str, Array]:
    """Mean, standard deviation, min and max over the atoms of each host."""
    n_atoms, starts = np.diff(offsets), offsets[:-1]
    mean = np.add.reduceat(values, starts) / n_atoms
    off = (values - np.repeat(mean, n_atoms)) ** 2
    return {
        f"{name}_mean": mean,
        f"{name}_std": np.sqrt(np.add.reduceat(off, starts) / n_atoms),
        f"{name}_min": np.minimum.reduceat(values, starts),
        f"{name}_max": np.maximum.reduceat(values, starts),
    }


def _mean_where(values: Array, chosen: NDArray[np.bool_], offsets: Rows) -> Array:
    """Mean over the chosen atoms of each host, over all where none is chosen."""
    starts = offsets[:-1]
    count = np.add.reduceat(chosen.astype(np.float64), starts)
    total = np.add.reduceat(np.where(chosen, values, 0.0), starts)
    plain = np.add.reduceat(values, starts) / np.diff(offsets)
    return np.where(count > 0, total / np.maximum(count, 1.0), plain)


def ion_features(data: LabelledElectrodes) -> tuple[Array, list[str]]:
    """(r, 10) float64 and names: the ion, what of it and of other ions the host keeps.

    `metal_charge` is the mean charge of the host's redox metals if the other elements have
    their usual ones; `metals` their share of the atoms. Radii in angstrom, potentials in volt.
    """
    names = (
        "ion_charge ion_radius ion_potential ion_electronegativity ion_left other_ions metals "
        "metal_charge metal_charge_of_frame charge_density"
    ).split()
    rows = np.empty((len(data), len(names)))
    balance = [_metal_charge(host) for host in data.hosts]
    for row, (index, symbol) in enumerate(zip(data.host_of_row, data.ion, strict=True)):
        ion, host, left = WORKING_IONS[symbol], data.hosts[index], data.ion_left[row]
        others = sum(_share(host, other) for other in ION_SYMBOLS if other != symbol)
        metals, charge = balance[index]
        # What the metals would carry if the ion that is left were gone, too.
        frame = charge + left * ion.charge / metals if metals else 0.0
        rows[row] = (
            ion.charge, ion.radius, ion.standard_potential, ion.electronegativity, left, others,
            metals, charge, frame, ion.charge / ion.radius,
        )  # fmt: skip
    return rows, names


def _metal_charge(host: PackedStructure) -> tuple[float, float]:
    """Share of redox metals among the atoms, and the charge each must carry; 0, 0 without any."""
    from pymatgen.core import Element

    metals = sum(_share(host, symbol) for symbol in REDOX_METALS)
    if metals == 0:
        return 0.0, 0.0
    charge = 0.0
    for symbol, count in host.element_counts.items():
        if symbol in REDOX_METALS:
            continue
        usual = ANION_CHARGES.get(symbol, Element(symbol).max_oxidation_state)
        # Sulfur, selenium and tellurium beside more oxygen are the centres of oxyanions.
        if symbol in {"S", "Se", "Te", "N"} and host.element_counts.get("O", 0) > 2 * count:
            usual = Element(symbol).max_oxidation_state
        charge += usual * count / len(host)
    return metals, -charge / metals


def _share(host: PackedStructure, symbol: str) -> float:
    return host.element_counts.get(symbol, 0) / len(host)


def _number_of(symbol: str) -> int:
    from pymatgen.core import Element

    return int(Element(symbol).Z)


# Recipes -----------------------------------------------------------------------------------

FitPredict = Callable[[LabelledElectrodes, Features, Rows, Rows], Array]
"""Of data, features, training rows and test rows: the voltages of the test rows, volt."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """A recipe. name; description: of features and regressor; fit_predict: the recipe itself."""

    name: str
    description: str
    fit_predict: FitPredict

    def out_of_fold(
        self, data: LabelledElectrodes, split: Split, features: Features | None = None
    ) -> Array:
        """Predictions of every fold by a model that saw none of its rows.

        Args:
            data: r rows. split: one rung of the ladder. features: of the data, made if None.

        Returns:
            (r,) float64, volt; NaN for rows that the split never tests.
        """
        features = features or Features.of(data)
        predicted = np.full(len(data), np.nan)
        for number in range(len(split.labels)):
            test = split.test_rows(number)
            predicted[test] = self.fit_predict(data, features, split.train_rows(number), test)
        return predicted


def _mean(data: LabelledElectrodes, _: Features, train: Rows, test: Rows) -> Array:
    """Mean of the ion's training rows; of all ions' where it has none."""
    predicted = np.full(len(test), data.voltage[train].mean())
    for ion in np.unique(data.ion[test]):
        own = train[data.ion[train] == ion]
        if len(own):
            predicted[data.ion[test] == ion] = data.voltage[own].mean()
    return predicted


_Fit = Callable[[Array, Array, NDArray[np.str_]], Any]
"""Of features, voltages and groups: a fitted regressor."""


def _by_ion(fit: _Fit) -> FitPredict:
    """One model an ion on composition features, as the paper's conventional models."""

    def fit_predict(data: LabelledElectrodes, features: Features, train: Rows, test: Rows) -> Array:
        predicted = _mean(data, features, train, test)
        for ion in np.unique(data.ion[test]):
            own = train[data.ion[train] == ion]
            if len(own) < FEWEST_ROWS:
                continue
            model = fit(features.composition[own], data.voltage[own], data.group[own])
            wanted = data.ion[test] == ion
            predicted[wanted] = model.predict(features.composition[test[wanted]])
        return predicted

    return fit_predict


def _forest(x: Array, y: Array, _: NDArray[np.str_]) -> Any:
    from sklearn.ensemble import RandomForestRegressor

    return RandomForestRegressor(
        n_estimators=200, max_features=1 / 3, random_state=0, n_jobs=1
    ).fit(x, y)


def _support_vectors(x: Array, y: Array, group: NDArray[np.str_]) -> Any:
    from sklearn.svm import SVR

    width = 1 / x.shape[1]
    grid = {
        "regressor__C": [1.0, 3.0, 10.0, 30.0],
        "regressor__gamma": [0.1 * width, 0.3 * width, width],
    }
    return _kernel_model(SVR(C=10.0, gamma=0.3 * width, epsilon=0.05), grid, x, y, group)


def _kernel_ridge(x: Array, y: Array, group: NDArray[np.str_]) -> Any:
    from sklearn.kernel_ridge import KernelRidge

    width = 1 / x.shape[1]
    grid = {
        "regressor__alpha": [0.01, 0.03, 0.1, 0.3],
        "regressor__gamma": [0.1 * width, 0.3 * width, width],
    }
    model = KernelRidge(kernel="laplacian", alpha=0.03, gamma=0.3 * width)
    return _kernel_model(model, grid, x, y, group)


def _kernel_model(
    model: Any, grid: dict[str, list[float]], x: Array, y: Array, group: NDArray[np.str_]
) -> Any:
    """A kernel regressor on standardised features and centred voltages.

    With few rows its options are those of smallest mean absolute error on inner folds.
    """
    from sklearn.compose import TransformedTargetRegressor
    from sklearn.feature_selection import VarianceThreshold
    from sklearn.model_selection import GridSearchCV, PredefinedSplit
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler

    pipeline = Pipeline(
        [("varying", VarianceThreshold(1e-8)), ("scale", StandardScaler()), ("regressor", model)]
    )
    folds = inner_folds(group, INNER_FOLDS)
    searched = pipeline
    if len(y) <= FEW_ROWS and folds.max() > 0:
        searched = GridSearchCV(
            pipeline, grid, scoring="neg_mean_absolute_error", cv=PredefinedSplit(folds), n_jobs=1
        )
    centred = TransformedTargetRegressor(searched, transformer=StandardScaler(with_std=False))
    return centred.fit(x, y)


def _boosting(data: LabelledElectrodes, features: Features, train: Rows, test: Rows) -> Array:
    """Histogram boosting on all ions together, mean of `N_SEEDS` draws of the columns."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    predicted = np.zeros(len(test))
    for seed in range(N_SEEDS):
        model = HistGradientBoostingRegressor(
            learning_rate=0.05, max_iter=400, max_leaf_nodes=24,
            min_samples_leaf=8, l2_regularization=1.0, max_features=0.2, early_stopping=False,
            random_state=seed,
        )  # fmt: skip
        model.fit(features.everything[train], data.voltage[train])
        predicted += model.predict(features.everything[test]) / N_SEEDS
    return predicted


BASELINES: dict[str, Baseline] = {
    baseline.name: baseline
    for baseline in (
        Baseline("mean", "mean of the ion's training rows", _mean),
        Baseline("composition_rf", "random forest on composition, one an ion", _by_ion(_forest)),
        Baseline(
            "composition_svr",
            "support vector regression on composition, one an ion",
            _by_ion(_support_vectors),
        ),
        Baseline(
            "composition_krr",
            "kernel ridge regression on composition, one an ion",
            _by_ion(_kernel_ridge),
        ),
        Baseline(
            "boosting",
            "gradient boosting on composition, structure and ion, all ions together",
            _boosting,
        ),
    )
}
"""The recipes by name."""
