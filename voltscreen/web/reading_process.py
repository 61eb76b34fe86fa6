"""The process that reads uploads: `python -m voltscreen.web.reading_process`.

It reads [name, text] as JSON from standard input and writes a letter and what it stands for: the
bytes of a packed structure, or a sentence. It ends with its input.
"""

from __future__ import annotations

import json
import os
import struct
import sys
from typing import IO

MAX_ATOMS = 600
"""Atoms of one cell; beyond, a prediction takes longer than a page should."""
MEMORY = 3 * 2**30
"""Bytes of address space."""
STRUCTURE, NO_STRUCTURE, NO_FILE, READY = b"S", b"s", b"f", b"r"
_ROCK_SALT = """data_x
_symmetry_space_group_name_H-M 'F m -3 m'
_cell_length_a 4.2
_cell_length_b 4.2
_cell_length_c 4.2
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
loop_
_atom_site_label
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
Mn1 0 0 0
O1 0.5 0.5 0.5
"""
_LENGTH = struct.Struct("<I")


def put(pipe: IO[bytes], message: bytes) -> None:
    """Write a message with its length before it."""
    pipe.write(_LENGTH.pack(len(message)) + message)
    pipe.flush()


def take(pipe: IO[bytes]) -> bytes | None:
    """Read a message; None where the other end is gone."""
    head = pipe.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack(head)
    message = pipe.read(length)
    return message if len(message) == length else None


def main() -> None:
    """Answer until the input ends."""
    import resource

    # What libraries print must not mix with the answers.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    # What the first file would wait for is loaded and tried before.
    _answer("warm.cif", _ROCK_SALT)
    _answer("POSCAR", "")
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    put(answers, READY)
    while (request := take(sys.stdin.buffer)) is not None:
        name, text = json.loads(request)
        put(answers, _answer(name, text))


def _answer(name: str, text: str) -> bytes:
    from pathlib import Path

    from voltscreen.errors import StructureError, VoltscreenError
    from voltscreen.sources.files import parse_structure

    try:
        structure = parse_structure(text, Path(name))
    except StructureError as error:
        return NO_STRUCTURE + str(error).encode()
    except (VoltscreenError, MemoryError, RecursionError) as error:
        return NO_FILE + (str(error) or f"{name} takes too much memory to read").encode()
    if len(structure) > MAX_ATOMS:
        reason = f"{len(structure):,} atoms are too many here: at most {MAX_ATOMS}"
        return NO_STRUCTURE + reason.encode()
    return STRUCTURE + structure.to_bytes()


if __name__ == "__main__":
    main()
