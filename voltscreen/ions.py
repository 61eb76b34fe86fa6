"""The ten working ions, their charges and how users name them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from voltscreen.errors import VoltscreenError


@dataclass(frozen=True, slots=True)
class WorkingIon:
    """An ion that is inserted into a host.

    symbol: element symbol; atomic_number: Z; charge: z in elementary charges.
    """

    symbol: str
    atomic_number: int
    charge: int


WORKING_IONS: dict[str, WorkingIon] = {
    ion.symbol: ion
    for ion in (
        WorkingIon("Li", 3, 1),
        WorkingIon("Na", 11, 1),
        WorkingIon("K", 19, 1),
        WorkingIon("Rb", 37, 1),
        WorkingIon("Cs", 55, 1),
        WorkingIon("Mg", 12, 2),
        WorkingIon("Ca", 20, 2),
        WorkingIon("Zn", 30, 2),
        WorkingIon("Al", 13, 3),
        WorkingIon("Y", 39, 3),
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
