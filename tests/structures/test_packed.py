from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure

from voltscreen.errors import StructureError
from voltscreen.structures import HostState, PackedStructure, make_host, refuse_overlap


def rock_salt(a: float = 4.21, metal: str = "Mg") -> PackedStructure:
    structure = Structure.from_spacegroup(
        "Fm-3m", Lattice.cubic(a), [metal, "O"], [[0, 0, 0], [0.5, 0.5, 0.5]]
    )
    return PackedStructure.from_pymatgen(structure)


@st.composite
def crystals(draw: st.DrawFn) -> PackedStructure:
    n_atoms = draw(st.integers(1, 12))
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    lattice = Lattice.from_parameters(*rng.uniform(4, 12, 3), *rng.uniform(70, 110, 3)).matrix
    return PackedStructure.from_arrays(
        lattice, rng.uniform(-1, 2, (n_atoms, 3)), rng.integers(1, 95, n_atoms)
    )


@given(crystals())
def test_bytes_give_the_same_structure_back(crystal: PackedStructure) -> None:
    again = PackedStructure.from_bytes(crystal.to_bytes())
    assert again == crystal
    assert len(crystal.to_bytes()) == 8 + 72 + 25 * len(crystal)


@given(crystals(), st.randoms(use_true_random=False))
@settings(max_examples=50)
def test_hash_ignores_atom_order_orientation_and_whole_cells(crystal, random) -> None:
    order = list(range(len(crystal)))
    random.shuffle(order)
    rotation = np.linalg.qr(np.random.default_rng(random.randrange(2**31)).normal(size=(3, 3)))[0]
    moved = PackedStructure.from_arrays(
        crystal.lattice @ rotation,
        crystal.frac_coords[order] + random.randrange(-3, 3),
        crystal.atomic_numbers[order],
    )
    # Quantities exactly on the edge of a step may fall either way; random ones practically never.
    assert moved.content_hash == crystal.content_hash


def test_hash_is_the_same_from_cif_and_from_arrays(tmp_path) -> None:
    from voltscreen.sources.files import read_structure

    packed = rock_salt()
    packed.to_pymatgen().to(filename=str(tmp_path / "MgO.cif"))
    assert read_structure(tmp_path / "MgO.cif").content_hash == packed.content_hash


def test_hash_tells_apart_elements_cells_and_positions() -> None:
    base = rock_salt()
    shifted = base.frac_coords.copy()
    shifted[0, 0] += 0.01
    others = [
        rock_salt(metal="Ca"),
        rock_salt(a=4.22),
        PackedStructure.from_arrays(base.lattice, shifted, base.atomic_numbers),
    ]
    hashes = {other.content_hash for other in others}
    assert len(hashes) == 3
    assert base.content_hash not in hashes


def test_pymatgen_round_trip_keeps_sites_in_order() -> None:
    packed = rock_salt()
    again = PackedStructure.from_pymatgen(packed.to_pymatgen())
    assert again.symbols == packed.symbols
    np.testing.assert_allclose(again.frac_coords, packed.frac_coords)
    assert packed.formula == "MgO"
    assert packed.element_counts == {"O": 4, "Mg": 4}


@pytest.mark.parametrize(
    ("lattice", "coords", "numbers", "reason"),
    [
        (np.eye(3) * 4, np.empty((0, 3)), [], "empty"),
        (np.eye(3) * 4, [[0, 0, np.nan]], [3], "non-finite"),
        (np.full((3, 3), np.inf), [[0, 0, 0]], [3], "non-finite"),
        (np.eye(3) * 4, [[0, 0, 0]], [0], "unknown element"),
        (np.eye(3) * 4, [[0, 0, 0]], [119], "unknown element"),
        (np.ones((3, 3)), [[0, 0, 0]], [3], "no room"),
        (np.eye(3) * 4, [[0, 0, 0]], [3, 8], "atomic numbers"),
        (np.eye(2), [[0, 0, 0]], [3], "not a crystal"),
        (np.eye(3) * 1e6, [[0, 0, 0]], [3], "longer than"),
    ],
)
def test_impossible_arrays_are_refused_with_the_reason(lattice, coords, numbers, reason) -> None:
    with pytest.raises(StructureError, match=reason):
        PackedStructure.from_arrays(lattice, coords, numbers)


def test_disordered_and_empty_structures_are_refused() -> None:
    disordered = Structure(Lattice.cubic(4), [{"Fe": 0.5, "Mn": 0.5}], [[0, 0, 0]])
    with pytest.raises(StructureError, match="disordered.*partly occupied"):
        PackedStructure.from_pymatgen(disordered)
    with pytest.raises(StructureError, match="empty"):
        PackedStructure.from_pymatgen(Structure(Lattice.cubic(4), [], []))
    with pytest.raises(StructureError, match="dummy"):
        PackedStructure.from_pymatgen(Structure(Lattice.cubic(4), ["X0+"], [[0, 0, 0]]))


def test_overlap_is_found_across_the_cell_boundary() -> None:
    near = PackedStructure.from_arrays(np.eye(3) * 5, [[0.01, 0, 0], [0.97, 0, 0]], [8, 25])
    with pytest.raises(StructureError, match=r"sites 0 \(O\) and 1 \(Mn\) are 0.200 angstrom"):
        refuse_overlap(near)
    refuse_overlap(rock_salt())


def test_overlap_with_its_own_image_is_found() -> None:
    thin = PackedStructure.from_arrays(np.diag([0.4, 8.0, 8.0]), [[0, 0, 0]], [8])
    with pytest.raises(StructureError, match="overlapping"):
        refuse_overlap(thin)


def test_foreign_bytes_are_refused() -> None:
    good = rock_salt().to_bytes()
    for bad in (b"", b"VSP1", good[:-1], good + b"x", b"ABCD" + good[4:]):
        with pytest.raises(StructureError, match="not a packed structure"):
            PackedStructure.from_bytes(bad)


def test_host_states() -> None:
    candidate = rock_salt()
    removed = make_host(candidate, "Mg")
    assert removed.state is HostState.ION_REMOVED
    assert removed.structure.element_counts == {"O": 4}
    kept = make_host(candidate, "Mg", HostState.AS_GIVEN)
    assert kept.state is HostState.AS_GIVEN
    assert kept.structure == candidate
    other = make_host(candidate, "Li")
    assert other.state is HostState.AS_GIVEN
    assert other.structure == candidate


def test_nothing_left_is_refused() -> None:
    metal = PackedStructure.from_arrays(np.eye(3) * 3, [[0, 0, 0]], [3])
    with pytest.raises(StructureError, match="no host is left once Li"):
        make_host(metal, "Li")
