"""The ten working ions, their charges and how users name them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from voltscreen.errors import VoltscreenError


@dataclass(frozen=True, slots=True)
class WorkingIon:
    """An ion that is inserted into a host.

    symbol: element symbol; atomic_number: Z; charge: z in elementary charges; radius: Shannon's
    ionic radius in six-fold coordination, angstrom (Acta Cryst. A 32, 751, 1976);
    standard_potential: of the metal against the hydrogen electrode, V (CRC Handbook);
    electronegativity: Pauling's.
    """

    symbol: str
    atomic_number: int
    charge: int
    radius: float
    standard_potential: float
    electronegativity: float


WORKING_IONS: dict[str, WorkingIon] = {
    ion.symbol: ion
    for ion in (
        WorkingIon("Li", 3, 1, 0.76, -3.04, 0.98),
        WorkingIon("Na", 11, 1, 1.02, -2.71, 0.93),
        WorkingIon("K", 19, 1, 1.38, -2.93, 0.82),
        WorkingIon("Rb", 37, 1, 1.52, -2.98, 0.82),
        WorkingIon("Cs", 55, 1, 1.67, -3.03, 0.79),
        WorkingIon("Mg", 12, 2, 0.72, -2.37, 1.31),
        WorkingIon("Ca", 20, 2, 1.00, -2.87, 1.00),
        WorkingIon("Zn", 30, 2, 0.74, -0.76, 1.65),
        WorkingIon("Al", 13, 3, 0.535, -1.66, 1.61),
        WorkingIon("Y", 39, 3, 0.90, -2.37, 1.22),
    )
}
ION_SYMBOLS: tuple[str, ...] = tuple(WORKING_IONS)


def working_ion(symbol: str) -> WorkingIon:
    """The working ion of that element symbol.

    Raises:
        VoltscreenError: not one of the ten.
    """
    try:
        return WORKING_IONS[symbol]
    except KeyError:
        raise VoltscreenError(
            f"unknown working ion {symbol!r}: choose from {', '.join(ION_SYMBOLS)}"
        ) from None


def parse_ions(symbols: Iterable[str]) -> tuple[str, ...]:
    """Symbols in the order given, each once; commas inside an item separate symbols.

    Raises:
        VoltscreenError: a symbol that is not a working ion.
    """
    wanted = [part.strip() for item in symbols for part in item.split(",") if part.strip()]
    return tuple(dict.fromkeys(working_ion(symbol).symbol for symbol in wanted))
