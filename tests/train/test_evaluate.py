from __future__ import annotations

import numpy as np
import pytest

from tests.model.helpers import random_crystal
from voltscreen.errors import FileFormatError
from voltscreen.ions import ION_SYMBOLS
from voltscreen.train.dataset import LabelledElectrodes
from voltscreen.train.evaluate import (
    ClusterBootstrap,
    coverage,
    error_by_decile,
    paper_trimmed,
    summarize,
)
from voltscreen.train.out_of_fold import OutOfFold
from voltscreen.train.report import EXPERIMENTS, PAPER_RECIPE, build_report


def test_errors_by_hand() -> None:
    found = summarize(np.array([1.0, 2.0, 3.0, 6.0]), np.array([1.5, 2.0, 2.0, 4.0]))
    # Errors 0.5, 0, -1, -2; the mean voltage is 3, its squared deviations 4 + 1 + 0 + 9.
    assert found.n == 4
    assert found.mae == pytest.approx(3.5 / 4)
    assert found.median == pytest.approx(0.75)
    assert found.rmse == pytest.approx((5.25 / 4) ** 0.5)
    assert found.r2 == pytest.approx(1 - 5.25 / 14)


def test_rows_of_one_voltage_have_no_r2() -> None:
    assert summarize(np.array([2.0]), np.array([2.5])).r2 is None


def test_trimming_by_hand() -> None:
    # Nineteen labels at 1 V and one at 5 V: mean 1.2, sd 0.894; only the one is beyond 2 sd.
    labels = np.array([1.0] * 19 + [5.0])
    ions = np.repeat(["Mg", "Al", "Na"], 20)
    kept = paper_trimmed(ions, np.concatenate((labels, labels, labels)))
    assert kept[:20].tolist() == [True] * 19 + [False]
    assert kept[20:40].all()
    assert kept[40:].tolist() == [True] * 19 + [False]
    # Between 1.5 and 2 sd: Na loses it, Mg keeps it.
    between = np.array([-1.0, *[-0.4] * 4, *[0.4] * 4, 1.0])
    assert np.abs(between).max() / between.std(ddof=1) == pytest.approx(1.656, abs=0.001)
    assert paper_trimmed(np.repeat(["Mg"], 10), between).all()
    assert paper_trimmed(np.repeat(["Na"], 10), between).sum() == 8


def test_the_trimmed_rows_of_the_shared_data_are_the_papers(shared_data) -> None:
    import pandas as pd

    rows = pd.read_csv(shared_data / "electrodes.csv")
    ion = rows["working_ion"].to_numpy(dtype=str)
    kept = paper_trimmed(ion, rows["average_voltage"].to_numpy())
    counts = {symbol: int(kept[ion == symbol].sum()) for symbol in ("Li", "Mg", "Ca", "Zn", "Na")}
    assert counts == {"Li": 2190, "Mg": 387, "Ca": 471, "Zn": 378, "Na": 287}


