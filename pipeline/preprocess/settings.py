"""Resolves the job's settings for each column: kind and options, from exact names, patterns and the column's type."""

from collections.abc import Sequence
from typing import Literal

import pyarrow as pa

from pipeline.config.job import Column, Preprocess
from pipeline.config.names import listed, nearest, wildcard
from pipeline.errors import DataError, JobError

Kind = Literal["number", "category", "time", "missing", "drop"]  # missing: a column without a type, all null

FLOAT32_MAX = 3.4028234663852886e38
COLUMN_OPTIONS: dict[str, Kind] = {  # the options of a column, and the kind of column they are for
    "impute": "number",
    "indicator": "number",
    "clip": "number",
    "log1p": "number",
    "standardise": "number",
    "encoding": "category",
    "parts": "time",
}


def column_settings(preprocess: Preprocess, names: Sequence[str]) -> dict[str, Column]:
    """The options of each feature column: an exact name wins over patterns, the first pattern over later ones.

    JobError where a name or pattern fits no feature (with the nearest one), or a clip is upside down.
    """
    chosen = {name: preprocess.columns[name] for name in names if name in preprocess.columns}
    for pattern, column in preprocess.columns.items():
        if column.clip is not None and column.clip[0] >= column.clip[1]:
            low, high = column.clip
            raise JobError(f"preprocess.columns.{pattern}.clip = [{low}, {high}]: the lowest value comes first")
        _check_finite(pattern, column)
        matching = [name for name in names if wildcard(pattern).fullmatch(name)]
        if pattern not in names and not matching:
            raise JobError(f"preprocess.columns: {pattern!r} fits no feature{_nearest(pattern, names)}")
        for name in matching:
            chosen.setdefault(name, column)
    return {name: chosen.get(name, Column()) for name in names}


def _check_finite(pattern: str, column: Column) -> None:
    """JobError where an option replaces values by others that float32 features cannot hold."""
    for option, values in (("clip", column.clip or ()), ("impute", (column.impute,))):
        for value in values:
            if isinstance(value, (int, float)) and abs(value) > FLOAT32_MAX:
                raise JobError(
                    f"preprocess.columns.{pattern}.{option}: {value:g} is beyond float32, whose largest value is 3.4e38"
                )


def kind_of(name: str, setting: Column, dtype: pa.DataType, *, exact: bool = False) -> Kind:
    """The kind of a column: the job's, else the kind implied by its options, else by its type.

    DataError where the type cannot be that; JobError where an `exact`ly named column has options that do not apply.
    """
    if setting.kind == "drop":
        return "drop"
    given = [option for option in COLUMN_OPTIONS if option in setting.model_fields_set]
    kind: Kind = _natural(name, dtype) if setting.kind == "auto" else setting.kind
    if kind != "missing" and setting.kind == "auto" and setting.encoding != "auto":
        kind = "category"
    if pa.types.is_null(dtype):
        return "missing"
    for option in given if exact else ():
        if COLUMN_OPTIONS[option] != kind:
            raise JobError(
                f"preprocess.columns.{name}.{option}: is for a {COLUMN_OPTIONS[option]}; this column is a {kind}"
            )
    if kind == "number" and _is_calendar(dtype):
        raise DataError(f'column {name!r} is {dtype}, no number; use kind = "time", e.g. with parts = ["epoch"]')
    if kind == "time" and not (_is_calendar(dtype) or is_text(_values(dtype))):
        raise DataError(f"column {name!r} is {dtype}, no date, timestamp or text of one")
    return kind


def is_text(dtype: pa.DataType) -> bool:
    """Whether values of this type are strings."""
    return pa.types.is_string(dtype) or pa.types.is_large_string(dtype) or pa.types.is_string_view(dtype)


def _natural(name: str, dtype: pa.DataType) -> Kind:
    """The kind of a column by its type alone."""
    if pa.types.is_null(dtype):
        return "missing"
    if pa.types.is_dictionary(dtype) or is_text(dtype):
        return "category"
    if _is_calendar(dtype):
        return "time"
    types = pa.types
    if types.is_boolean(dtype) or types.is_integer(dtype) or types.is_floating(dtype) or types.is_decimal(dtype):
        return "number"
    if types.is_time(dtype) or types.is_duration(dtype):
        return "number"
    raise DataError(f"column {name!r} is {dtype}, which no feature can be made of; add it to data.exclude")


def _is_calendar(dtype: pa.DataType) -> bool:
    return bool(pa.types.is_date(dtype) or pa.types.is_timestamp(dtype))


def _values(dtype: pa.DataType) -> pa.DataType:
    return dtype.value_type if pa.types.is_dictionary(dtype) else dtype


def _nearest(name: str, names: Sequence[str]) -> str:
    near = nearest(name.replace("*", "").replace("?", ""), names)
    return f"; did you mean {listed(map(repr, near), 'or')}?" if near else ""
