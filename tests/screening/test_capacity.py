from __future__ import annotations

import pytest
from pymatgen.apps.battery.analyzer import BatteryAnalyzer
from pymatgen.core import Composition, Lattice, Species, Structure

from voltscreen.screening import gravimetric_capacity, reducible_charge


def counts(formula: str) -> dict[str, float]:
    return dict(Composition(formula).get_el_amt_dict())


@pytest.mark.parametrize(
    ("formula", "states"),
    [
        ("MnO2", {"Mn": 4, "O": -2}),
        ("FePO4", {"Fe": 3, "P": 5, "O": -2}),
        ("V2O5", {"V": 5, "O": -2}),
        ("TiS2", {"Ti": 4, "S": -2}),
        ("Mo6S8", {"Mo": 8 / 3, "S": -2}),
        ("Fe2(SO4)3", {"Fe": 3, "S": 6, "O": -2}),
        ("FeFe(CN)6", {"Fe": 3, "C": 2, "N": -3}),
        ("CuS", {"Cu": 2, "S": -2}),
        ("NaFeO2", {"Na": 1, "Fe": 3, "O": -2}),
        ("FeOF", {"Fe": 3, "O": -2, "F": -1}),
    ],
)
@pytest.mark.parametrize("ion", ["Li", "Mg", "Al"])
def test_capacity_equals_pymatgens_battery_analyzer(formula, states, ion) -> None:
    host = counts(formula)
    species = [Species(symbol, states[symbol]) for symbol, n in host.items() for _ in range(int(n))]
    cell = Structure(Lattice.cubic(20), species, [[i / 20, 0, 0] for i in range(len(species))])
    expected = BatteryAnalyzer(cell, ion).get_max_capgrav(remove=False, insert=True)
    assert gravimetric_capacity(host, ion) == pytest.approx(expected, rel=1e-6)


def test_capacity_of_the_classics() -> None:
    assert gravimetric_capacity(counts("FePO4"), "Li") == pytest.approx(169.9, abs=0.1)
    assert gravimetric_capacity(counts("Mo6S8"), "Mg") == pytest.approx(121.7, abs=0.2)
    # Mg2+ brings two electrons: half the ions, so more capacity a gram than Li
    assert gravimetric_capacity(counts("MnO2"), "Mg") > gravimetric_capacity(counts("MnO2"), "Cs")


def test_a_cell_and_its_formula_unit_have_the_same_capacity() -> None:
    assert gravimetric_capacity(counts("Mn8O16"), "Mg") == pytest.approx(
        gravimetric_capacity(counts("MnO2"), "Mg")
    )


def test_charged_hosts_that_pymatgen_cannot_balance_have_a_capacity() -> None:
    assert Composition("FeSiO4").oxi_state_guesses() == ()
    assert reducible_charge(counts("FeSiO4")) == 2


@pytest.mark.parametrize("formula", ["C", "SiO2", "NaCl", "ZrS2"])
def test_without_a_redox_active_element_there_is_no_capacity(formula) -> None:
    assert reducible_charge(counts(formula)) is None
    assert gravimetric_capacity(counts(formula), "Li") is None


def test_fully_reduced_hosts_have_none_left() -> None:
    assert reducible_charge(counts("MnO")) == 0
    assert gravimetric_capacity(counts("MnO"), "Mg") == 0


def test_charge_beyond_the_highest_state_is_not_counted() -> None:
    # Ni would have to be +8; its highest state is +4
    assert reducible_charge(counts("NiO4")) == reducible_charge(counts("NiO2"))