def clustered_errors(seed: int, shift: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Errors of two recipes on 60 clusters of 1 to 12 rows; rows of a cluster err alike."""
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(60), rng.integers(1, 13, 60)).astype(str)
    shared = rng.normal(size=60)[np.unique(group, return_inverse=True)[1]]
    first = shared + 0.3 * rng.normal(size=len(group))
    second = shared + 0.3 * rng.normal(size=len(group))
    return group, first * (1 - shift), second


def test_the_bootstrap_finds_a_real_gain() -> None:
    group, better, worse = clustered_errors(0, 0.2)
    found = ClusterBootstrap(group).difference(better, worse)
    assert found.difference == pytest.approx(np.abs(better).mean() - np.abs(worse).mean())
    assert found.lo95 < found.difference < found.hi95 < 0
    assert found.gain
    mirrored = ClusterBootstrap(group).difference(worse, better)
    assert not mirrored.gain
    assert mirrored.lo95 == pytest.approx(-found.hi95, abs=1e-6)


def test_the_bootstrap_finds_no_false_gain() -> None:
    excluded = 0
    for seed in range(100):
        found = ClusterBootstrap(*clustered_errors(seed, 0.0)[:1], draws=500).difference(
            *clustered_errors(seed, 0.0)[1:]
        )
        excluded += not found.lo95 <= 0 <= found.hi95
    # Nominal 5 of 100; 11 or more would have probability 0.01.
    assert excluded <= 11


def test_rows_of_one_cluster_count_as_one() -> None:
    rng = np.random.default_rng(1)
    errors = rng.normal(size=(2, 40))
    alone = ClusterBootstrap(np.arange(40).astype(str)).difference(*errors)
    copied = ClusterBootstrap(np.repeat(np.arange(40), 25).astype(str)).difference(
        *np.repeat(errors, 25, axis=1)
    )
    assert copied.difference == pytest.approx(alone.difference)
    width = alone.hi95 - alone.lo95
    assert copied.hi95 - copied.lo95 == pytest.approx(width, rel=0.1)


def test_the_same_rows_give_the_same_interval() -> None:
    group, first, second = clustered_errors(3, 0.1)
    found = [ClusterBootstrap(group).difference(first, second) for _ in range(2)]
    assert found[0] == found[1]


def test_coverage_by_hand() -> None:
    voltage = np.array([1.0, 2.0, 3.0, 4.0])
    assert coverage(voltage, voltage - 1, np.array([0.9, 2.0, 3.5, 4.1])) == 0.75


def test_error_by_decile_orders_rows_by_domain() -> None:
    rng = np.random.default_rng(0)
    domain = rng.permutation(200) / 2
    deciles = error_by_decile(domain / 100, domain)
    assert [d.decile for d in deciles] == list(range(1, 11))
    assert [d.n for d in deciles] == [20] * 10
    assert deciles[0].mae == pytest.approx(np.arange(20).mean() / 200)
    assert deciles[-1].highest == domain.max()


def test_equal_distances_share_a_decile() -> None:
    domain = np.array([1.0, 2, 3, 4, 5, 100, 100, 100, 100, 100])
    deciles = error_by_decile(np.arange(10.0), domain)
    assert [d.n for d in deciles] == [1, 1, 1, 1, 1, 5]
    assert [d.decile for d in deciles] == [1, 2, 3, 4, 5, 8]
    assert deciles[-1].mae == pytest.approx(7)


@pytest.fixture(scope="module")
def data() -> LabelledElectrodes:
    hosts = [random_crystal(seed, 4) for seed in range(60)]
    rng = np.random.default_rng(0)
    return LabelledElectrodes(
        hosts=hosts,
        host_of_row=np.arange(60),
        ion=np.array(["Li", "Mg", "Al"] * 20),
        voltage=rng.uniform(0, 5, 60),
        group=np.array([f"g{i // 2}" for i in range(60)]),
        paper_prediction=np.full(60, np.nan),
        folds={"grouped": np.arange(60) // 2 % 5},
        row_id=np.array([f"e{i}" for i in range(60)]),
    )


@pytest.fixture(scope="module")
def store(data) -> OutOfFold:
    rng = np.random.default_rng(1)
    store = OutOfFold.of(data, "network")
    fold, v = data.folds["grouped"], data.voltage
    error = 0.2 * rng.normal(size=60)
    store.add(
        "network", "grouped", data.row_id, fold, v + error, lo80=v - 0.1, hi80=v + 0.1,
        lo90=v + error - 0.3, hi90=v + error + 0.3, out_of_domain=100 * np.abs(error),
    )  # fmt: skip
    lithium = data.rows_of("Li")
    store.add("network", "ion-Li", data.row_id[lithium], lithium * 0, v[lithium] + 1)
    store.add(PAPER_RECIPE, "grouped", data.row_id, fold, v + 2 * rng.normal(size=60))
    mean = np.array(
        [v[(data.ion == i) & (fold != k)].mean() for i, k in zip(data.ion, fold, strict=True)]
    )
    store.add("mean", "grouped", data.row_id, fold, mean)
    return store


def test_a_report_has_every_rung(data, store) -> None:
    report = build_report(data, store, "network")
    ladder = {(e.recipe, e.split, e.ion, e.rows): e for e in report["ladder"]}
    assert len(ladder) == len(report["ladder"])
    for recipe in ("network", PAPER_RECIPE):
        assert {key[2] for key in ladder if key[:2] == (recipe, "grouped")} == {
            "all", "Li", "Mg", "Al",
        }  # fmt: skip
    assert {key[2] for key in ladder if key[0] == "mean"} == {"all"}
    single = ladder["network", "ion-Li", "all", "all"]
    assert (single.n, single.mae, single.median, single.rmse) == (20, 1.0, 1.0, 1.0)
    assert ("network", "ion-Li", "Li", "all") not in ladder
    kept = ladder["network", "grouped", "Mg", "paper-trimmed"]
    assert kept.n == paper_trimmed(data.ion, data.voltage)[data.ion == "Mg"].sum()


def test_a_report_compares_on_the_same_rows(data, store) -> None:
    report = build_report(data, store, "network")
    pairs = {(c.split, c.recipe, c.against): c for c in report["comparisons"]}
    assert set(pairs) == {
        ("grouped", "network", PAPER_RECIPE),
        ("grouped", "network", "mean"),
        ("grouped", "mean", PAPER_RECIPE),
    }
    best = pairs["grouped", "network", PAPER_RECIPE]
    assert best.gain
    assert best.lo95 <= best.difference <= best.hi95 < 0


def test_a_report_has_coverage_and_the_domain_curve(data, store) -> None:
    report = build_report(data, store, "network")
    covered = {(e.split, e.ion): e for e in report["coverage"]}
    assert set(covered) == {("grouped", ion) for ion in ("all", "Li", "Mg", "Al")}
    held = store.get("network", "grouped", data)
    inside = np.abs(held.prediction - data.voltage) <= 0.3
    assert covered["grouped", "all"].cover90 == pytest.approx(inside.mean(), abs=1e-4)
    assert covered["grouped", "all"].cover80 == 1.0
    assert covered["grouped", "Mg"].width90 == pytest.approx(0.6, abs=1e-4)
    curve = report["domain_curve"]
    assert [d.decile for d in curve] == list(range(1, 11))
    assert curve[0].mae < curve[-1].mae


def test_a_report_refuses_other_data_and_a_recipe_that_is_not_there(data, store) -> None:
    with pytest.raises(FileFormatError, match="no out-of-fold predictions of the model's recipe"):
        build_report(data, store, "blend")
    other = LabelledElectrodes(
        data.hosts, data.host_of_row, data.ion, data.voltage + 1, data.group,
        data.paper_prediction, data.folds, data.row_id,
    )  # fmt: skip
    with pytest.raises(FileFormatError, match="not those of the out-of-fold predictions"):
        build_report(other, store, "network")


def test_the_experiments_are_known_hosts_with_a_measured_voltage() -> None:
    from voltscreen.sources.known_hosts import known_hosts

    measured = {(host.name, m.ion) for host in known_hosts() for m in host.measured}
    assert len(set(EXPERIMENTS)) == 10
    assert set(EXPERIMENTS) <= measured
    assert {ion for _, ion in EXPERIMENTS} <= set(ION_SYMBOLS)
