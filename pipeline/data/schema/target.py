"""Encodes the target: the kind of task, its classes, and labels as float32."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.data.split import decoded
from pipeline.errors import DataError

Kind = Literal["binary", "multiclass", "regression", "ranking"]
ValueKind = Literal["bool", "int", "float", "text", "other"]
ClassValue = str | int | float | bool
EXACT_FLOAT64 = 2**53  # below it float64 distinguishes all integers


@dataclass(frozen=True)
class Target:
    """The column to predict, and the task it implies."""

    column: str
    kind: Kind
    objective: str  # an XGBoost objective
    classes: tuple[ClassValue, ...] = ()  # sorted; binary: (negative, positive); empty unless classification
    rows: tuple[int, ...] = ()  # rows per class, in the order of `classes`


def value_kind(kind: pa.DataType) -> ValueKind:
    """The kind of a column's values as labels; "other" (times, binary, ...) cannot be labels."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_boolean(kind):
        return "bool"
    if pa.types.is_integer(kind):
        return "int"
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return "float"
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return "text"
    return "other"


def class_value(value: ClassValue) -> ClassValue:
    """The name of a class as it is stored: 1.0 is 1."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def encode_labels(target: Target, column: pa.ChunkedArray) -> np.ndarray:
    """(rows,) float32 labels, NaN where missing; for classification the index of the class.

    No copy is made of float32 values, and the result may be read-only.  DataError for values that are not among the
    classes, for text where numbers are needed, and for numbers too large for float32.
    """
    column = decoded(column)
    kind = value_kind(column.type)
    if target.classes:
        return _class_indices(target, column, kind)
    if kind in ("text", "other"):
        raise DataError(f"the target {target.column} is {column.type}, and {target.objective} needs numbers")
    values = _numbers(column)
    if values.dtype == np.float32:
        return values
    with np.errstate(over="ignore"):
        labels = values.astype(np.float32)
    if (np.isinf(labels) & np.isfinite(values)).any():
        raise DataError(f"the target {target.column} holds numbers beyond float32 (3.4e38)")
    return labels


def _class_indices(target: Target, column: pa.ChunkedArray, kind: ValueKind) -> np.ndarray:
    text = isinstance(target.classes[0], str)
    if kind == "other" or text != (kind == "text"):
        raise DataError(
            f"the target {target.column} is {column.type}, and the classes are {'text' if text else 'numbers'}"
        )
    if text:
        found = pc.index_in(column, value_set=pa.array(target.classes, type=column.type))
        unknown = found.null_count - column.null_count
        labels = found.cast(pa.float32()).fill_null(np.nan).combine_chunks().to_numpy(zero_copy_only=False)
    elif kind == "int" and not all(-EXACT_FLOAT64 < name < EXACT_FLOAT64 for name in target.classes):  # type: ignore[operator]
        labels, unknown = _large_indices(target.classes, column)
    else:
        values = _numbers(column)
        if target.classes == (0, 1) and values.dtype == np.float32:
            labels = values  # the labels are the values already
            unknown = len(values) - int(np.count_nonzero((values == 0) | (values == 1) | np.isnan(values)))
        else:
            labels = np.full(len(values), np.nan, dtype=np.float32)
            for index, name in enumerate(target.classes):
                if float(name) == name:  # no float equals an integer that float64 cannot represent
                    labels[values == name] = index
            unknown = int(np.count_nonzero(np.isnan(labels) & ~np.isnan(values)))
    if unknown:
        raise DataError(
            f"the target {target.column} holds values that are none of its {len(target.classes)} classes, in {unknown} rows"
        )
    return labels


def _large_indices(classes: tuple[ClassValue, ...], column: pa.ChunkedArray) -> tuple[np.ndarray, int]:
    """(the class index of each row, (rows,) float32, NaN where missing; rows of no class) of integers beyond float64's.

    Compares as integers: float64 would merge neighbouring classes.
    """
    ends = np.iinfo(column.type.to_pandas_dtype())
    held = [index for index, name in enumerate(classes) if isinstance(name, int) and ends.min <= name <= ends.max]
    found = pc.index_in(column, value_set=pa.array([classes[index] for index in held], column.type))
    places = found.fill_null(len(held)).combine_chunks().to_numpy()
    unknown = found.null_count - column.null_count
    return np.array([*held, np.nan], dtype=np.float32)[places], unknown


def _numbers(column: pa.ChunkedArray) -> np.ndarray:
    """A column of numbers or booleans with NaN for missing; float32 is kept, other types become float64."""
    if column.type != pa.float32() and column.type != pa.float64():
        column = column.cast(pa.float64(), safe=False) if not pa.types.is_boolean(column.type) else _of_booleans(column)
    if column.null_count:
        column = column.fill_null(np.nan)
    array = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    return array.to_numpy(zero_copy_only=False)


def _of_booleans(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return column.cast(pa.uint8()).cast(pa.float64())
