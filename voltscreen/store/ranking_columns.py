"""A ranking as columns: what filters and sorts a hundred thousand candidates in milliseconds.

No index answers every mixture of filters in every order. A ranking is therefore stored twice: a
document a candidate, for people and for single candidates, and beside it its columns in a few
documents, which a query reads whole and works on with numpy.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voltscreen.store.connection import Row, Store
from voltscreen.store.documents import RankingColumnsDocument, now
from voltscreen.structures.packed import MAX_ATOMIC_NUMBER, element_symbol

NUMBERS = (
    "score", "voltage", "sd", "lo90", "hi90", "out_of_domain", "capacity", "energy_density",
    "energy_above_hull", "nsites", "known_voltage", "pareto",
)  # fmt: skip
"""float64, NaN where a candidate has none; pareto is 1 or 0."""
TEXTS = ("structure_id", "formula")
ELEMENTS = "elements"
PART_ROWS = 20_000
"""Candidates in one document: about 3 MB."""
_ELEMENT_BYTES = 15
"""One bit for every atomic number below 120."""
ATOMIC_NUMBERS = {element_symbol(z): z for z in range(1, MAX_ATOMIC_NUMBER + 1)}
_PROJECTION = (
    "rank", "structure_id", "formula", "elements", "known.voltage",
    *(name for name in NUMBERS if name != "known_voltage"),
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class RankingColumns:
    """The columns of n candidates, best first: the candidate of rank r is at r - 1.

    numbers: by name, (n,) float64; texts: by name, (n,) str objects; elements: (n, 15) uint8,
    one bit for every atomic number.
    """

    n: int
    numbers: Mapping[str, NDArray[np.float64]]
    texts: Mapping[str, NDArray[np.object_]]
    elements: NDArray[np.uint8] | None

    @cached_property
    def formula_places(self) -> NDArray[np.float64]:
        """(n,) where each candidate's formula stands in alphabetical order, equal ones alike."""
        formulas = dict.fromkeys(self.texts["formula"], 0.0)
        for place, text in enumerate(sorted(formulas)):
            formulas[text] = float(place)
        return np.array([formulas[text] for text in self.texts["formula"]])

    def number(self, name: str) -> NDArray[np.float64]:
        """(n,) a stored or derived number: also `rank`, and `interval_width` in V."""
        if name == "rank":
            return np.arange(1, self.n + 1, dtype=np.float64)
        if name == "interval_width":
            return self.numbers["hi90"] - self.numbers["lo90"]
        return self.numbers[name]


def needed_columns(names: Iterable[str]) -> set[str]:
    """The stored columns behind columns that a query names."""
    wanted: set[str] = set()
    for name in names:
        wanted |= {"lo90", "hi90"} if name == "interval_width" else {name}
    return wanted & {*NUMBERS, *TEXTS, ELEMENTS}


def put_columns(store: Store, campaign: str, ion: str, rows: Sequence[Row]) -> None:
    """Store the columns of a ranking in the place of former ones.

    Args:
        rows: ranking documents as MongoDB has them, in order of rank.
    """
    drop_columns(store, campaign, ion)
    starts = range(0, len(rows), PART_ROWS)
    for part, start in enumerate(starts, start=1):
        chunk = rows[start : start + PART_ROWS]
        columns = _columns_of(chunk)
        document = RankingColumnsDocument(
            id=f"{campaign}:{ion}:{part}",
            campaign=campaign,
            ion=ion,
            part=part,
            parts=len(starts),
            rows=len(chunk),
            ranked_at=now(),
            columns=_packed(columns),
        )
        store.ranking_columns.insert_one(document.to_mongo())


def drop_columns(store: Store, campaign: str, ion: str | None = None) -> None:
    """Forget the columns of a campaign's rankings, or of one ion's: before they change."""
    wanted = {"campaign": campaign} | ({} if ion is None else {"ion": ion})
    store.ranking_columns.delete_many(wanted)


