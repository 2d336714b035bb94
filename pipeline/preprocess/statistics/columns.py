"""Converts Arrow columns to NumPy arrays: numbers, texts as codes, times as seconds.

The result depends on the values alone: not on chunks, on the width of an integer, nor on whether texts are
strings or dictionaries; so a single row gives the same result as within a million.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.preprocess.settings import is_text

Float = npt.NDArray[np.float32] | npt.NDArray[np.float64]
type Column = pa.Array | pa.ChunkedArray

_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}


class ConversionError(ValueError):
    """Values that do not match the column's declared kind; the message holds none of them."""


def numbers(column: Column, dtype: type[np.float32] | type[np.float64] = np.float32) -> Float:
    """(rows,) of `dtype`, NaN where missing; a view of the Arrow memory where type and nulls allow (read-only then).

    float32 holds integers exactly up to 16,777,216.  Values beyond float32's range become infinite in float32.
    Times of day and durations become seconds.
    """
    array = _combined(column)
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    kind = array.type
    if pa.types.is_null(kind):
        return _as(np.full(len(array), np.nan), dtype)
    if is_text(kind) or pa.types.is_decimal(kind):
        array = _cast(array, pa.float64(), "numbers")
    elif pa.types.is_boolean(kind):
        array = array.cast(pa.uint8())
    elif pa.types.is_time(kind) or pa.types.is_duration(kind):
        ticks = array.cast(pa.int32() if pa.types.is_time32(kind) else pa.int64())
        return _as(numbers(ticks, np.float64) / _PER_SECOND[kind.unit], dtype)
    elif not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        raise ConversionError(f"is {kind}, no number")
    with np.errstate(over="ignore"):  # float64 beyond float32
        if array.null_count == 0 or pa.types.is_floating(array.type):
            return _as(array.to_numpy(zero_copy_only=False), dtype)
        values = _as(array.fill_null(0).to_numpy(), dtype)  # a copy: integers
        values[array.is_null().to_numpy(zero_copy_only=False)] = np.nan
        return values


def texts(column: Column) -> tuple[npt.NDArray[np.int64], pa.Array]:
    """Codes (rows,) int64 and the distinct texts they count (large_string); the code after the last means missing.

    Numbers are written the same whatever their type: 5, 5.0 and decimal 5.00 are "5"; NaN is missing.
    """
    if isinstance(column, pa.ChunkedArray) and pa.types.is_dictionary(column.type) and column.num_chunks > 1:
        column = column.unify_dictionaries()
    array = _combined(column)
    if pa.types.is_null(array.type):
        return np.zeros(len(array), dtype=np.int64), pa.array([], pa.large_string())
    if not pa.types.is_dictionary(array.type):
        array = array.dictionary_encode()
    words = _written(array.dictionary).dictionary_encode()  # distinct again: 5 and 5.0 have become one
    missing = len(words.dictionary)
    lookup = np.append(words.indices.fill_null(missing).to_numpy(), missing).astype(np.int64)
    codes = array.indices.cast(pa.int64()).fill_null(len(array.dictionary)).to_numpy()
    return lookup[codes], words.dictionary


def seconds(column: Column) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_] | None]:
    """Seconds since 1970 (rows,) int64, rounded down, UTC where there is a zone; and a mask of missing values, or None."""
    array = _combined(column)
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    kind = array.type
    if pa.types.is_null(kind):
        return np.zeros(len(array), dtype=np.int64), np.ones(len(array), dtype=np.bool_)
    if is_text(kind):
        array = _cast(array, pa.timestamp("us"), "times")
        kind = array.type
    missing = array.is_null().to_numpy(zero_copy_only=False) if array.null_count else None
    if pa.types.is_date32(kind):
        return _integers(array, pa.int32()) * 86_400, missing
    if pa.types.is_date64(kind):
        return _integers(array, pa.int64()) // 1_000, missing
    if pa.types.is_timestamp(kind):
        return _integers(array, pa.int64()) // _PER_SECOND[kind.unit], missing
    raise ConversionError(f"is {kind}, no date or timestamp")


def _as(values: npt.NDArray[Any], dtype: type[np.float32] | type[np.float64]) -> Float:
    return np.asarray(values, dtype=dtype)


def _combined(column: Column) -> pa.Array:
    if not isinstance(column, pa.ChunkedArray):
        return column
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _integers(array: pa.Array, dtype: pa.DataType) -> npt.NDArray[np.int64]:
    found: npt.NDArray[np.int64] = array.cast(dtype).fill_null(0).to_numpy().astype(np.int64, copy=False)
    return found


def _cast(array: pa.Array, dtype: pa.DataType, what: str) -> pa.Array:
    try:
        return array.cast(dtype)
    except pa.ArrowInvalid:
        # Arrow's message holds the value itself: row data
        raise ConversionError(f"holds values that cannot be read as {what}") from None


def _written_times(values: pa.Array) -> pa.Array:
    """In microseconds, whatever their unit; times beyond the range of microseconds as Arrow writes their own ticks."""
    per_second = _PER_SECOND[values.type.unit]
    most = (2**63 - 1) // (1_000_000 // per_second) if per_second < 1_000_000 else 2**63 - 1
    ticks = values.cast(pa.int64())
    held = pc.and_(pc.less_equal(ticks, most), pc.greater_equal(ticks, -most))
    near = pc.if_else(held, values, pa.scalar(None, values.type))
    written = near.cast(pa.timestamp("us"), safe=False).cast(pa.large_string())
    return pc.if_else(held, written, values.cast(pa.large_string()))


def _written(values: pa.Array) -> pa.Array:
    """Distinct values as large_string; null where NaN."""
    kind = values.type
    if is_text(kind) or pa.types.is_boolean(kind) or pa.types.is_integer(kind):
        return values.cast(pa.large_string())
    if pa.types.is_decimal(kind):
        values = values.cast(pa.float64())
    if pa.types.is_timestamp(values.type):
        return _written_times(values)
    if not pa.types.is_floating(values.type):
        return values.cast(pa.large_string())
    plain = values.to_numpy(zero_copy_only=False)
    with np.errstate(invalid="ignore"):
        whole = (np.abs(plain) < 2.0**53) & (np.floor(plain) == plain)
        integers = pa.array(plain.astype(np.int64)).cast(pa.large_string())
    written = pc.if_else(pa.array(whole), integers, values.cast(pa.large_string()))
    return pc.if_else(pa.array(np.isnan(plain)), pa.scalar(None, pa.large_string()), written)
