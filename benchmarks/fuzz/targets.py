"""What is fuzzed: every reader of what a user or a download gives.

A target takes bytes and may raise nothing but `VoltscreenError`. Bytes are laid out so that the
fuzzer reaches beyond the format's outer shell: tokens of the format for texts, tables of real
columns for Parquet, archives with a real pickle inside for checkpoints.
"""

from __future__ import annotations

import io
import json
import math
import os
import pickle
import struct
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from voltscreen.errors import VoltscreenError

# One process fuzzes one target; the file is written anew for every input.
_FOLDER = Path(
    tempfile.mkdtemp(prefix="fuzz-", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None)
)


def _read(name: str, data: bytes) -> None:
    from voltscreen.sources.files import read_structure

    path = _FOLDER / name
    path.write_bytes(data)
    try:
        packed = read_structure(path)
    except VoltscreenError as error:
        _one_sentence(error)
        return
    _whole(packed)


def _whole(packed: object) -> None:
    """What was read must be a structure that the next room can take."""
    from voltscreen.structures import PackedStructure

    assert isinstance(packed, PackedStructure)
    assert PackedStructure.from_bytes(packed.to_bytes()) == packed
    assert len(packed.content_hash) == 32
    assert packed.formula


def _one_sentence(error: VoltscreenError) -> None:
    text = str(error)
    assert text
    assert len(text) < 1500, f"{len(text)} characters of error"


def cif(data: bytes) -> None:
    _read("a.cif", data)


def poscar(data: bytes) -> None:
    _read("POSCAR", data)


def json_structure(data: bytes) -> None:
    _read("a.json", data)


def parquet(data: bytes) -> None:
    """The first byte chooses: damage a table's bytes, or make a table of the fuzzer's values."""
    from voltscreen.sources import candidates
    from voltscreen.structures import Refused

    path = _FOLDER / "a.parquet"
    path.write_bytes(_table(data[1:]) if data[:1] < b"\x80" else data[1:])
    try:
        for item in candidates("parquet", {"path": str(path)}, _FOLDER):
            if not isinstance(item, Refused):
                _whole(item.structure)
    except VoltscreenError as error:
        _one_sentence(error)


def _table(data: bytes) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet

    kinds = (pa.list_(pa.float64()), pa.list_(pa.int64()), pa.float64(), pa.string(),
             pa.list_(pa.float32()), pa.binary(), pa.list_(pa.list_(pa.float64())))  # fmt: skip
    data = data.ljust(8, b"\0")
    n = len(data) // 8
    numbers = list(struct.unpack(f"<{n}d", data[: 8 * n]))
    whole = [min(abs(x), 1e18) if math.isfinite(x) else 0 for x in numbers]
    columns = {}
    for index, name in enumerate(("id", "lattice", "atomic_numbers", "frac_coords")):
        # Right types mostly; a set bit of the first byte takes the type of the next.
        usual = (3, 0, 1, 0)[index]
        kind = kinds[data[index] % 7] if data[0] >> index & 1 else kinds[usual]
        columns[name] = pa.array([_value(kind, numbers, whole)] * 2, type=kind)
    out = io.BytesIO()
    pyarrow.parquet.write_table(pa.table(columns), out)
    return out.getvalue()


def _value(kind: object, numbers: list[float], whole: list[float]) -> object:
    text = str(kind)
    if text == "string":
        return "a"
    if text == "binary":
        return b"abc"
    if text.startswith(("list<element: list", "list<item: list")):
        return [numbers[:3]]
    if text.startswith("list"):
        return [int(x) % 200 for x in whole] if "int" in text else numbers
    return numbers[0]


def spec(data: bytes) -> None:
    from voltscreen.campaign.spec import load_spec

    path = _FOLDER / "a.yaml"
    path.write_bytes(data)
    try:
        loaded = load_spec(path)
    except VoltscreenError as error:
        _one_sentence(error)
        return
    json.dumps(loaded.canonical())
    assert len(loaded.hash) == 32


def checkpoint(data: bytes) -> None:
    """The first byte chooses: the bytes as they are, or as the pickle of a torch archive."""
    from voltscreen.model.element_table import build_element_table
    from voltscreen.model.paper_checkpoint import import_checkpoint

    path = _FOLDER / "a.pth.tar"
    path.write_bytes(_archive(data[1:]) if data[:1] < b"\x80" else data[1:])
    try:
        import_checkpoint(path, build_element_table(), "Mg", "x")
    except VoltscreenError as error:
        _one_sentence(error)


