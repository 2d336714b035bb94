"""Collects the statistics of one column in one pass, by its kind; each merges with the same column of later
fragments.
"""

from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.config.job import Column
from pipeline.preprocess.order import Order, collect_order, merge_orders
from pipeline.preprocess.statistics.columns import Float, numbers, seconds, texts
from pipeline.preprocess.statistics.levels import EncodingLabels, LevelCounts, count_levels
from pipeline.preprocess.statistics.moments import Moments, summarise
from pipeline.preprocess.transforms import PARTS, clip, log1p, time_parts

_PROBE = 1_024  # rows examined first: most parts of a time vary among them


@dataclass(frozen=True)
class NumberColumn:
    """A column of numbers; `low`, `high` and the moments are of finite values."""

    missing: int
    low: float  # +inf where no value is finite
    high: float  # -inf where no value is finite
    moments: Moments
    shaped: Moments  # after clip and log1p; what standardising needs
    infinite: int = 0  # values beyond what float32 holds
    first_infinite: int | None = None  # row id
    order: Order | None = None  # None: the column cannot be a row number

    @property
    def counts_rows(self) -> bool:
        """Whether the column is a row number, or an id in the order of the rows."""
        return self.order is not None and self.order.kind == "row_number"

    def merge(self, right: Self) -> "NumberColumn":
        first = self.first_infinite if self.first_infinite is not None else right.first_infinite
        return NumberColumn(
            missing=self.missing + right.missing,
            low=min(self.low, right.low),
            high=max(self.high, right.high),
            moments=self.moments.merge(right.moments),
            shaped=self.shaped.merge(right.shaped),
            infinite=self.infinite + right.infinite,
            first_infinite=first,
            order=merge_orders(self.order, right.order),
        )


@dataclass(frozen=True)
class CategoryColumn:
    """A column of levels."""

    missing: int
    counts: LevelCounts

    def merge(self, right: Self) -> "CategoryColumn":
        return CategoryColumn(self.missing + right.missing, self.counts.merge(right.counts))


@dataclass(frozen=True)
class TimeColumn:
    """A column of times, in seconds since 1970."""

    missing: int
    low: int | None = None  # None where all are missing
    high: int | None = None
    parts: dict[str, int | None] = field(default_factory=dict)  # the value of each constant part; None: it varies

    def merge(self, right: Self) -> "TimeColumn":
        missing = self.missing + right.missing
        if self.low is None or right.low is None:
            return replace(right if self.low is None else self, missing=missing)
        assert self.high is not None
        assert right.high is not None
        return TimeColumn(
            missing=missing,
            low=min(self.low, right.low),
            high=max(self.high, right.high),
            parts={part: value if value == right.parts[part] else None for part, value in self.parts.items()},
        )


@dataclass(frozen=True)
class MissingColumn:
    """A column without a type: no file has a value in it."""

    missing: int

    def merge(self, right: Self) -> "MissingColumn":
        return MissingColumn(self.missing + right.missing)


AnyColumn = NumberColumn | CategoryColumn | TimeColumn | MissingColumn


def merge_columns(left: AnyColumn, right: AnyColumn) -> AnyColumn:
    """Both together, the fragments of `left` first; they are of one kind, because fragments share a schema."""
    assert type(left) is type(right)
    together: Any = left
    merged: AnyColumn = together.merge(right)
    return merged


def collect_number(column: pa.ChunkedArray, setting: Column, row_ids: npt.NDArray[np.uint64]) -> NumberColumn:
    """The statistics of numbers; `row_ids` (rows,) name the first infinite value.  ConversionError where there are no
    numbers in it.
    """
    wide = setting.clip is not None or setting.log1p or not _fits_float32(column.type)
    values: Float = numbers(column, np.float64 if wide else np.float32)
    found = summarise(values)
    shaped = found.moments
    if setting.standardise and (setting.clip is not None or setting.log1p):
        shaped = summarise(shape(values, setting, np)).moments
    infinite, first = (0, None) if found.infinite is None else (found.infinite[0], int(row_ids[found.infinite[1]]))
    order = collect_order(column, setting)
    return NumberColumn(found.missing, found.low, found.high, found.moments, shaped, infinite, first, order)


def shape(values: Any, setting: Any, xp: Any) -> Any:
    """Clip, then log1p, as `setting.clip` and `setting.log1p` say."""
    if setting.clip is not None:
        values = clip(values, setting.clip[0], setting.clip[1], xp)
    return log1p(values, xp) if setting.log1p else values


def collect_category(column: pa.ChunkedArray, bound: int, labels: EncodingLabels | None) -> CategoryColumn:
    """Counts of levels; `bound`: levels tracked; `labels`: where sums of labels by fold are wanted."""
    codes, levels = texts(column)
    counts = count_levels(codes, levels, bound, labels)
    return CategoryColumn(len(codes) - int(counts.rows.sum()) - counts.left_out, counts)


def collect_time(column: pa.ChunkedArray) -> TimeColumn:
    """The statistics of times; ConversionError where there are no times in it."""
    values, missing = seconds(column)
    if missing is not None:
        values = values[~missing]
    if not len(values):
        return TimeColumn(len(column))
    found: dict[str, int | None] = {}
    for part in PARTS:
        first = _only_value(values[:_PROBE], part)
        found[part] = first if first is None or len(values) <= _PROBE else _only_value(values, part)
    return TimeColumn(len(column) - len(values), int(values.min()), int(values.max()), found)


def _only_value(values: npt.NDArray[np.int64], part: str) -> int | None:
    """The value that a part has in all of `values` (seconds); None where it varies."""
    of_part = values if part == "epoch" else time_parts(values, [part], 0, np)[part]
    return int(of_part[0]) if (of_part == of_part[0]).all() else None


def _fits_float32(dtype: pa.DataType) -> bool:
    """Whether float32 holds each value of the type exactly."""
    types = pa.types
    small = types.is_int8(dtype) or types.is_uint8(dtype) or types.is_int16(dtype) or types.is_uint16(dtype)
    return bool(small or types.is_boolean(dtype) or types.is_float32(dtype) or types.is_float16(dtype))