def load_columns(
    store: Store, campaign: str, ion: str, names: Iterable[str] | None = None
) -> RankingColumns:
    """The columns of a ranking; made from its documents where they are not stored as a whole.

    Args:
        names: stored columns that are needed, all of them when None.
    """
    wanted = {*NUMBERS, *TEXTS, ELEMENTS} if names is None else set(names)
    projection = ["part", "parts", "rows", *(f"columns.{name}" for name in sorted(wanted))]
    parts = sorted(
        store.ranking_columns.find({"campaign": campaign, "ion": ion}, projection),
        key=lambda row: int(row["part"]),
    )
    if parts and len(parts) == parts[0]["parts"]:
        return _unpacked(parts, wanted)
    # A ranking that died on its way, or was written by another hand.
    rows = store.rankings.find(
        {"campaign": campaign, "ion": ion, "rank": {"$gte": 1}}, _PROJECTION
    ).sort("rank", 1)
    return _columns_of(list(rows))


def _columns_of(rows: Sequence[Row]) -> RankingColumns:
    def number(row: Row, name: str) -> Any:
        return row.get("known", {}).get("voltage") if name == "known_voltage" else row.get(name)

    return RankingColumns(
        n=len(rows),
        numbers={
            name: np.array([number(row, name) for row in rows], dtype=np.float64)
            for name in NUMBERS
        },
        texts={name: np.array([row[name] for row in rows], dtype=object) for name in TEXTS},
        elements=_element_bits([row["elements"] for row in rows]),
    )


def _element_bits(rows: Sequence[Sequence[str]]) -> NDArray[np.uint8]:
    present = np.zeros((len(rows), 8 * _ELEMENT_BYTES), np.uint8)
    for i, symbols in enumerate(rows):
        present[i, [ATOMIC_NUMBERS[symbol] for symbol in symbols]] = 1
    bits: NDArray[np.uint8] = np.packbits(present, axis=1)
    return bits


def has_element(elements: NDArray[np.uint8], symbol: str) -> NDArray[np.bool_]:
    """(n,) whether the element is in the candidate; elements: (n, 15) bits."""
    z = ATOMIC_NUMBERS[symbol]
    found: NDArray[np.bool_] = (elements[:, z // 8] >> (7 - z % 8)) & 1 == 1
    return found


def element_mask(symbols: Iterable[str]) -> NDArray[np.uint8]:
    """(15,) the bits of a chemical system."""
    mask: NDArray[np.uint8] = _element_bits([list(symbols)])[0]
    return mask


def _packed(columns: RankingColumns) -> dict[str, bytes]:
    assert columns.elements is not None  # noqa: S101 - `_columns_of` makes every column
    return (
        {name: values.astype("<f8").tobytes() for name, values in columns.numbers.items()}
        | {name: "\n".join(values).encode() for name, values in columns.texts.items()}
        | {ELEMENTS: columns.elements.tobytes()}
    )


def _unpacked(parts: Sequence[Row], wanted: set[str]) -> RankingColumns:
    def joined(name: str) -> bytes:
        return b"".join(part["columns"][name] for part in parts)

    return RankingColumns(
        n=sum(part["rows"] for part in parts),
        numbers={name: np.frombuffer(joined(name), "<f8") for name in NUMBERS if name in wanted},
        texts={
            name: np.array(
                [text for part in parts for text in part["columns"][name].decode().split("\n")],
                dtype=object,
            )
            for name in TEXTS
            if name in wanted
        },
        elements=np.frombuffer(joined(ELEMENTS), np.uint8).reshape(-1, _ELEMENT_BYTES)
        if ELEMENTS in wanted
        else None,
    )


def columns_stamp(store: Store, campaign: str, ion: str) -> datetime | None:
    """When the columns of a ranking were written; None where they are not stored."""
    row = store.ranking_columns.find_one({"_id": f"{campaign}:{ion}:1"}, {"ranked_at": 1})
    return None if row is None else row["ranked_at"]
