from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure

from voltscreen.errors import StructureError
from voltscreen.screening import Proposal, SubstituteSpec, Swap, propose, substitute
from voltscreen.screening.oxidation import (
    formal_states,
    possible_states,
    substitution_probability,
)
from voltscreen.structures import PackedStructure


def host(*elements: str) -> PackedStructure:
    """Rock-salt-like layers of four metals over four oxygens."""
    lattice = Lattice.from_parameters(4.2, 4.2, 8.4, 90, 90, 90)
    metals = [(0, 0, 0), (0.5, 0.5, 0), (0, 0, 0.5), (0.5, 0.5, 0.5)]
    oxygens = [(0, 0, 0.25), (0.5, 0.5, 0.25), (0.5, 0, 0.5), (0, 0.5, 0.5),
               (0, 0, 0.75), (0.5, 0.5, 0.75), (0.5, 0, 0), (0, 0.5, 0)]  # fmt: skip
    return PackedStructure.from_pymatgen(
        Structure(lattice, [*elements, *["O"] * 8], metals + oxygens)
    )


VOLTAGES = {(s, True): (v, 50) for s, v in {
    "Ti": 1.2, "V": 1.6, "Cr": 2.4, "Mn": 2.2, "Fe": 2.8, "Co": 3.2, "Ni": 3.5, "Al": 3.0,
    "Ga": 3.3, "Sc": 3.4, "Sn": 3.1, "Mg": 2.0, "Ca": 1.8, "P": 3.0, "O": 3.0,
}.items()}  # fmt: skip
metals = st.sampled_from("Ti V Cr Mn Fe Co Ni Al Mg Ca".split())
four = st.lists(metals, min_size=4, max_size=4)


def proposals(cell: PackedStructure, **fields) -> list[Proposal]:
    local = np.array([VOLTAGES[symbol, True][0] for symbol in cell.symbols])
    spec = SubstituteSpec(**({"suggestions": 50, "min_probability": 0.0} | fields))
    return propose(cell, "Mg", local, np.ones(len(cell), bool), VOLTAGES, spec)


@settings(max_examples=25, deadline=None)
@given(four)
def test_balanced_swaps_are_neutral_and_keep_every_site(elements) -> None:
    cell = host(*elements)
    for proposal in proposals(cell):
        images = int(np.prod(proposal.multiples))
        new = substitute(cell, proposal)
        assert len(new) == images * len(cell)
        states = formal_states(new.element_counts)
        assert (states is not None) == proposal.balanced
        if states is not None:
            charge = sum(states[symbol] * n for symbol, n in new.element_counts.items())
            assert charge == pytest.approx(0, abs=1e-9)
        changed = {site for swap in proposal.swaps for site in swap.sites}
        old = cell.symbols * images
        assert {i for i, symbol in enumerate(new.symbols) if symbol != old[i]} == changed
        assert {old[i] for i in changed}.isdisjoint({"O", "Mg"})


@settings(max_examples=25, deadline=None)
@given(four)
def test_an_undone_full_swap_gives_the_parent_back(elements) -> None:
    cell = host(*elements)
    for proposal in proposals(cell, partial=False):
        # Where the new element was there already, the way back takes the same sites only.
        back = dataclasses.replace(
            proposal,
            swaps=tuple(
                dataclasses.replace(swap, old=swap.new, new=swap.old)
                for swap in reversed(proposal.swaps)
            ),
        )
        again = substitute(substitute(cell, proposal), back)
        assert again.symbols == cell.symbols
        np.testing.assert_allclose(again.frac_coords, cell.frac_coords, atol=1e-12)


def test_a_full_swap_and_back_restores_the_volume() -> None:
    cell = host("Mn", "Mn", "Mn", "Mn")
    there = Proposal((Swap("Mn", "Ni", (0, 1, 2, 3), 1.0),), (1, 1, 1), 1.0, True)
    back = Proposal((Swap("Ni", "Mn", (0, 1, 2, 3), 1.0),), (1, 1, 1), 1.0, True)
    assert substitute(substitute(cell, there), back).volume == pytest.approx(cell.volume, rel=0.02)


def test_volume_follows_the_size_of_the_new_ion_and_its_share() -> None:
    cell = host("Al", "Al", "Al", "Al")
    full = Proposal((Swap("Al", "In", (0, 1, 2, 3), 1.0),), (1, 1, 1), 1.0, True)
    half = Proposal((Swap("Al", "In", (0, 3), 1.0),), (1, 1, 1), 0.5, True)
    grown, part = (substitute(cell, proposal).volume / cell.volume for proposal in (full, half))
    assert grown > 1.05
    assert part - 1 == pytest.approx((grown - 1) / 2, rel=1e-6)


