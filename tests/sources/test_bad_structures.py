"""Every kind of bad structure: refused with a reason that begins with its kind, never a crash."""

from __future__ import annotations

import json
import time

import numpy as np
import pandas as pd
import pytest
import torch
from pymatgen.core import Lattice, Structure

from tests.model.helpers import small_model
from voltscreen.errors import VoltscreenError
from voltscreen.graph import INSERTION, NEAREST
from voltscreen.model import predict_candidates
from voltscreen.model.memory import in_halves, is_out_of_memory
from voltscreen.sources import candidates
from voltscreen.sources.files import read_structure
from voltscreen.structures import PackedStructure, Refused
from voltscreen.structures.plain_dict import from_plain_dict

OXIDE = Structure(Lattice.cubic(4.2), ["Mn", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
CIF_HEAD = """data_x
_cell_length_a {a}
_cell_length_b 5
_cell_length_c 5
_cell_angle_alpha {alpha}
_cell_angle_beta 90
_cell_angle_gamma 90
loop_
_symmetry_equiv_pos_as_xyz
{symmetry}
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
"""


def cif(*sites: str, a: object = 5, alpha: object = 90, symmetry: str = "'x, y, z'") -> str:
    return CIF_HEAD.format(a=a, alpha=alpha, symmetry=symmetry) + "\n".join(sites) + "\n"


def poscar(counts: str, symbols: str = "Mn", scale: str = "1.0", where: str = "0 0 0") -> str:
    return f"x\n{scale}\n4 0 0\n0 4 0\n0 0 4\n{symbols}\n{counts}\ndirect\n{where}\n"


def pymatgen_json(**changes: object) -> str:
    return json.dumps(OXIDE.as_dict() | changes)


def site(symbol: str, occupancy: float = 1, where: object = (0, 0, 0)) -> dict[str, object]:
    return {"species": [{"element": symbol, "occu": occupancy}], "abc": where}


GRID = np.arange(5000)
MANY = np.stack([GRID % 20, GRID // 20 % 20, GRID // 400], axis=1) / [20, 20, 13]
FILES = {
    "nan.cif": (cif("Mn Mn 0 0 0 1", a="nan"), "non-finite number"),
    "infinite.vasp": (poscar("1", where="inf 0 0"), "non-finite number"),
    "singular.cif": (cif("Mn Mn 0 0 0 1", alpha=0), "non-finite number"),
    "flat.json": (pymatgen_json(lattice={"matrix": [[4, 0, 0], [4, 0, 0], [0, 0, 4]]}),
                  "cell with no room"),
    "nan.json": (pymatgen_json(sites=[site("Mn", 1, [float("nan"), 0, 0])]), "non-finite number"),
    "empty.json": (pymatgen_json(sites=[]), "empty structure"),
    "empty.vasp": (poscar("0"), "not a readable structure"),
    "nothing.cif": ("", "not a readable structure"),
    "5000.json": (pymatgen_json(sites=[site("O", 1, list(xyz)) for xyz in MANY]),
                  "too many atoms"),
    "5000.cif": (cif(*(f"O{i} O {x:.4f} {y:.4f} {z:.4f} 1" for i, (x, y, z) in enumerate(MANY))),
                 "too many atoms"),
    "claims.vasp": (poscar("3000000000"), "too many atoms"),
    "claims-more.vasp": (poscar("1" + "0" * 400), "too many atoms"),
    "symmetric.cif": (
        cif(*(f"O{i} O 0.{i:03}1 0.{i:03}2 0.{i:03}4 1" for i in range(400)),
            symmetry="\n".join(f"'x+{n}/24, y, z'" for n in range(24))),
        "too many positions",
    ),
    "overlap.cif": (cif("Mn Mn 0 0 0 1", "O O 0.01 0 0 1"), "overlapping atoms"),
    "unknown.cif": (cif("Qq Qq 0 0 0 1"), "unknown element"),
    "unknown.json": (pymatgen_json(sites=[site("Qq")]), "unknown element"),
    "dummy.json": (pymatgen_json(sites=[site("X")]), "unknown element"),
    "deuterium.cif": (cif("D1 D 0 0 0 1", "O1 O 0.5 0 0 1"), "deuterium"),
    "deuterium.json": (pymatgen_json(sites=[site("D")]), "deuterium"),
    "deuterium.vasp": (poscar("1", "D"), "deuterium"),
    "partial.cif": (cif("Mn Mn 0 0 0 0.5"), "disordered structure"),
    "partial.json": (pymatgen_json(sites=[site("Mn", 0.4)]), "disordered structure"),
    "text-occupancy.json": (pymatgen_json(sites=[site("Mn", "much")]),  # type: ignore[arg-type]
                            "not a structure of pymatgen"),
    "syntax.cif": ("data_x\n_cell_length_a abc\nloop_\n_atom_site_label\n", "not a readable"),
    "truncated.cif": (cif("Mn Mn 0 0 0 1", "O O 0.5")[:-4], "not a readable structure"),
    "truncated.json": (pymatgen_json()[:80], "not a readable structure"),
    "truncated.vasp": ("x\n1.0\n4 0 0\n0 4", "not a readable structure"),
    "deep.json": ("[" * 200_000, "not a readable structure"),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_a_bad_file_is_refused_at_once_by_its_kind(tmp_path, name) -> None:
    text, kind = FILES[name]
    (tmp_path / name).write_text(text)
    begun = time.process_time()
    with pytest.raises(VoltscreenError) as caught:
        read_structure(tmp_path / name)
    assert str(caught.value).startswith(kind)
    assert time.process_time() - begun < 2


def test_huge_files_are_not_read(tmp_path) -> None:
    with (tmp_path / "huge.json").open("wb") as file:
        file.truncate(3_000_000_000)
    with pytest.raises(VoltscreenError, match="^file too large"):
        read_structure(tmp_path / "huge.json")


@pytest.mark.parametrize(
    "encoded",
    [
        b"\xef\xbb\xbf" + cif("Mn Mn 0 0 0 1").encode(),
        cif("Mn Mn 0 0 0 1").replace("data_x", "# Universit\u00e9\ndata_x").encode("latin-1"),
        cif("Mn Mn 0 0 0 1").replace("\n", "\r\n").encode(),
    ],
    ids=["byte order mark", "Latin-1", "CRLF"],
)
def test_other_encodings_are_read(tmp_path, encoded) -> None:
    (tmp_path / "a.cif").write_bytes(encoded)
    assert read_structure(tmp_path / "a.cif").symbols == ["Mn"]


def test_utf_16_is_refused(tmp_path) -> None:
    (tmp_path / "a.cif").write_bytes(cif("Mn Mn 0 0 0 1").encode("utf-16"))
    with pytest.raises(VoltscreenError, match="^not a readable structure"):
        read_structure(tmp_path / "a.cif")


def test_a_json_file_makes_no_objects(tmp_path) -> None:
    marker = tmp_path / "ran"
    content = OXIDE.as_dict()
    content["sites"][0]["properties"] = {
        "x": {"@module": "pathlib", "@class": "Path", "@callable": "touch", "args": [str(marker)]},
        "y": {"@module": "no_such_module_anywhere", "@class": "A"},
    }
    (tmp_path / "a.json").write_text(json.dumps(content))
    assert read_structure(tmp_path / "a.json").formula == "MnO"
    assert not marker.exists()


def test_a_pymatgen_dictionary_is_read_as_pymatgen_reads_it() -> None:
    charged = OXIDE.copy().add_oxidation_state_by_element({"Mn": 2, "O": -2})
    for structure in (OXIDE, charged):
        assert from_plain_dict(structure.as_dict()) == PackedStructure.from_pymatgen(structure)


def test_a_table_of_long_lists_is_refused_before_they_are_objects(tmp_path) -> None:
    row = {"id": "a", "lattice": [4.0, 0, 0, 0, 4, 0, 0, 0, 4], "atomic_numbers": [25]}
    rows = [row | {"frac_coords": [0.0] * 3} for _ in range(50)]
    rows[7] |= {"id": "long", "frac_coords": np.zeros(900_000)}
    pd.DataFrame(rows).to_parquet(tmp_path / "one.parquet")
    found = list(candidates("parquet", "one.parquet", tmp_path))
    assert [item.ref.id for item in found if isinstance(item, Refused)] == ["long"]
    assert found[7].reason.startswith("too many atoms")
    pd.DataFrame([rows[7]] * 3).to_parquet(tmp_path / "all.parquet")
    with pytest.raises(VoltscreenError, match="^too many atoms"):
        list(candidates("parquet", "all.parquet", tmp_path))


@pytest.mark.parametrize("spec", [NEAREST, INSERTION], ids=lambda spec: spec.name)
def test_what_only_the_model_can_tell_is_refused_by_its_kind(spec) -> None:
    def cubic(length, *numbers):
        places = np.arange(len(numbers))[:, None] / len(numbers) * np.ones(3)
        return PackedStructure.from_arrays(np.eye(3) * length, places, numbers)

    bad = {
        "isolated atom": cubic(60, 25, 8),
        "isolated atom: site 0 (Mn) has no other": cubic(9, 25),
        "radioactive element: Tc": cubic(4.2, 43, 8),
        "unknown element": cubic(4.2, 110, 8),
    }
    good = cubic(4.2, 25, 8)
    found = predict_candidates(small_model(spec=spec), [*bad.values(), good], ["Mg"])
    for kind, prediction in zip(bad, found, strict=False):
        assert prediction.ions == {}
        assert prediction.errors["Mg"].startswith(kind)
    alone = predict_candidates(small_model(spec=spec), [good], ["Mg"])[0]
    assert found[-1].ions["Mg"].voltage == pytest.approx(alone.ions["Mg"].voltage, abs=1e-5)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
        torch.OutOfMemoryError("Tried to allocate 2.00 GiB"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
    ids=["python", "cpu", "cuda", "driver", "cublas"],
)
def test_work_goes_on_in_halves_when_memory_runs_out(error) -> None:
    done: list[int] = []
    refused: list[int] = []

    def work(items):
        if len(items) > 3 or 7 in items:
            raise error
        done.extend(items)

    in_halves(work, list(range(16)), refused.append)
    assert sorted(done) == [n for n in range(16) if n != 7]
    assert refused == [7]


def test_another_error_is_not_taken_for_memory() -> None:
    assert not is_out_of_memory(RuntimeError("shapes differ"))
    with pytest.raises(ValueError, match="no"):
        in_halves(lambda _: (_ for _ in ()).throw(ValueError("no")), [1, 2], print)


def test_a_batch_that_runs_out_of_memory_has_the_same_voltages(monkeypatch) -> None:
    from tests.model.helpers import random_crystal
    from voltscreen.model import predictor

    crystals = [random_crystal(seed, 4 + seed, (8, 15, 25, 26)) for seed in range(12)]
    model = small_model(spec=INSERTION)
    expected = predict_candidates(model, crystals, ["Mg"])
    real = predictor.build_graphs
    sizes = []

    def hungry(structures, spec):
        sizes.append(len(structures))
        if len(structures) > 3 or 15 in map(len, structures):
            raise MemoryError
        return real(structures, spec)

    monkeypatch.setattr(predictor, "build_graphs", hungry)
    found = predict_candidates(model, crystals, ["Mg"])
    assert max(sizes) == 12
    for one, other in zip(found, expected, strict=True):
        if one.errors:
            assert one.errors["Mg"].startswith("out of memory: 15 atoms")
        else:
            assert one.ions["Mg"].voltage == pytest.approx(other.ions["Mg"].voltage, abs=1e-5)
    assert sum(bool(one.errors) for one in found) == 1
