"""What a second look costs: CPU time of one core for each kind of work, by CHGNet.

    python benchmarks/insertion_energies.py --pool ../shared/data/mp_pool.parquet

Hosts are the first structures of a table with as many atoms as asked for, a redox metal and
oxygen; without a table the known hosts. On a machine that other work keeps busy a core does about
half as much in a second of CPU time.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from voltscreen.campaign.refine import ion_limit
from voltscreen.cli.output import number, print_table
from voltscreen.ions import ION_SYMBOLS
from voltscreen.potentials.chgnet import ChgnetPotential
from voltscreen.potentials.insertion import insertion_energies, largest_void
from voltscreen.potentials.metals import metal_energy
from voltscreen.potentials.refinement import look
from voltscreen.potentials.relaxation import RelaxOptions, relax
from voltscreen.potentials.short_look import SHORT_STEPS, short_looks
from voltscreen.screening import reducible_charge
from voltscreen.sources import candidates
from voltscreen.structures import Candidate, PackedStructure

OXYGEN = 8


@dataclass(frozen=True)
class Cost:
    """count: of what was done. seconds: of CPU time, together."""

    what: str
    count: int
    seconds: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pool", type=Path)
    parser.add_argument("--atoms", type=int, default=20)
    parser.add_argument("--hosts", type=int, default=12)
    parser.add_argument("--looks", type=int, default=4, help="hosts that are relaxed")
    options = parser.parse_args()
    torch.set_num_threads(1)
    hosts = _hosts(options.pool, options.atoms, options.hosts)
    few = hosts[: options.looks]
    potential = ChgnetPotential("cpu")
    insertion_energies(potential, hosts[0], ION_SYMBOLS)
    for ion in ION_SYMBOLS:
        metal_energy(potential, ion)
    costs = [
        _cost(
            "insertion energy, ten ions a host", len(hosts) * len(ION_SYMBOLS),
            lambda: [insertion_energies(potential, host, ION_SYMBOLS) for host in hosts],
        ),
        _cost(
            "insertion energy, one ion a host", len(hosts),
            lambda: [insertion_energies(potential, host, ["Mg"]) for host in hosts],
        ),
        _cost(
            f"short look, {SHORT_STEPS} force evaluations", len(few),
            lambda: [short_looks(potential, host, ["Mg"]) for host in few],
        ),
        _cost(
            "relaxation of a host, 0.1 eV/angstrom", len(few),
            lambda: [relax(potential, [host], RelaxOptions(100, 0.1)) for host in few],
        ),
        _cost(
            "second look at a host and an ion", len(few),
            lambda: [look(potential, host, "Mg", ion_limit(host, "Mg")) for host in few],
        ),
    ]  # fmt: skip
    atoms = sum(map(len, hosts)) / len(hosts)
    print_table(
        ["One core", ("done", "right"), ("s each", "right"), ("a minute", "right")],
        [
            [one.what, one.count, number(one.seconds / one.count, 3),
             number(60 * one.count / one.seconds, 0 if one.seconds < one.count else 1)]
            for one in costs
        ],
        title=f"{len(hosts)} hosts of {atoms:.1f} atoms on average, {potential.label}, CPU time",
    )  # fmt: skip


def _cost(what: str, count: int, work: Callable[[], object]) -> Cost:
    started = time.process_time()
    work()
    return Cost(what, count, time.process_time() - started)


def _hosts(pool: Path | None, atoms: int, count: int) -> list[PackedStructure]:
    kind, value = ("hosts", "all") if pool is None else ("parquet", str(pool))
    found: list[PackedStructure] = []
    for item in candidates(kind, value, Path.cwd()):
        if isinstance(item, Candidate) and _is_host(item.structure, atoms):
            found.append(item.structure)
            if len(found) == count:
                break
    return found


def _is_host(structure: PackedStructure, atoms: int) -> bool:
    if len(structure) != atoms or OXYGEN not in structure.atomic_numbers:
        return False
    if set(ION_SYMBOLS) & set(structure.element_counts):
        return False
    return bool(reducible_charge(structure.element_counts)) and largest_void(structure) is not None


if __name__ == "__main__":
    main()