def _archive(pickled: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/version", b"3\n")
        archive.writestr("archive/data/0", b"\0" * 256)
    return out.getvalue()


TARGETS: dict[str, Callable[[bytes], None]] = {
    "cif": cif,
    "poscar": poscar,
    "json": json_structure,
    "parquet": parquet,
    "spec": spec,
    "checkpoint": checkpoint,
}

CIF = b"""data_MnO
_symmetry_space_group_name_H-M 'P 1'
_cell_length_a 4.2
_cell_length_b 4.2
_cell_length_c 4.2
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_symmetry_Int_Tables_number 1
loop_
_symmetry_equiv_pos_as_xyz
'x, y, z'
'-x, y+1/2, z'
loop_
_atom_site_type_symbol
_atom_site_label
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
Mn2+ Mn0 0.0 0.0 0.0 1
O2- O1 0.5 0.5 0.5 1
"""
POSCAR = b"MnO\n1.0\n4.2 0 0\n0 4.2 0\n0 0 4.2\nMn O\n1 1\ndirect\n0 0 0 Mn\n.5 .5 .5 O\n"
JSON = json.dumps({
    "@module": "pymatgen.core.structure", "@class": "Structure", "charge": 0,
    "lattice": {"matrix": [[4.2, 0, 0], [0, 4.2, 0], [0, 0, 4.2]]},
    "sites": [{"species": [{"element": "Mn", "occu": 1}], "abc": [0, 0, 0], "properties": {}},
              {"species": [{"element": "O", "occu": 1}], "abc": [0.5, 0.5, 0.5]}],
}).encode()  # fmt: skip
SPEC = b"""name: mg-oxides
ions: [Mg, Ca]
source: {files: [hosts/*.cif, a.cif]}
model: default
batch: {max_atoms: 100000}
rank: {voltage: [2.0, 4.0], max_interval_width: 2.0, top: 10}
"""

_FILES = b"{files: [hosts/*.cif, a.cif]}"
_ROW = struct.pack("<9d", 4, 0, 0, 0, 4, 0, 0, 0, 4)

SEEDS: dict[str, list[bytes]] = {
    "cif": [CIF, CIF.replace(b"'P 1'", b"'Fm-3m'").replace(b" 1\nloop_", b" 225\nloop_")],
    "poscar": [
        POSCAR,
        POSCAR.replace(b"direct", b"Selective\ncart"),
        POSCAR.replace(b"1.0", b"-9"),
    ],
    "json": [JSON, b'{"structure": ' + JSON + b"}"],
    "parquet": [
        b"\0" + _ROW,
        b"\xff" + _table(b"\0" * 72),
        b"\0\x0f" + bytes(range(100)),
    ],
    "spec": [
        SPEC,
        SPEC.replace(_FILES, b"{mp: {elements: [O], num_sites: [1, 9]}}"),
        SPEC.replace(_FILES, b"{parquet: {path: a, start: 1}}"),
    ],
    "checkpoint": [
        b"\0" + pickle.dumps({"state_dict": {"embedding.weight": 1}, "normalizer": {"mean": 0}}),
        b"\xff" + _archive(pickle.dumps({"state_dict": {}, "normalizer": {"mean": 1, "std": 1}})),
        b"\0" + pickle.dumps(os.getcwd),
    ],
}

WORDS: dict[str, list[str]] = {
    "cif": ["_atom_site_fract_x", "loop_", "data_", "_symmetry_equiv_pos_as_xyz", "nan", "1e308",
            "_cell_length_a", "'x, y, z'", "Fm-3m", ";", "_space_group_name_Hall", "D", "Wat", "OH",
            "_atom_site_attached_hydrogens", "_symmetry_Int_Tables_number", "(3)", "?", "-"],
    "poscar": ["Selective dynamics", "Cartesian", "direct", "nan", "inf", "1e308", "-1", "T F T",
               "Mn_pv/f474ac0d", "99999999"],
    "json": ["@module", "@class", "species", "element", "occu", "abc", "lattice", "matrix", "NaN",
             "Infinity", "1e999", "null", "sites", "[[[[", "D"],
    "parquet": ["PAR1"],
    "spec": ["!!python/object", "&a", "*a", "<<: *a", "[*a, *a]", "files:", "parquet:", "mp:",
             "hosts: all", "start:", "rank:", "refine:", "substitute:", "1e999", ".nan", "../"],
    "checkpoint": ["state_dict", "normalizer", "cos\\x0asystem\\x0a", "ctorch._utils\\x0a",
                   "_rebuild_tensor_v2"],
}  # fmt: skip
