from __future__ import annotations

import json

import pytest
from pymatgen.core import Lattice, Structure
from pymatgen.io.vasp import Poscar

from voltscreen.errors import FileFormatError, SpecError, StructureError
from voltscreen.sources import candidates, estimate
from voltscreen.sources.files import read_structure
from voltscreen.structures import Candidate, PackedStructure, Refused


@pytest.fixture
def rutile() -> Structure:
    return Structure.from_spacegroup(
        "P4_2/mnm", Lattice.tetragonal(4.404, 2.877), ["Mn", "O"], [[0, 0, 0], [0.305, 0.305, 0]]
    )


def test_all_formats_give_the_same_crystal(tmp_path, rutile) -> None:
    rutile.to(filename=str(tmp_path / "a.cif"))
    Poscar(rutile).write_file(str(tmp_path / "POSCAR_rutile"))
    Poscar(rutile).write_file(str(tmp_path / "b.vasp"))
    (tmp_path / "c.json").write_text(json.dumps(rutile.as_dict()))
    (tmp_path / "d.json").write_text(json.dumps({"id": "x", "structure": rutile.as_dict()}))
    expected = PackedStructure.from_pymatgen(rutile).content_hash
    names = ("a.cif", "POSCAR_rutile", "b.vasp", "c.json", "d.json")
    assert {read_structure(tmp_path / name).content_hash for name in names} == {expected}


def test_a_symmetric_cif_is_expanded(tmp_path, rutile) -> None:
    from pymatgen.io.cif import CifWriter

    CifWriter(rutile, symprec=0.01).write_file(tmp_path / "symmetric.cif")
    assert len(read_structure(tmp_path / "symmetric.cif")) == 6


@pytest.mark.parametrize(
    ("name", "text", "error"),
    [
        ("broken.cif", "data_x\n_cell_length_a abc\n", FileFormatError),
        ("empty.cif", "", FileFormatError),
        ("binary.cif", "\x00\x01\x02", FileFormatError),
        ("broken.json", "{", FileFormatError),
        ("other.json", '{"a": 1}', FileFormatError),
        ("list.json", "[1, 2]", FileFormatError),
        ("broken.vasp", "hello\n1.0\n", FileFormatError),
        ("structure.xyz", "1\n\nH 0 0 0\n", FileFormatError),
    ],
)
def test_a_broken_file_is_one_sentence_that_names_it(tmp_path, name, text, error) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(error, match=name) as caught:
        read_structure(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_missing_and_huge_files_are_refused(tmp_path) -> None:
    with pytest.raises(FileFormatError, match="No such file"):
        read_structure(tmp_path / "none.cif")
    with (tmp_path / "huge.cif").open("wb") as file:
        file.truncate(30_000_000)
    with pytest.raises(FileFormatError, match="more than one structure"):
        read_structure(tmp_path / "huge.cif")


def test_partial_occupancy_is_refused(tmp_path, rutile) -> None:
    rutile[0] = {"Mn": 0.5, "Fe": 0.5}
    rutile.to(filename=str(tmp_path / "mixed.cif"))
    with pytest.raises(StructureError, match="disordered"):
        read_structure(tmp_path / "mixed.cif")


def test_one_bad_file_stops_nothing(tmp_path, rutile) -> None:
    rutile.to(filename=str(tmp_path / "a.cif"))
    (tmp_path / "b.cif").write_text("nonsense")
    rutile.to(filename=str(tmp_path / "c.cif"))
    items = list(candidates("files", "*.cif", tmp_path))
    assert [type(item) for item in items] == [Candidate, Refused, Candidate]
    assert items[0].ref.id == "a.cif"
    assert "b.cif" in items[1].reason
    assert estimate("files", ["a.cif", "*.cif"], tmp_path) == 3


@pytest.mark.parametrize("value", ["*.cif", ["nothing-*.cif"], 3, [1], {}])
def test_a_source_that_names_nothing_is_refused(tmp_path, value) -> None:
    with pytest.raises(SpecError, match=r"source\.files"):
        list(candidates("files", value, tmp_path))
