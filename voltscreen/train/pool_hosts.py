"""Which structures of a pool to label with insertion energies, so that a trunk can learn them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from voltscreen.errors import FileFormatError
from voltscreen.ions import ION_SYMBOLS, WORKING_IONS
from voltscreen.structures.packed import MAX_ATOMIC_NUMBER, element_symbol

MAX_ATOMS = 40
SEED = 7
REDOX = frozenset(
    "Ti V Cr Mn Fe Co Ni Cu Zr Nb Mo Ru Rh Pd Ag Sn Sb Ce Hf Ta W Re Os Ir Pt Bi".split()
)
ANIONS = frozenset("N O F S Cl Se".split())
LEFT_OUT = frozenset(
    "He Ne Ar Kr Tc Xe Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu Hg Tl Pb".split()
) | {element_symbol(number) for number in range(84, MAX_ATOMIC_NUMBER + 1)}
"""Elements of no electrode, and those whose f electrons the potential knows least."""
SHARE_EMPTIED = 0.6
"""Of the structures that hold working ions, so many lose one of the ions' elements."""


@dataclass(frozen=True, slots=True)
class PoolHost:
    """A structure of the pool by its id, and the working ion to take out of it, or an empty str."""

    host_id: str
    removed: str


def choose_hosts(
    pool: Path, labelled: list[NDArray[np.uint8]], max_atoms: int = MAX_ATOMS
) -> list[PoolHost]:
    """Hosts to label, in random order with a fixed seed.

    A host has at most `max_atoms` atoms, a redox element, an anion, two elements besides working
    ions, and no element that is left out. None has the chemical system (working ions apart) of a
    labelled electrode: what a trunk learns from these hosts tells it nothing about held-out
    electrodes that another trunk could not know.

    Args:
        pool: Parquet with material_id and atomic_numbers. labelled: atomic numbers of the
        structures of labelled electrodes, charged and discharged.

    Raises:
        FileFormatError: the pool cannot be read.
    """
    known = {_system(_symbols(numbers)) for numbers in labelled}
    rng = random.Random(SEED)  # noqa: S311 - a draw, not a secret
    chosen = [
        (host_id, numbers)
        for host_id, numbers in _pool(pool)
        if len(numbers) <= max_atoms and _is_useful(_symbols(numbers), known)
    ]
    rng.shuffle(chosen)
    return [PoolHost(host_id, _emptied(numbers, rng)) for host_id, numbers in chosen]


def choose_with_ions(pool: Path, max_atoms: int = MAX_ATOMS) -> list[str]:
    """Ids of the structures that hold a working ion and otherwise are such hosts, of any system.

    In the order of the pool.

    Raises:
        FileFormatError: the pool cannot be read.
    """
    return [
        structure_id
        for structure_id, numbers in _pool(pool)
        if len(numbers) <= max_atoms
        and not _symbols(numbers).isdisjoint(WORKING_IONS)
        and _is_useful(_symbols(numbers), set())
    ]


def _pool(pool: Path) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(pool, columns=["material_id", "atomic_numbers"])
    except (OSError, pa.ArrowException) as error:
        raise FileFormatError(f"cannot read the pool {pool}: {error}") from None
    numbers = table["atomic_numbers"].combine_chunks()
    offsets, values = numbers.offsets.to_numpy(), numbers.values.to_numpy()
    for host_id, first, last in zip(
        table["material_id"].to_pylist(), offsets, offsets[1:], strict=False
    ):
        yield host_id, values[first:last]


def _symbols(numbers: NDArray[np.uint8]) -> frozenset[str]:
    return frozenset(element_symbol(int(z)) for z in set(numbers.tolist()))


def _system(symbols: frozenset[str]) -> frozenset[str]:
    return symbols.difference(WORKING_IONS)


def _is_useful(symbols: frozenset[str], known: set[frozenset[str]]) -> bool:
    system = _system(symbols)
    return bool(
        symbols & REDOX
        and symbols & ANIONS
        and not symbols & LEFT_OUT
        and len(system) >= 2
        and system not in known
    )


def _emptied(numbers: NDArray[np.uint8], rng: random.Random) -> str:
    """The working ion to take out, drawn among the structure's; mostly none."""
    present = sorted(WORKING_IONS[ion].atomic_number for ion in ION_SYMBOLS if _holds(numbers, ion))
    if not present or rng.random() >= SHARE_EMPTIED:
        return ""
    number = rng.choice(present)
    return element_symbol(number) if (numbers != number).sum() >= 2 else ""


def _holds(numbers: NDArray[np.uint8], ion: str) -> bool:
    return bool((numbers == WORKING_IONS[ion].atomic_number).any())
