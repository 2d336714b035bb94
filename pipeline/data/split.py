"""Splits rows into training and validation, by row ids or values, never by worker or order."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.data.keys import chosen
from pipeline.errors import DataError

TRAIN = 0
VALIDATION = 1


@dataclass(frozen=True)
class Split:
    """How rows are held out for validation."""

    kind: Literal["none", "share", "values", "time", "all_validation"] = "none"
    share: float = 0.0  # kind share: of the rows (ranking: of the queries)
    seed: int = 0  # kind share: of the hash
    column: str | None = None  # kinds values and time
    values: tuple[str | int | float | bool, ...] = ()  # kind values: these validate
    threshold: int | float | None = (
        None  # kind time: rows at or after it validate (times: ticks of the column's unit since 1970)
    )


def split_rows(split: Split, table: pa.Table, keys: np.ndarray) -> np.ndarray:
    """(rows,) uint8: TRAIN or VALIDATION for each row of `table`, which has the split's column; `keys` are uint64.

    A row whose time or value is missing trains.
    """
    rows = len(keys)
    if split.kind == "none":
        return np.full(rows, TRAIN, dtype=np.uint8)
    if split.kind == "all_validation":
        return np.full(rows, VALIDATION, dtype=np.uint8)
    if split.kind == "share":
        validating = chosen(keys, split.seed, split.share)
    elif split.kind == "values":
        column = decoded(table.column(str(split.column)))
        held_out = pc.is_in(column, value_set=values_as(split, column.type))
        validating = held_out.combine_chunks().to_numpy(zero_copy_only=False)
    else:
        times = time_values(table.column(str(split.column)))
        with np.errstate(invalid="ignore"):
            validating = times.values >= split.threshold
        validating &= ~times.missing
    return validating.astype(np.uint8)  # True is VALIDATION


def values_as(split: Split, kind: pa.DataType) -> pa.Array:
    """The split's values in the column's type; DataError for one that does not fit it."""
    fitting = [pa.array([], kind)]
    for value in split.values:
        try:
            fitting.append(pa.array([value]).cast(kind))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OverflowError):
            raise DataError(
                f"data.validation.values: {value!r} does not fit the column {split.column}, which is {kind}"
            ) from None
    return pa.concat_arrays(fitting)


def decoded(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The column without dictionaries and decimals: whole ones of up to 18 digits as int64, others as float64."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_decimal(column.type):
        whole = column.type.scale == 0 and column.type.precision <= 18
        column = column.cast(pa.int64() if whole else pa.float64())
    return column


@dataclass(frozen=True)
class Times:
    """A column by which rows can be ordered."""

    values: np.ndarray  # (rows,) int64 ticks since 1970 in the column's unit, or the column's own numbers
    missing: np.ndarray  # (rows,) bool


def is_time(kind: pa.DataType) -> bool:
    """Whether `time_values` can order rows by a column of this type."""
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    tests = (pa.types.is_timestamp, pa.types.is_date, pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal)
    return any(test(kind) for test in tests)


def time_values(column: pa.ChunkedArray) -> Times:
    """The order of the rows in time: timestamps and dates as ticks of their own unit, so that no
    tick is lost by a conversion; numbers unchanged."""
    column = decoded(column)
    if pa.types.is_date(column.type):
        column = column.cast(pa.timestamp("ms"))  # a day or a millisecond, never rounded
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.int64())
    missing = pc.is_null(column, nan_is_null=True).combine_chunks().to_numpy(zero_copy_only=False)
    if column.null_count:
        column = column.fill_null(0)
    return Times(column.combine_chunks().to_numpy(zero_copy_only=False), missing)
