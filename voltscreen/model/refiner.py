"""The refiner: a correction of the fast voltage by what a second look found.

A small file of its own beside the models: boosted trees and a Gaussian process as arrays, intervals
by ion, and a card. Nothing in it is executed.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, fields
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load, save

from voltscreen.errors import ModelError
from voltscreen.model.likeness import Likeness
from voltscreen.model.uncertainty import Intervals

SUFFIX = ".refiner"
FORMAT = "voltscreen-refiner-2"
_LIKENESS_ARRAYS = tuple(field.name for field in fields(Likeness))
SHARE = 0.35
"""Of the process in the correction; the rest is the trees'. See `voltscreen.train.refined`."""
_TREE_ARRAYS = ("feature", "threshold", "left", "right", "missing_left", "value")


class TierError(BaseModel):
    """Error of a tier on held-out rows."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tier: str
    split: str
    ion: str = Field(description="working ion, or all")
    n: int = Field(description="rows")
    mae: float = Field(description="mean absolute error, V")
    cover90: float | None = Field(
        default=None, description="share of rows in the 90 % interval, by widths of other folds"
    )


class RefinerCard(BaseModel):
    """What one must know of a refiner."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    description: str
    created: str = Field(description="date, ISO 8601")
    model_id: str = Field(description="whose fast voltages it refines")
    potential: str = Field(description="name and weights")
    rows: int = Field(description="labelled electrodes it was fitted to")
    with_short_look: int = Field(description="of these, with the first steps of a relaxation")
    attribution: str
    intervals: str = Field(description="how they are made")
    errors: list[TierError] = Field(description="by tier, split and ion")
    limits: list[str]
    command: str
    versions: dict[str, str]


@dataclass(frozen=True, eq=False)
class Trees:
    """Boosted trees; t trees, m nodes in all.

    roots: (t,) int32. feature: (m,) int16, -1 in a leaf. threshold: (m,) float64: up to it to
    the left; some are values of training rows to the last bit. left, right: (m,) int32.
    missing_left: (m,) uint8. value: (m,) float32, of leaves. base: (seeds,) float64; the
    prediction is the sum of base and leaves, divided by the number of seeds.
    """

    roots: NDArray[np.int32]
    feature: NDArray[np.int16]
    threshold: NDArray[np.float64]
    left: NDArray[np.int32]
    right: NDArray[np.int32]
    missing_left: NDArray[np.uint8]
    value: NDArray[np.float32]
    base: NDArray[np.float64]

    def predict(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """(r,) of features (r, f), NaN where unknown."""
        rows = np.arange(len(features))
        found = np.full(len(features), self.base.sum())
        for root in self.roots:
            node = np.full(len(features), root)
            while (inner := self.feature[node] >= 0).any():
                at = node[inner]
                value = features[rows[inner], self.feature[at]]
                goes_left = np.where(
                    np.isnan(value), self.missing_left[at] == 1, value <= self.threshold[at]
                )
                node[inner] = np.where(goes_left, self.left[at], self.right[at])
            found += self.value[node]
        return found / len(self.base)


@dataclass(frozen=True, eq=False)
class Refiner:
    """Trees and a process on features of (host, ion) pairs, and intervals by ion.

    names: f names of the trees' features. like_names: g names of the process's columns.
    weights: (k,) float64, of the signs of difficulty. level: (k,) float64, medians of the signs.
    """

    trees: Trees
    likeness: Likeness
    names: tuple[str, ...]
    like_names: tuple[str, ...]
    ions: tuple[str, ...]
    intervals: Intervals
    weights: NDArray[np.float64]
    level: NDArray[np.float64]
    card: RefinerCard

    def correction(
        self, features: NDArray[np.float64], columns: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """(r,) volt to add to the fast voltages, of features (r, f) and columns (r, g)."""
        return mixed(self.trees.predict(features), self.likeness.predict(columns))

    def difficulty(self, signs: NDArray[np.float64]) -> NDArray[np.float64]:
        """(r,), about 1, of signs (k, r)."""
        found: NDArray[np.float64] = np.exp(self.weights @ (signs - self.level[:, None]))
        return found

    def to_bytes(self) -> bytes:
        """The file."""
        arrays: dict[str, NDArray[Any]] = {
            name: getattr(self.trees, name) for name in ("roots", "base", *_TREE_ARRAYS)
        }
        arrays |= {f"likeness.{name}": getattr(self.likeness, name) for name in _LIKENESS_ARRAYS}
        arrays |= {"weights": self.weights, "level": self.level}
        arrays |= {f"intervals.{name}": a for name, a in self.intervals.arrays().items()}
        header = {
            "format": FORMAT,
            "names": json.dumps(self.names),
            "like_names": json.dumps(self.like_names),
            "ions": json.dumps(self.ions),
            "card": self.card.model_dump_json(),
        }
        return save({key: np.ascontiguousarray(a) for key, a in arrays.items()}, header)

    @property
    def id(self) -> str:
        """16 hex digits of what it computes with."""
        digest = hashlib.blake2b(digest_size=8, person=b"voltscreen-ref")
        for name in ("roots", "base", *_TREE_ARRAYS):
            digest.update(getattr(self.trees, name).tobytes())
        for name in _LIKENESS_ARRAYS:
            digest.update(getattr(self.likeness, name).tobytes())
        return digest.hexdigest()


def mixed(trees: NDArray[np.float64], process: NDArray[np.float64]) -> NDArray[np.float64]:
    """The correction by both, volt."""
    return (1 - SHARE) * trees + SHARE * process


def refiner_path() -> Path:
    """The shipped refiner."""
    with resources.as_file(resources.files("voltscreen.model") / "shipped") as folder:
        return Path(folder) / f"refined{SUFFIX}"


def load_refiner(path: Path | None = None) -> Refiner:
    """A refiner from its file; the shipped one by default.

    Raises:
        ModelError: there is none, or it is damaged.
    """
    path = path or refiner_path()
    try:
        data = path.read_bytes()
        length = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + length])["__metadata__"]
        if header["format"] != FORMAT:
            raise ModelError(f"{path} is no refiner of this version of voltscreen")
        arrays = load(data)
        return Refiner(
            trees=Trees(
                roots=arrays["roots"],
                base=arrays["base"],
                **{name: arrays[name] for name in _TREE_ARRAYS},
            ),
            likeness=Likeness(*(arrays[f"likeness.{name}"] for name in _LIKENESS_ARRAYS)),
            names=tuple(json.loads(header["names"])),
            like_names=tuple(json.loads(header["like_names"])),
            ions=tuple(json.loads(header["ions"])),
            intervals=Intervals(
                *(arrays[f"intervals.{name}"] for name in ("sd", "half80", "half90"))
            ),
            weights=arrays["weights"],
            level=arrays["level"],
            card=RefinerCard.model_validate_json(header["card"]),
        )
    except OSError as error:
        raise ModelError(f"cannot read the refiner {path}: {error.strerror}") from None
    except (SafetensorError, KeyError, ValueError, ValidationError) as error:
        raise ModelError(f"{path} is no refiner or is damaged: {error}") from None


def save_refiner(refiner: Refiner, path: Path) -> None:
    """Write the file, whole or not at all."""
    partial = path.with_name(path.name + ".part")
    partial.write_bytes(refiner.to_bytes())
    partial.replace(path)
