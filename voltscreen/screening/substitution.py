"""Element substitutions in a host: where the voltage is low, what may stand there instead.

`propose` names them from the host's local voltages; `substitute` makes the new crystal. Both work
on plain objects; scoring the new crystals is the caller's.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from voltscreen.errors import StructureError
from voltscreen.screening.oxidation import (
    family,
    formal_states,
    ionic_radius,
    is_framework,
    is_redox_active,
    substitution_probability,
)
from voltscreen.structures import PackedStructure, refuse_overlap
from voltscreen.structures.packed import element_symbol

ElementVoltages = Mapping[tuple[str, bool], tuple[float, int]]
"""By (element, oxygen environment): median local voltage in V, and number of sites."""


class SubstituteSpec(BaseModel):
    """How substitutions are looked for: the `substitute` part of a campaign spec."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    top: int = Field(default=20, ge=1, le=10_000, description="best candidates to start from")
    suggestions: int = Field(default=5, ge=1, le=100, description="for each of them")
    min_probability: float = Field(
        default=0.001, ge=0, le=1, description="Hautier's, for each swapped element"
    )
    radius_tolerance: float = Field(
        default=0.25, ge=0, le=1, description="relative difference of ionic radii"
    )
    min_sites: int = Field(
        default=10, ge=1, description="local voltages that an element's median must rest on"
    )
    partial: bool = Field(default=True, description="also swap half of the sites, in order")
    max_atoms: int = Field(default=200, ge=1, description="of a supercell for a partial swap")
    generations: int = Field(
        default=1, ge=1, le=10,
        description="rounds; what improves beyond its interval is the next round's parent",
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Swap:
    """One element for another on some sites.

    old, new: element symbols. sites: indices in the host (or its supercell). probability: of the
    exchange, 0 to 1.
    """

    old: str
    new: str
    sites: tuple[int, ...]
    probability: float


@dataclass(frozen=True, slots=True)
class Proposal:
    """A substitution of a host.

    swaps: the wanted one, then a compensating one where neutrality needs it.
    multiples: supercell of the host that the sites count in; (1, 1, 1) is the host itself.
    fraction: share of the old element's sites in that environment that is swapped.
    balanced: whether formal states make the new cell neutral.
    """

    swaps: tuple[Swap, ...]
    multiples: tuple[int, int, int]
    fraction: float
    balanced: bool

    @property
    def name(self) -> str:
        """Such as `Mn>Co`, `Mn>Co(1/2)` or `Al>Zn+Ti>V`."""
        part = "" if self.fraction == 1 else "(1/2)"
        return "+".join(
            f"{swap.old}>{swap.new}{part if i == 0 else ''}" for i, swap in enumerate(self.swaps)
        )

    @property
    def probability(self) -> float:
        """Product over the swaps, 0 to 1."""
        return math.prod(swap.probability for swap in self.swaps)


def propose(
    host: PackedStructure,
    ion: str,
    local: NDArray[np.floating],
    oxygen: NDArray[np.bool_],
    voltages: ElementVoltages,
    spec: SubstituteSpec,
) -> list[Proposal]:
    """Substitutions for the host's sites of lowest local voltage, most promising first.

    Args:
        local: (n_atoms,) local voltages, V. oxygen: (n_atoms,) whether in an oxygen environment.
        voltages: medians of many hosts, from which substitutes are chosen.
    """
    states = formal_states(host.element_counts)
    if states is None:
        return []
    found: list[tuple[float, Proposal]] = []
    for old, where, sites in _targets(host, ion, local, oxygen):
        here = float(local[list(sites)].mean())
        for new, median in _substitutes(old, where, ion, here, voltages, spec):
            for proposal in _proposals(host, old, new, sites, states, ion, spec):
                share = len(sites) / len(host) * proposal.fraction
                found.append(((median - here) * share, proposal))
    # What cannot be neutral is kept on record, but takes no place of what can.
    found.sort(key=lambda pair: (not pair[1].balanced, -pair[0], pair[1].name))
    return [proposal for _, proposal in found[: spec.suggestions]]


def why_none(
    host: PackedStructure,
    ion: str,
    local: NDArray[np.floating],
    oxygen: NDArray[np.bool_],
    voltages: ElementVoltages,
    spec: SubstituteSpec,
) -> str:
    """Why `propose` has nothing for a host, in a few words; arguments as there."""
    if formal_states(host.element_counts) is None:
        return "no formal states make it neutral"
    targets = _targets(host, ion, local, oxygen)
    if not targets:
        return "all its sites are anions, centres of polyanions or the ion"
    higher = [
        f"{old}>{new}"
        for old, where, sites in targets
        for new, _ in _substitutes(
            old, where, ion, float(local[list(sites)].mean()), voltages, spec
        )
    ]
    if not higher:
        names = ", ".join(dict.fromkeys(old for old, _, _ in targets))
        return f"no kin of {names} carries more in that environment"
    shown = ", ".join(higher[:3]) + (" ..." if len(higher) > 3 else "")
    return f"radius, probability or redox speak against {shown}"


def _targets(
    host: PackedStructure, ion: str, local: NDArray[np.floating], oxygen: NDArray[np.bool_]
) -> list[tuple[str, bool, tuple[int, ...]]]:
    """Groups of sites that may be swapped, by rising local voltage; the lower half of them."""
    groups: dict[tuple[str, bool], list[int]] = {}
    for site, symbol in enumerate(host.symbols):
        if symbol != ion and not is_framework(symbol, host.element_counts):
            groups.setdefault((symbol, bool(oxygen[site])), []).append(site)
    ordered = sorted(groups.items(), key=lambda item: float(local[item[1]].mean()))
    return [(*key, tuple(sites)) for key, sites in ordered[: math.ceil(len(ordered) / 2)]]


def _substitutes(
    old: str,
    where: bool,
    ion: str,
    here: float,
    voltages: ElementVoltages,
    spec: SubstituteSpec,
) -> list[tuple[str, float]]:
    """Elements of the same family and environment with a higher median, highest first."""
    kin = family(old)
    rows = [
        (symbol, median)
        for (symbol, environment), (median, count) in voltages.items()
        if environment == where and count >= spec.min_sites and median > here
        and symbol not in (old, ion) and family(symbol) == kin
    ]  # fmt: skip
    return sorted(rows, key=lambda row: (-row[1], row[0]))


def _proposals(
    host: PackedStructure,
    old: str,
    new: str,
    sites: tuple[int, ...],
    states: Mapping[str, float],
    ion: str,
    spec: SubstituteSpec,
) -> list[Proposal]:
    """The full swap and the partial one, those that pass every judgement but balance."""
    variants = [((1, 1, 1), sites, 1.0)]
    if spec.partial and (half := _half(host, sites, spec.max_atoms)):
        variants.append((*half, 0.5))
    found = []
    for multiples, chosen, fraction in variants:
        counts = {s: n * math.prod(multiples) for s, n in host.element_counts.items()}
        after = _exchanged(counts, old, new, len(chosen))
        swap = _judged(old, new, chosen, states, formal_states(after), spec)
        if swap is None or not any(is_redox_active(symbol) for symbol in after):
            continue
        swaps: tuple[Swap, ...] = (swap,)
        balanced = formal_states(after) is not None
        if not balanced:
            supercell = _supercell(host, multiples)
            partner = _compensation(supercell, after, swap, states, ion, spec)
            if partner is not None:
                swaps, balanced = (swap, partner), True
        found.append(Proposal(swaps, multiples, fraction, balanced))
    return found


def _judged(
    old: str,
    new: str,
    sites: tuple[int, ...],
    before: Mapping[str, float],
    after: Mapping[str, float] | None,
    spec: SubstituteSpec,
) -> Swap | None:
    """The swap with its probability, or None where radius or probability speak against it."""
    state = (after or {}).get(new, before[old])
    small, large = sorted((ionic_radius(old, round(before[old])), ionic_radius(new, round(state))))
    if large == 0 or large - small > spec.radius_tolerance * large:
        return None
    probability = substitution_probability(old, new, before[old], state)
    return Swap(old, new, sites, probability) if probability >= spec.min_probability else None


def _compensation(
    cell: PackedStructure,
    after: Mapping[str, int],
    first: Swap,
    states: Mapping[str, float],
    ion: str,
    spec: SubstituteSpec,
) -> Swap | None:
    """The most probable second swap that makes the cell neutral again."""
    partners = []
    for old in after:
        if old in (first.old, first.new, ion) or is_framework(old, after) or old not in states:
            continue
        sites = tuple(site for site, symbol in enumerate(cell.symbols) if symbol == old)
        for new in _PARTNERS:
            counts = _exchanged(after, old, new, len(sites))
            balance = formal_states(counts)
            redox = any(is_redox_active(symbol) for symbol in counts)
            if new in (old, ion, first.old) or balance is None or not redox:
                continue
            if swap := _judged(old, new, sites, states, balance, spec):
                partners.append(swap)
    return max(partners, key=lambda swap: (swap.probability, swap.new), default=None)


_PARTNERS = (
    "Li Na K Rb Cs Mg Ca Sr Ba Zn Cd Al Ga In Sc Y La Ti Zr Hf Sn V Nb Ta Sb Cr Mo W Mn Fe Co Ni Cu"
).split()
"""Cations by which charge is usually compensated."""


def _exchanged(counts: Mapping[str, int], old: str, new: str, number: int) -> dict[str, int]:
    changed = dict(counts)
    changed[old] -= number
    changed[new] = changed.get(new, 0) + number
    return {symbol: n for symbol, n in changed.items() if n}


def _half(
    host: PackedStructure, sites: tuple[int, ...], max_atoms: int
) -> tuple[tuple[int, int, int], tuple[int, ...]] | None:
    """Half of the sites, far from each other, in the host or a double of it; None if too large."""
    multiples = (1, 1, 1)
    if len(sites) % 2:
        axis = int(np.argmin(np.linalg.norm(host.lattice, axis=1)))
        multiples = tuple(2 if i == axis else 1 for i in range(3))  # type: ignore[assignment]
    if len(host) * math.prod(multiples) > max_atoms:
        return None
    cell = _supercell(host, multiples)
    images = math.prod(multiples)
    every = [site + image * len(host) for image in range(images) for site in sites]
    return multiples, tuple(sorted(_spread(cell, every, len(every) // 2)))


def _spread(cell: PackedStructure, sites: Sequence[int], count: int) -> list[int]:
    """So many of the sites, each the farthest from those taken before; the first of equals."""
    distances = cell.to_pymatgen().distance_matrix
    taken = [sites[0]]
    while len(taken) < count:
        rest = [site for site in sites if site not in taken]
        taken.append(max(rest, key=lambda s: (round(float(distances[s, taken].min()), 3), -s)))
    return taken


def _supercell(host: PackedStructure, multiples: tuple[int, int, int]) -> PackedStructure:
    """The host repeated: image after image, each in the host's order of sites."""
    if multiples == (1, 1, 1):
        return host
    shifts = np.array(list(np.ndindex(*multiples)))
    coords = (host.frac_coords[None, :, :] + shifts[:, None, :]) / np.array(multiples)
    return PackedStructure.from_arrays(
        host.lattice * np.array(multiples)[:, None],
        coords.reshape(-1, 3),
        np.tile(host.atomic_numbers, len(shifts)),
    )


def substitute(host: PackedStructure, proposal: Proposal) -> PackedStructure:
    """The host with the elements exchanged, in the order of its sites and with a new volume.

    Raises:
        StructureError: atoms overlap in the new cell, or a site does not hold the old element.
    """
    cell = _supercell(host, proposal.multiples)
    scale = 1.0
    for swap in proposal.swaps:
        cell, factor = _exchange(cell, swap)
        scale *= factor
    new = PackedStructure.from_arrays(
        cell.lattice * scale ** (1 / 3), cell.frac_coords, cell.atomic_numbers
    )
    refuse_overlap(new)
    if not new.to_pymatgen().is_valid(tol=_SHORTEST):
        raise StructureError(f"atoms of {new.formula} are closer than {_SHORTEST:g} angstrom")
    return new


_SHORTEST = 1.0
"""Angstrom; no two heavy atoms of an electrode are that close."""


def _exchange(cell: PackedStructure, swap: Swap) -> tuple[PackedStructure, float]:
    """The cell with one swap made at its old volume, and the predicted ratio of volumes."""
    from pymatgen.core import Element

    numbers = cell.atomic_numbers.copy()
    sites = list(swap.sites)
    if any(element_symbol(int(z)) != swap.old for z in numbers[sites]):
        raise StructureError(f"a site of the swap {swap.old}>{swap.new} does not hold {swap.old}")
    numbers[sites] = Element(swap.new).Z
    exchanged = PackedStructure.from_arrays(cell.lattice, cell.frac_coords, numbers)
    share = len(sites) / sum(symbol == swap.old for symbol in cell.symbols)
    # Vegard: the volume goes linearly with the share of the sites.
    return exchanged, 1.0 + share * (_full_ratio(cell, swap) - 1.0)


def _full_ratio(cell: PackedStructure, swap: Swap) -> float:
    """Volume after over before when every atom of the old element is swapped.

    pymatgen's reference lattice scaling weighs an element by the cube root of its count, so that
    it may neither split an element nor join two: atoms that are the new element already are left
    out on both sides, and a partial swap is interpolated by the caller.
    """
    from pymatgen.analysis.structure_prediction.volume_predictor import RLSVolumePredictor

    kept = np.flatnonzero([symbol != swap.new for symbol in cell.symbols])
    before = cell.take(kept).to_pymatgen()
    after = before.copy()
    after.replace_species({swap.old: swap.new})
    states = formal_states(cell.element_counts)
    predictor = RLSVolumePredictor(  # type: ignore[no-untyped-call]
        check_isostructural=False, radii_type="ionic-atomic", use_bv=False
    )
    if states is not None:
        charges: dict[str, float] = {symbol: round(state) for symbol, state in states.items()}
        before.add_oxidation_state_by_element(charges)
        after.add_oxidation_state_by_element(charges | {swap.new: charges[swap.old]})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns when it falls back on atomic radii
        return float(predictor.predict(after, before) / before.volume)
