"""Applies a recipe to a table: the same block for a single row as within a million, on the CPU or the GPU."""

import zlib
from collections.abc import Iterator
from functools import cached_property
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import DataError
from pipeline.preprocess import transforms
from pipeline.preprocess.features import (
    Category,
    Feature,
    Frequency,
    Hash,
    Indicator,
    Levels,
    Number,
    TargetEncoding,
    TimePart,
)
from pipeline.preprocess.recipe import Recipe
from pipeline.preprocess.statistics import columns
from pipeline.preprocess.statistics.collect import fold_of
from pipeline.preprocess.statistics.column_statistics import shape


def feature_columns(
    recipe: Recipe, table: pa.Table, *, fold_keys: npt.NDArray[np.uint64] | None = None, xp: Any = np
) -> Iterator[Any]:
    """Each feature in order, (rows,) float32 of namespace `xp`, NaN where missing; one at a time.

    `fold_keys` (rows,) uint64 are given for training rows: they get out-of-fold encodings.  Columns that need no
    transformation are views of the table's memory, read-only.  DataError names a column that is missing or of a
    type that cannot be what it was in training.
    """
    folds = None
    if fold_keys is not None and recipe.out_of_fold:
        folds = fold_of(fold_keys, recipe.folds, recipe.seed)
    known = set(table.column_names)
    for name, features in groupby(recipe.features, key=lambda feature: feature.column):
        if name not in known:
            raise DataError(f"the column {name!r}, which the model needs, is missing")
        group = list(features)
        column = _RawColumn(table.column(name), group, folds, xp)
        for feature in group:
            try:
                yield _made(feature, column)
            except columns.ConversionError as error:
                raise DataError(f"column {name!r} {error}") from None


def matrix(recipe: Recipe, table: pa.Table, *, fold_keys: npt.NDArray[np.uint64] | None = None, xp: Any = np) -> Any:
    """All features as one block, (rows, features) float32 in C order; see `feature_columns`."""
    block = xp.empty((table.num_rows, len(recipe.features)), dtype=xp.float32)
    for place, column in enumerate(feature_columns(recipe, table, fold_keys=fold_keys, xp=xp)):
        block[:, place] = column
    return block


class _RawColumn:
    """One raw column on its way to the features made of it; each conversion happens once."""

    def __init__(
        self, raw: pa.ChunkedArray, features: list[Feature], folds: npt.NDArray[np.int64] | None, xp: Any
    ) -> None:
        self.raw = raw
        self.features = features
        self.folds = folds
        self.xp = xp

    @cached_property
    def texts(self) -> tuple[npt.NDArray[np.int64], pa.Array]:
        """Codes (rows,) and the distinct texts; the code after the last means missing."""
        return columns.texts(self.raw)

    @cached_property
    def time_parts(self) -> tuple[dict[str, Any], Any]:
        """The requested parts, (rows,) each, and where the time is missing, or None."""
        seconds, missing = columns.seconds(self.raw)
        wanted = [feature for feature in self.features if isinstance(feature, TimePart)]
        origin = max(feature.origin for feature in wanted)  # only the epoch has an origin
        parts = transforms.time_parts(self.xp.asarray(seconds), [feature.part for feature in wanted], origin, self.xp)
        return parts, None if missing is None else self.xp.asarray(missing)

    def level_codes(self, levels: Levels) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """(rows,) codes of the distinct texts here, and (texts + 1,) the level of each: len(levels) if not known."""
        codes, words = self.texts
        places = pc.index_in(words, value_set=levels.array).fill_null(len(levels)).to_numpy().astype(np.int64)
        return codes, np.append(places, len(levels))


def _made(feature: Feature, column: _RawColumn) -> Any:
    """One feature, (rows,) float32."""
    xp = column.xp
    match feature:
        case Number():
            return _number(feature, column.raw, xp)
        case Indicator():
            return transforms.indicator(xp.asarray(columns.numbers(column.raw)), xp)
        case TimePart():
            parts, missing = column.time_parts
            part = xp.asarray(parts[feature.part], dtype=xp.float32)
            return part if missing is None else xp.where(missing, xp.asarray(xp.nan, dtype=xp.float32), part)
        case Hash():
            codes, words = column.texts
            return _looked_up(codes, np.array([_hash(word, feature.bins) for word in words.to_pylist()]), np.nan, xp)
        case Category():
            return _by_level(feature.levels, column, np.arange(len(feature.levels)), np.nan)
        case Frequency():
            return _by_level(feature.levels, column, np.array(feature.values), 0.0)
        case TargetEncoding():
            return _target(feature, column)


def _number(feature: Number, raw: pa.ChunkedArray, xp: Any) -> Any:
    if feature.plain:
        return xp.asarray(columns.numbers(raw))
    # In float64, so that a result is rounded to float32 only once.
    x = xp.asarray(columns.numbers(raw, np.float64))
    if feature.impute is not None:
        x = transforms.impute(x, feature.impute, xp)
    x = shape(x, feature, xp)
    if feature.standardise is not None:
        x = transforms.standardise(x, *feature.standardise, xp)
    return xp.asarray(x, dtype=xp.float32)


def _by_level(levels: Levels, column: _RawColumn, values: npt.NDArray[Any], unknown: float) -> Any:
    """The value (levels,) of each row's level; `unknown` where it is not in the table, NaN where missing."""
    codes, places = column.level_codes(levels)
    by_word = np.append(values.astype(np.float32), np.float32(unknown))[places[:-1]]
    return _looked_up(codes, by_word, np.nan, column.xp)


def _target(feature: TargetEncoding, column: _RawColumn) -> Any:
    if column.folds is None:
        return _by_level(feature.levels, column, np.array(feature.values), feature.prior)
    if feature.fold_values is None:
        raise ValueError("this recipe was read from JSON: it has no out-of-fold encodings, so give no fold_keys")
    codes, places = column.level_codes(feature.levels)
    folds = len(feature.fold_values)
    prior = np.full((folds, 1), feature.prior, dtype=np.float32)
    by_word = np.hstack([feature.fold_values, prior])[:, places]  # (folds, words + 1)
    by_word[:, -1] = np.nan
    return column.xp.asarray(by_word[column.folds, codes])


def _looked_up(codes: npt.NDArray[np.int64], values: npt.NDArray[Any], missing: float, xp: Any) -> Any:
    """values[codes] as float32; `missing` for the code after the last."""
    table = np.append(values.astype(np.float32), np.float32(missing))
    return transforms.lookup(xp.asarray(codes), xp.asarray(table), xp)


def _hash(word: str, bins: int) -> int:
    """Of one distinct text: CRC-32 is the same on any machine, and C code."""
    return zlib.crc32(word.encode()) % bins
