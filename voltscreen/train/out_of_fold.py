"""The store of out-of-fold predictions: what each recipe said of rows that it had not seen.

One small Parquet file beside the model's weights. It holds predictions and no labels: these come
from the data folder, and the store refuses data other than those it was made from. Of two models
of one training the second one's file leaves out what stands in the first one's.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from voltscreen import __version__
from voltscreen.errors import FileFormatError
from voltscreen.train.dataset import LabelledElectrodes

if TYPE_CHECKING:
    import pyarrow as pa

SUFFIX = ".out_of_fold.parquet"
OPTIONAL = ("lo80", "hi80", "lo90", "hi90", "out_of_domain")
VALUES = ("prediction", *OPTIONAL)
MAX_FOLD = 127
DIGITS = 4
"""Decimals of a volt, or of a percentile, that are kept."""
_METADATA_KEY = b"voltscreen"
_REST = "rest"
"""In the metadata: the file in the same folder that holds the other rungs."""


def store_path(model: Path) -> Path:
    """The store beside a model's file."""
    return model.with_suffix(SUFFIX)


@dataclass(frozen=True, eq=False)
class HeldOut:
    """One recipe on one split, aligned to the r rows of a data set.

    fold: (r,) int64, the fold that held the row out; -1 where the split leaves the row alone.
    prediction: (r,) float64, volt. lo80, hi80, lo90, hi90: (r,) float64, volt, bounds of the
    intervals. out_of_domain: (r,) float64, percentile, 0 to 100. NaN where there is none.
    """

    fold: NDArray[np.int64]
    prediction: NDArray[np.float64]
    lo80: NDArray[np.float64]
    hi80: NDArray[np.float64]
    lo90: NDArray[np.float64]
    hi90: NDArray[np.float64]
    out_of_domain: NDArray[np.float64]

    @property
    def rows(self) -> NDArray[np.bool_]:
        """(r,) bool: the rows with a prediction."""
        return np.isfinite(self.prediction)


@dataclass(frozen=True, eq=False)
class _Rung:
    """Predictions of k rows. row_id: (k,) str; fold: (k,) int8; values: (k, 6) float32."""

    row_id: NDArray[np.str_]
    fold: NDArray[np.int8]
    values: NDArray[np.float32]


