"""Second looks: voltages from hosts alone, known ends, and hosts that fail."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.potentials.helpers import layered_host
from voltscreen.potentials.refinement import (
    Filling,
    LookJob,
    LookOptions,
    look,
    look_many,
    voltage_profile,
)
from voltscreen.potentials.short_look import SHORT_STEPS, short_looks
from voltscreen.sources import candidates
from voltscreen.structures import PackedStructure

QUICK = LookOptions(sites=2, relax_steps=60)


def known_host(name: str) -> PackedStructure:
    return next(iter(candidates("hosts", [name], Path("/")))).structure


def until(found, ions: float) -> float:
    """Average voltage from the empty host to so many ions, from the profile."""
    steps = [
        (step.voltage, min(step.last, ions) - step.first)
        for step in found.profile
        if step.first < ions
    ]
    return sum(v * n for v, n in steps) / ions


@pytest.mark.parametrize(
    ("name", "ion", "limit", "ions", "expected"),
    [
        # DFT (Materials Project) or measured, as the known hosts cite them.
        ("mno2-lambda", "Mg", 2, 2, 2.9),
        ("mno2-lambda", "Li", 2, 2, 4.0),
        ("coo2-o3", "Li", 1, 1, 3.9),
    ],
)
def test_known_electrodes_come_out_of_their_hosts_alone(
    potential, name, ion, limit, ions, expected
):
    found = look(potential, known_host(name), ion, limit, options=QUICK)
    assert found.failure is None
    assert until(found, ions) == pytest.approx(expected, abs=0.5)
    assert found.end is not None
    assert found.end.kept
    assert 0 < found.end.volume_change < 0.15
    assert found.end.min_distance > 1.7
    assert found.voltage == pytest.approx(until(found, found.end.count))


def test_looks_side_by_side_are_the_same_as_alone(potential):
    jobs = [LookJob(layered_host(metal), "Li", 1) for metal in (22, 27)]
    together = look_many(potential, jobs, QUICK)
    for job, found in zip(jobs, together, strict=True):
        alone = look(potential, job.host, job.ion, job.limit, options=QUICK)
        assert found.voltage == pytest.approx(alone.voltage, abs=2e-3)
        assert found.evaluations == pytest.approx(alone.evaluations, abs=5)


def test_a_known_end_takes_the_place_of_the_fullest_filling(potential):
    host = layered_host()
    with_ion = PackedStructure.from_arrays(
        host.lattice, np.vstack((host.frac_coords, [[0, 0, 0.5]])), [*host.atomic_numbers, 3]
    )
    doubled = PackedStructure.from_pymatgen(with_ion.to_pymatgen() * (2, 1, 1))
    found = look(potential, host, "Li", 4, known=doubled, options=QUICK)
    assert found.end is not None
    assert found.end.known
    assert found.end.count == 1
    assert len(found.end.structure) == 8
    alone = look(potential, host, "Li", 1, options=QUICK)
    assert found.voltage == pytest.approx(alone.voltage, abs=0.1)


def test_a_host_without_a_void_fails_with_the_reason(potential):
    copper = PackedStructure.from_arrays(
        [[0, 1.8, 1.8], [1.8, 0, 1.8], [1.8, 1.8, 0]], [[0, 0, 0]], [29]
    )
    found = look(potential, copper, "K", 1, options=QUICK)
    assert found.voltage is None or found.failure is not None
    assert found.failure


def test_a_host_that_does_not_converge_fails_with_the_reason(potential):
    strained = PackedStructure.from_arrays(
        layered_host().lattice * 1.06, layered_host().frac_coords, [22, 16, 16]
    )
    found = look(potential, strained, "Li", 1, options=LookOptions(relax_steps=2, sites=1))
    assert str(found.failure).startswith("not converged: the host")
    assert found.fillings == ()


def test_the_profile_follows_the_convex_hull():
    def filling(count: float, energy: float) -> Filling:
        return Filling(count, energy, layered_host(), 0, 2, 0, True, True, False)

    # The second point lies above the line from the first to the last.
    fillings = [filling(1, -6.0), filling(2, -8.0), filling(4, -16.0)]
    steps = voltage_profile(0.0, fillings, metal=-1.0, charge=2)
    assert [(s.first, s.last) for s in steps] == [(0, 1), (1, 4)]
    assert [s.voltage for s in steps] == pytest.approx([2.5, (10 / 3 - 1) / 2])
    average = sum(s.voltage * (s.last - s.first) for s in steps) / 4
    assert average == pytest.approx((16 - 4) / (4 * 2))


def test_a_short_look_begins_at_the_insertion_energy_and_gains(potential):
    from voltscreen.potentials.insertion import insertion_energies

    host = layered_host()
    labels = insertion_energies(potential, host, ["Li", "Na"]).ions
    found = short_looks(potential, host, ["Li", "Na"])
    for label, one in zip(labels, found, strict=True):
        assert one.ion == label.ion
        assert one.energies[0] == pytest.approx(label.insertion_energy, abs=1e-3)
        assert len(one.energies) <= SHORT_STEPS
        assert one.energy < one.energies[0] - 0.05
