"""Insertion energies: their parts, their symmetries, and hosts that have none."""

from __future__ import annotations

import numpy as np
import pytest

from tests.potentials.helpers import layered_host, lonely_atom
from voltscreen.errors import MissingPackageError, StructureError, VoltscreenError
from voltscreen.ions import ION_SYMBOLS, working_ion
from voltscreen.potentials.insertion import insertion_energies, largest_void
from voltscreen.potentials.metals import METALS, metal_energy
from voltscreen.structures import PackedStructure


def test_the_energy_is_that_of_three_separate_calculations(potential) -> None:
    host = layered_host()
    labels = insertion_energies(potential, host, ["Li", "Mg"])
    assert [label.ion for label in labels.ions] == ["Li", "Mg"]
    for label in labels.ions:
        filled = PackedStructure.from_arrays(
            host.lattice,
            np.vstack((host.frac_coords, labels.site.frac_coords)),
            [*host.atomic_numbers, working_ion(label.ion).atomic_number],
        )
        with_ion, without = potential.energies([filled, host])
        expected = with_ion - without - metal_energy(potential, label.ion)
        assert label.insertion_energy == pytest.approx(expected, abs=1e-5)
        assert labels.energy == pytest.approx(without, abs=1e-5)


def test_the_parts_add_up(potential) -> None:
    for label in insertion_energies(potential, layered_host(), ION_SYMBOLS).ions:
        parts = label.ion_site_energy + label.host_shift - metal_energy(potential, label.ion)
        assert label.insertion_energy == pytest.approx(parts, abs=1e-9)


def test_lithium_goes_into_the_gap_of_titanium_disulfide_and_gains_energy(potential) -> None:
    labels = insertion_energies(potential, layered_host(), ["Li"])
    assert labels.site.frac_coords[2] == pytest.approx(0.5, abs=0.1)
    assert labels.site.distance >= labels.site.clearance > 1.5
    assert -3.0 < labels.ions[0].insertion_energy < -1.0
    assert labels.moments.shape == (3,)
    assert labels.crystal.shape == (64,)


def test_an_ion_has_the_same_energy_whatever_others_are_asked_for(potential) -> None:
    host = layered_host(27, 8)
    alone = insertion_energies(potential, host, ["Ca"]).ions[0]
    among = insertion_energies(potential, host, ION_SYMBOLS).ions[ION_SYMBOLS.index("Ca")]
    assert among.insertion_energy == pytest.approx(alone.insertion_energy, abs=1e-4)
    assert among.moment_change == pytest.approx(alone.moment_change, abs=1e-4)


def test_a_moved_and_reordered_host_has_the_same_energies(potential) -> None:
    host = layered_host(25)
    order = [2, 0, 1]
    moved = PackedStructure.from_arrays(
        host.lattice, host.frac_coords[order] + [0.3, 0.1, 0.7], host.atomic_numbers[order]
    )
    expected = insertion_energies(potential, host, ["Na"])
    found = insertion_energies(potential, moved, ["Na"])
    assert found.ions[0].insertion_energy == pytest.approx(
        expected.ions[0].insertion_energy, abs=1e-3
    )
    np.testing.assert_allclose(found.moments, expected.moments[order], atol=1e-3)
    np.testing.assert_allclose(found.crystal, expected.crystal, atol=1e-3)


def test_the_void_is_where_the_host_is_emptiest() -> None:
    site = largest_void(layered_host())
    cart = site.frac_coords @ layered_host().lattice
    images = np.array([[i, j, k] for i in (-1, 0, 1) for j in (-1, 0, 1) for k in (-1, 0, 1)])
    atoms = (layered_host().frac_coords[None] + images[:, None]).reshape(-1, 3)
    distances = np.linalg.norm(atoms @ layered_host().lattice - cart, axis=1)
    assert distances.min() == pytest.approx(site.distance, abs=1e-4)


@pytest.mark.parametrize(
    ("host", "reason"),
    [
        (lonely_atom(), "isolated atom"),
        (layered_host(96), "beyond plutonium"),
        (
            PackedStructure.from_arrays(np.eye(3) * 4, [[0, 0, 0], [0.01, 0, 0]], [8, 8]),
            "overlapping atoms",
        ),
    ],
)
def test_a_host_that_cannot_be_computed_is_refused_with_the_reason(potential, host, reason) -> None:
    with pytest.raises(StructureError, match=reason):
        insertion_energies(potential, host, ["Li"])


def test_a_noble_gas_is_computed_without_a_warning(potential, recwarn) -> None:
    neon = PackedStructure.from_arrays(3.2 * np.eye(3), [[0, 0, 0]], [10])
    assert len(insertion_energies(potential, neon, ["Li"]).ions) == 1
    assert not recwarn.list


def test_other_ions_are_refused(potential) -> None:
    with pytest.raises(VoltscreenError, match="unknown working ion 'Fe'"):
        insertion_energies(potential, layered_host(), ["Fe"])


def test_a_missing_package_is_said_with_its_extra(monkeypatch) -> None:
    import importlib.metadata

    from voltscreen.potentials.chgnet import chgnet_version

    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    with pytest.raises(MissingPackageError, match=r"pip install 'voltscreen\[potential\]'"):
        chgnet_version()


def test_every_working_ion_has_a_metal() -> None:
    assert tuple(METALS["chgnet"]) == ION_SYMBOLS