def test_volume_does_not_depend_on_the_choice_of_cell() -> None:
    cell = host("Mn", "Mn", "Fe", "Fe")
    double = PackedStructure.from_pymatgen(cell.to_pymatgen().make_supercell((1, 1, 2)))
    ratios = []
    for host_cell in (cell, double):
        sites = tuple(i for i, s in enumerate(host_cell.symbols) if s == "Mn")
        swap = Proposal((Swap("Mn", "Fe", sites, 1.0),), (1, 1, 1), 1.0, True)
        ratios.append(substitute(host_cell, swap).volume / host_cell.volume)
    assert ratios[0] == pytest.approx(ratios[1], rel=1e-9)


def test_an_odd_number_of_sites_is_halved_in_a_double_cell() -> None:
    cell = host("Ti", "Ni", "Ni", "Ni")
    partial = [p for p in proposals(cell) if p.fraction == 0.5 and p.swaps[0].old == "Ti"]
    assert partial
    assert all(int(np.prod(p.multiples)) == 2 for p in partial)
    assert all(substitute(cell, p).element_counts["Ti"] == 1 for p in partial)
    assert not [p for p in proposals(cell, max_atoms=20) if p.multiples != (1, 1, 1)]


def test_no_swap_leaves_a_host_without_redox_active_element() -> None:
    for proposal in proposals(host("V", "V", "Al", "Al")):
        assert {"V", "Cr", "Mn", "Fe", "Co", "Ni", "Ti"} & set(
            substitute(host("V", "V", "Al", "Al"), proposal).symbols
        )


def test_radius_and_probability_limits_hold() -> None:
    cell = host("Ti", "Ti", "Mn", "Mn")
    loose, tight = proposals(cell), proposals(cell, radius_tolerance=0.02)
    assert len(tight) < len(loose)
    assert all(p.probability >= 0.01 for p in proposals(cell, min_probability=0.01))


def test_the_probability_is_conditional_on_the_ion_that_is_there() -> None:
    # pymatgen's cond_prob takes the new ion first; the two orders differ.
    there = substitution_probability("Al", "Ga", 3, 3)
    back = substitution_probability("Ga", "Al", 3, 3)
    from pymatgen.analysis.structure_prediction.substitution_probability import (
        SubstitutionProbability,
    )

    assert there == pytest.approx(SubstitutionProbability().cond_prob("Ga3+", "Al3+"))
    assert back == pytest.approx(SubstitutionProbability().cond_prob("Al3+", "Ga3+"))
    assert there != pytest.approx(back)


def test_many_oxidation_states_are_tried_and_unknown_ions_have_no_probability() -> None:
    assert possible_states("Fe", 3.5) == [4, 3, 2]
    assert possible_states("Al", 3.0) == [3]
    assert substitution_probability("Mn", "Fe", 3.5, 3.5) > 0.01
    assert substitution_probability("Fe", "Pm", 9, 9) == 0.0


def test_a_swap_of_a_site_that_holds_another_element_is_refused() -> None:
    wrong = Proposal((Swap("Mn", "Fe", (5,), 1.0),), (1, 1, 1), 1.0, True)
    with pytest.raises(StructureError, match="does not hold Mn"):
        substitute(host("Mn", "Mn", "Mn", "Mn"), wrong)


def test_charge_that_nothing_carries_is_compensated_by_a_second_swap() -> None:
    # One Sc3+ for Ti4+ beside Sn4+: titanium cannot go above +4, so tin has to be exchanged.
    cell = host("Ti", "Ti", "Sn", "Sn")
    swaps = [p for p in proposals(cell) if p.swaps[0].new == "Sc"]
    assert swaps
    for proposal in swaps:
        assert [swap.old for swap in proposal.swaps] == ["Ti", "Sn"]
        assert formal_states(substitute(cell, proposal).element_counts) is not None
    strict = [p for p in proposals(cell, radius_tolerance=0.2, min_probability=0.02)
              if p.swaps[0].new == "Sc"]  # fmt: skip
    assert all(p.balanced == (len(p.swaps) == 2) for p in strict)


def test_a_host_that_no_states_make_neutral_gets_no_proposal() -> None:
    assert proposals(host("Ti", "Ca", "Ca", "Ti")) == []


def test_states_that_no_crystal_has_do_not_balance() -> None:
    assert formal_states({"V": 2, "O": 5}) == pytest.approx({"V": 5, "O": -2})
    assert formal_states({"Fe": 2, "O": 5}) is None
    assert formal_states({"Fe": 1, "Si": 1, "O": 4}) == pytest.approx({"Fe": 4, "Si": 4, "O": -2})