class OutOfFold:
    """Out-of-fold predictions by recipe and split.

    Args:
        data_sha256: of the labelled data that the rows belong to. model_recipe: the recipe by
        which the model beside the store was trained.
    """

    def __init__(self, data_sha256: str, model_recipe: str) -> None:
        self.data_sha256 = data_sha256
        self.model_recipe = model_recipe
        self.version = __version__
        self.descriptions: dict[str, str] = {}
        self._rungs: dict[tuple[str, str], _Rung] = {}

    @classmethod
    def of(cls, data: LabelledElectrodes, model_recipe: str) -> Self:
        """An empty store for these data."""
        return cls(data.sha256, model_recipe)

    @property
    def recipes(self) -> tuple[str, ...]:
        """Names of the recipes, in the order they were added."""
        return tuple(dict.fromkeys(recipe for recipe, _ in self._rungs))

    @property
    def rungs(self) -> tuple[tuple[str, str], ...]:
        """Recipe and split of all that there is, in the order it was added."""
        return tuple(self._rungs)

    def splits(self, recipe: str) -> tuple[str, ...]:
        """The splits that a recipe has predictions for, in the order they were added."""
        return tuple(split for name, split in self._rungs if name == recipe)

    def describe(self, recipe: str, description: str) -> None:
        """Say what a recipe is, in a sentence."""
        self.descriptions[recipe] = description

    def add(
        self,
        recipe: str,
        split: str,
        row_id: NDArray[np.str_],
        fold: NDArray[np.int64],
        prediction: NDArray[np.float64],
        **optional: NDArray[np.float64],
    ) -> None:
        """Put the predictions of a recipe on a split, in place of earlier ones.

        Args:
            recipe, split: names. row_id: (k,), the held-out rows. fold: (k,), 0 to 127.
            prediction: (k,) volt. optional: (k,) each, by the names in `OPTIONAL`.

        Raises:
            FileFormatError: lengths that differ, a row twice, a fold out of range, a prediction
                that is not a number, or an unknown column.
        """
        where = f"out-of-fold predictions of {recipe} on {split}"
        if unknown := set(optional) - set(OPTIONAL):
            raise FileFormatError(f"{where}: unknown columns {', '.join(sorted(unknown))}")
        absent = np.full(len(row_id), np.nan)
        columns = [prediction, *(optional.get(name, absent) for name in OPTIONAL)]
        if {len(column) for column in columns} | {len(fold)} != {len(row_id)}:
            raise FileFormatError(f"{where}: the columns have different lengths")
        if len(np.unique(row_id)) != len(row_id):
            raise FileFormatError(f"{where}: a row occurs twice")
        if not np.isfinite(prediction).all():
            raise FileFormatError(f"{where}: a prediction is not a number")
        if np.any((fold < 0) | (fold > MAX_FOLD)):
            raise FileFormatError(f"{where}: a fold is outside 0 to {MAX_FOLD}")
        self._rungs[recipe, split] = _Rung(
            np.asarray(row_id, dtype=np.str_),
            fold.astype(np.int8),
            np.stack(columns, axis=1).round(DIGITS).astype(np.float32),
        )

    def get(self, recipe: str, split: str, data: LabelledElectrodes) -> HeldOut:
        """The predictions of a recipe on a split, aligned to the rows of the data.

        Raises:
            FileFormatError: there are none, or a row is not in the data.
        """
        if (rung := self._rungs.get((recipe, split))) is None:
            known = ", ".join(f"{recipe} on {split}" for recipe, split in self._rungs)
            raise FileFormatError(
                f"there are no out-of-fold predictions of {recipe} on {split}: "
                f"the store has {known or 'none'}"
            )
        place = {row_id: index for index, row_id in enumerate(data.row_id)}
        if missing := [row_id for row_id in rung.row_id if row_id not in place]:
            raise FileFormatError(
                f"{len(missing)} rows of the out-of-fold predictions, {missing[0]} among them, "
                "are not in the data: give the data folder that they were made from"
            )
        at = np.array([place[row_id] for row_id in rung.row_id], dtype=np.int64)
        fold = np.full(len(data), -1, np.int64)
        fold[at] = rung.fold
        values = np.full((len(VALUES), len(data)), np.nan)
        values[:, at] = rung.values.T
        return HeldOut(fold, **dict(zip(VALUES, values, strict=True)))

    def check(self, data: LabelledElectrodes) -> None:
        """Refuse data that are not those the predictions were made from.

        Raises:
            FileFormatError: the hashes of hosts, ions and voltages differ.
        """
        found = data.sha256
        if found != self.data_sha256:
            raise FileFormatError(
                "the labelled data are not those of the out-of-fold predictions (sha256 "
                f"{found[:12]}, expected {self.data_sha256[:12]}): give the data folder that "
                "they were made from with --data, or recompute them with --rerun"
            )

    def of_recipe(self, recipe: str, *, without: Sequence[str] = ()) -> OutOfFold:
        """The same predictions for a model by another recipe, without those of some."""
        store = OutOfFold(self.data_sha256, recipe)
        store._rungs = {key: rung for key, rung in self._rungs.items() if key[0] not in without}
        store.descriptions = {name: self.descriptions.get(name, "") for name in store.recipes}
        return store

    def write(self, path: Path, rest: Path | None = None) -> None:
        """Write the store; a file that is there is replaced when the new one is complete.

        Args:
            rest: a store in the same folder: what it holds is left out.
        """
        import pyarrow.parquet as pq

        held = OutOfFold.read(rest).rungs if rest else ()
        partial = path.with_name(path.name + ".part")
        pq.write_table(
            self._table({key: r for key, r in self._rungs.items() if key not in held}, rest),
            partial,
            compression="zstd",
            compression_level=19,
            use_dictionary=["recipe", "split", "row_id"],
            use_byte_stream_split=list(VALUES),
        )
        partial.replace(path)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a store.

        Raises:
            FileFormatError: there is no such file, or it is something else.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            table = pq.read_table(path)
            metadata = json.loads(table.schema.metadata[_METADATA_KEY])
            store = cls(metadata["data_sha256"], metadata["model_recipe"])
            if _REST in metadata:
                store = cls.read(path.parent / metadata[_REST])
                store.model_recipe = metadata["model_recipe"]
            store.version = metadata["version"]
            for recipe, description in metadata["recipes"].items():
                store.describe(recipe, description)
            for (recipe, split), rung in _rungs(table):
                store._rungs[recipe, split] = rung  # noqa: SLF001 - of this class
        except FileNotFoundError:
            raise FileFormatError(
                f"there are no out-of-fold predictions at {path}: the model was made without "
                "them; `voltscreen model train` writes both"
            ) from None
        except (OSError, KeyError, TypeError, ValueError, pa.ArrowException) as error:
            raise FileFormatError(
                f"{path} is not a store of out-of-fold predictions: {error}"
            ) from None
        return store

    def _table(self, kept: dict[tuple[str, str], _Rung], rest: Path | None) -> pa.Table:
        """These rungs in long form, a row a (recipe, split, row)."""
        import pyarrow as pa

        lengths = [len(rung.row_id) for rung in kept.values()]
        names = np.array(list(kept), dtype=object).reshape(-1, 2)
        rungs = list(kept.values())
        columns: dict[str, Any] = {
            "recipe": pa.array(np.repeat(names[:, 0], lengths), pa.string()).dictionary_encode(),
            "split": pa.array(np.repeat(names[:, 1], lengths), pa.string()).dictionary_encode(),
            "row_id": pa.array([row_id for rung in rungs for row_id in rung.row_id], pa.string()),
            "fold": pa.array(_joined([rung.fold for rung in rungs], np.int8)),
        }
        for index, name in enumerate(VALUES):
            columns[name] = pa.array(_joined([rung.values[:, index] for rung in rungs], np.float32))
        metadata = {
            "data_sha256": self.data_sha256,
            "version": self.version,
            "model_recipe": self.model_recipe,
            "recipes": self.descriptions,
        } | ({_REST: rest.name} if rest else {})
        return pa.table(columns).replace_schema_metadata({_METADATA_KEY: json.dumps(metadata)})


def _rungs(table: pa.Table) -> Iterator[tuple[tuple[str, str], _Rung]]:
    """The rungs of a table in long form, in the order of their first rows."""
    frame = table.to_pandas()
    groups = frame.groupby(["recipe", "split"], sort=False, observed=True)
    for (recipe, split), rung in groups:
        yield (
            (str(recipe), str(split)),
            _Rung(
                rung["row_id"].to_numpy(dtype=np.str_),
                rung["fold"].to_numpy(dtype=np.int8),
                rung[list(VALUES)].to_numpy(dtype=np.float32),
            ),
        )


def _joined(parts: list[NDArray[Any]], dtype: type[np.generic]) -> NDArray[Any]:
    """One array of all parts, also of none."""
    return np.concatenate([np.empty(0, dtype), *parts])
