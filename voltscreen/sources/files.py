"""Structure files: CIF, POSCAR and pymatgen JSON."""

from __future__ import annotations

import glob
import json
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from voltscreen.errors import FileFormatError, SpecError, StructureError, VoltscreenError
from voltscreen.sources.costly import refuse_costly_cif, refuse_costly_poscar
from voltscreen.structures import (
    Candidate,
    PackedStructure,
    Refused,
    SourceRef,
    refuse_overlap,
)
from voltscreen.structures.plain_dict import from_plain_dict

MAX_FILE_BYTES = 6_000_000
"""A larger file is not one crystal's."""
SUFFIXES = (".cif", ".vasp", ".poscar", ".json")


def find_files(value: object, base: Path) -> list[Path]:
    """The files that one or more globs name, sorted, each once.

    Raises:
        SpecError: not a string or a list of strings, or no file matches.
    """
    patterns = [value] if isinstance(value, str) else value
    if not isinstance(patterns, Sequence) or not all(isinstance(p, str) for p in patterns):
        raise SpecError("source.files: give a path, a glob such as hosts/*.cif, or a list of them")
    found: dict[Path, None] = {}
    for pattern in patterns:
        matches = sorted(glob.glob(str(base / Path(pattern).expanduser()), recursive=True))  # noqa: PTH207
        paths = [Path(match) for match in matches if Path(match).is_file()]
        if not paths:
            raise SpecError(f"source.files: no file matches {pattern!r} in {base}")
        found.update(dict.fromkeys(paths))
    return list(found)


def read_files(paths: Sequence[Path]) -> Iterator[Candidate | Refused]:
    """Each file as a candidate named by its file name, or refused with the reason."""
    for path in paths:
        ref = SourceRef("files", path.name)
        try:
            structure = read_structure(path)
        except VoltscreenError as error:
            yield Refused(ref, str(error))
        else:
            yield Candidate(structure, ref, label=path.stem)


def read_structure(path: Path) -> PackedStructure:
    """The one structure of a CIF, POSCAR (by name or .vasp) or pymatgen JSON file.

    Raises:
        FileFormatError: missing, too large, not such a file, or of an unknown kind.
        StructureError: read, but not a structure that can be predicted.
    """
    try:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise FileFormatError(
                f"file too large: {path} has {size / 1e6:.0f} MB, more than one structure can "
                f"need (limit {MAX_FILE_BYTES / 1e6:.0f} MB)"
            )
        # A character that is not UTF-8 stands in a comment or a name: it changes no number.
        text = path.read_text(encoding="utf-8-sig", errors="replace")
    except OSError as error:
        raise FileFormatError(f"cannot read {path}: {error.strerror}") from None
    return parse_structure(text, path)


def parse_structure(text: str, path: Path) -> PackedStructure:
    """The one structure of a file's text; the path says what kind it is, and is not opened.

    Raises:
        FileFormatError: not such a file, or of an unknown kind.
        StructureError: read, but not a structure that can be predicted.
    """
    packed = _parse(text, path)
    refuse_overlap(packed)
    return packed


def _parse(text: str, path: Path) -> PackedStructure:
    parse = _parser(path)
    with warnings.catch_warnings():
        # Parsers warn of everything they round or guess; what matters is checked afterwards.
        warnings.simplefilter("ignore")
        try:
            return parse(text)
        except StructureError:
            raise
        except Exception as error:  # noqa: BLE001 - parsers of foreign text raise anything
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise FileFormatError(f"not a readable structure: {path}: {reason}") from None


def _parser(path: Path) -> Callable[[str], PackedStructure]:
    name = path.name.lower()
    if name.endswith(".cif"):
        return _parse_cif
    if name.endswith(".json"):
        return _parse_json
    if name.endswith((".vasp", ".poscar")) or name.startswith(("poscar", "contcar")):
        return _parse_poscar
    raise FileFormatError(
        f"unknown kind of file: {path}; known are {', '.join(SUFFIXES)} and POSCAR or CONTCAR"
    )


def _parse_cif(text: str) -> PackedStructure:
    from pymatgen.io.cif import CifParser

    refuse_costly_cif(text)
    structure = CifParser.from_str(text).parse_structures(primitive=False)[0]
    return PackedStructure.from_pymatgen(structure)


def _parse_json(text: str) -> PackedStructure:
    return from_plain_dict(_structure_dict(json.loads(text)))


def _parse_poscar(text: str) -> PackedStructure:
    from pymatgen.io.vasp import Poscar

    refuse_costly_poscar(text)
    return PackedStructure.from_pymatgen(Poscar.from_str(text).structure)


def _structure_dict(data: object) -> dict[str, Any]:
    """The structure inside a JSON document, also where it is one field of it."""
    if isinstance(data, dict) and "lattice" in data:
        return data
    if isinstance(data, dict) and isinstance(data.get("structure"), dict):
        return dict(data["structure"])
    raise ValueError("no pymatgen structure in it (keys 'lattice' and 'sites')")
