"""A filter of the Materials Project's summary endpoint, checked before anything is asked.

The names are those of `MPRester.materials.summary.search`. They stand here, and a test holds them
against mp-api, because importing mp-api takes seconds.
"""

from __future__ import annotations

import difflib
import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from voltscreen.errors import SpecError
from voltscreen.structures.mp_ids import is_material_id, plain_id
from voltscreen.structures.packed import MAX_ATOMIC_NUMBER, element_symbol

RANGES = frozenset(
    "band_gap density e_electronic e_ionic e_total efermi elastic_anisotropy energy_above_hull "
    "equilibrium_reaction_energy formation_energy g_reuss g_voigt g_vrh k_reuss k_voigt k_vrh n "
    "num_elements num_sites num_magnetic_sites num_unique_magnetic_sites piezoelectric_modulus "
    "poisson_ratio shape_factor surface_energy_anisotropy total_energy total_magnetization "
    "total_magnetization_normalized_formula_units total_magnetization_normalized_vol "
    "uncorrected_energy volume weighted_surface_energy weighted_work_function".split()
)
"""Take a number, or the lowest and the highest; either may be null."""
FLAGS = frozenset(
    "deprecated has_reconstructed include_gnome is_gap_direct is_metal is_stable theoretical"
    .split()
)  # fmt: skip
LISTS = frozenset(
    "chemsys elements exclude_elements formula has_props material_ids possible_species".split()
)
"""Take one text or a list of them, in one request."""
ONE_BY_ONE = frozenset("crystal_system spacegroup_number spacegroup_symbol".split())
"""Take one value or a list; the API is asked once for each value."""
TEXTS = frozenset({"magnetic_ordering"})
FILTERS = tuple(sorted(RANGES | FLAGS | LISTS | ONE_BY_ONE | TEXTS))

IDS_AT_ONCE = 200
"""Material ids in one request: its address stays under 3 kB, which every server takes."""
_ELEMENTS = frozenset(element_symbol(number) for number in range(1, MAX_ATOMIC_NUMBER + 1))
_OTHER_NAMES = {
    "nsites": "num_sites", "nelements": "num_elements", "mpids": "material_ids",
    "material_id": "material_ids", "e_above_hull": "energy_above_hull", "stable": "is_stable",
    "formation_energy_per_atom": "formation_energy",
}  # fmt: skip
_SECRETS = frozenset({"api_key", "key", "mp_api_key", "pmg_mapi_key"})


@dataclass(frozen=True)
class MPQuery:
    """Which materials: filters of the summary endpoint, as `search` takes them.

    filters: by name; ranges as (low, high) with None for an open end, lists as tuples of str.
    """

    filters: Mapping[str, Any]

    @property
    def key(self) -> str:
        """Equal for queries that ask for the same."""
        text = json.dumps(dict(self.filters), sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    @property
    def anywhere(self) -> dict[str, Any]:
        """The filters that also a request by ids must carry to find the same materials."""
        kept = ("deprecated", "include_gnome")
        return {name: self.filters[name] for name in kept if name in self.filters}

    def parts(self) -> Iterator[dict[str, Any]]:
        """The arguments of `search`, one dictionary for each question the API can answer."""
        single = {k: v for k, v in self.filters.items() if k not in ONE_BY_ONE | {"material_ids"}}
        split: list[list[tuple[str, Any]]] = [
            [(name, value) for value in self.filters[name]]
            for name in sorted(ONE_BY_ONE)
            if name in self.filters
        ]
        if ids := self.filters.get("material_ids"):
            starts = range(0, len(ids), IDS_AT_ONCE)
            split.append([("material_ids", list(ids[i : i + IDS_AT_ONCE])) for i in starts])
        for chosen in itertools.product(*split):
            yield single | dict(chosen)


def parse_query(value: object) -> MPQuery:
    """The filters that a spec or a command names.

    Raises:
        SpecError: an unknown filter, a value that does not fit it, or no filter at all.
    """
    if not isinstance(value, Mapping):
        raise SpecError("source.mp: give filters by name, such as {elements: [O]}")
    filters = {str(name): _checked(str(name), content) for name, content in value.items()}
    if not set(filters) - {"include_gnome", "deprecated"}:
        raise SpecError(
            "source.mp: give at least one filter, such as elements: [O]; the whole database is "
            "not a campaign"
        )
    return MPQuery(filters)


def _checked(name: str, value: object) -> Any:
    if name.lower() in _SECRETS:
        raise SpecError(
            f"source.mp.{name} is refused: a key never stands in a spec; set the environment "
            "variable MP_API_KEY"
        )
    if name not in FILTERS:
        close = _OTHER_NAMES.get(name) or next(
            iter(difflib.get_close_matches(name, FILTERS, n=1)), None
        )
        hint = f"did you mean {close!r}? " if close else ""
        raise SpecError(f"source.mp.{name}: unknown filter; {hint}allowed: {', '.join(FILTERS)}")
    if name in RANGES:
        return _range(name, value)
    if name in FLAGS:
        if not isinstance(value, bool):
            raise SpecError(f"source.mp.{name}: give true or false, not {value!r}")
        return value
    if name in TEXTS:
        if not isinstance(value, str):
            raise SpecError(f"source.mp.{name}: give a text, not {value!r}")
        return value
    return _list(name, value)


def _range(name: str, value: object) -> tuple[float | None, float | None]:
    ends: Any = [value, value] if _is_number(value) else value
    if (
        not isinstance(ends, list | tuple)
        or len(ends) != 2
        or not all(end is None or _is_number(end) for end in ends)
    ):
        raise SpecError(f"source.mp.{name}: give a number or [lowest, highest], not {value!r}")
    low, high = ends
    if low is None and high is None:
        raise SpecError(f"source.mp.{name}: give at least one of lowest and highest")
    if low is not None and high is not None and low > high:
        raise SpecError(f"source.mp.{name}: the first number must not be above the second")
    return low, high


def _list(name: str, value: object) -> tuple[Any, ...]:
    values = [value] if isinstance(value, str | int) else value
    kind: type = int if name == "spacegroup_number" else str
    if (
        not isinstance(values, Sequence)
        or not values
        or not all(isinstance(each, kind) and not isinstance(each, bool) for each in values)
    ):
        raise SpecError(f"source.mp.{name}: give one {kind.__name__} or a list, not {value!r}")
    if name in ("elements", "exclude_elements"):
        for each in values:
            if each not in _ELEMENTS:
                raise SpecError(f"source.mp.{name}: unknown element {each!r}")
    if name == "material_ids":
        for each in values:
            if not is_material_id(each):
                raise SpecError(f"source.mp.{name}: {each!r} is no id such as mp-149")
        values = [plain_id(each) for each in values]
    return tuple(dict.fromkeys(values))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
