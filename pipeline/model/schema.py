"""Checks whether data fit a model: every column is present, with the kind it had in training."""

import re
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.types as pt

from pipeline.config.names import listed, nearest, separator_hint
from pipeline.data import tabular
from pipeline.data.schema.schema_merge import has_zone, no_value, zones_differ
from pipeline.errors import DataError, SourceError
from pipeline.model.manifest import NamedType

_PARAMETRIC = re.compile(r"(\w+)[\[(](.*)[\])]")
_ALIASES = {
    "date32[day]": "date32",
    "date64[ms]": "date64",
    "float": "float32",
    "double": "float64",
    "halffloat": "float16",
}


def check_schema(columns: Sequence[NamedType], schema: pa.Schema, copied: Collection[str] = ()) -> None:
    """DataError naming the first column that is missing or of another kind than in training.

    Kinds are numbers, texts, times with a zone, and times without one: widths and units may differ, dictionaries have
    the kind of their values, a column without any value, now or in training, fits every kind, and so does a column that
    is only `copied`.  Further columns are ignored.
    """
    known = set(schema.names)
    for column in columns:
        if column.name not in known:
            used = {other.name for other in columns}
            near = nearest(column.name, (name for name in schema.names if name not in used))
            hint = (
                f"; did you mean {listed(map(repr, near), 'or')} to be that column?"
                if near
                else separator_hint(schema.names)
            )
            raise DataError(
                f"the data lack the column {column.name!r} ({column.type}) that the model was trained on{hint}"
            )
        found = schema.field(column.name).type
        if column.name not in copied and not _fits(_arrow_type(column.type), found):
            differ = zones_differ(_arrow_type(column.type), found)
            hint = "; times with and without a zone cannot be compared" if differ else ""
            raise DataError(f"column {column.name!r} is {found}, the model was trained on {column.type}{hint}")


def misfits(columns: Sequence[NamedType], schema: pa.Schema, copied: Collection[str] = ()) -> dict[str, pa.DataType]:
    """The columns of another kind than in training, with the types that they had there."""
    known = {item.name: item.type for item in schema}
    types = {column.name: _arrow_type(column.type) for column in columns if column.name in known}
    return {name: kind for name, kind in types.items() if name not in copied and not _fits(kind, known[name])}


def _arrow_type(text: str) -> pa.DataType:
    """The Arrow type that `str(type)` gave this text; ValueError for a type that no model reads."""
    text = _ALIASES.get(text, text)
    if text.startswith("dictionary<"):
        return pa.string()  # read as its texts
    found = _PARAMETRIC.fullmatch(text)
    if found is None:
        return pa.type_for_alias(text)
    name, arguments = found[1], [part.strip() for part in found[2].split(",")]
    if name == "timestamp":
        zone = arguments[1].removeprefix("tz=") if len(arguments) > 1 else None
        return pa.timestamp(arguments[0], tz=zone)
    if name in ("time32", "time64", "duration"):
        return pa.type_for_alias(f"{name}[{arguments[0]}]")
    if name.startswith("decimal"):
        return getattr(pa, name)(int(arguments[0]), int(arguments[1]))
    raise ValueError(f"no type of a model's column: {text}")


def type_name(dtype: pa.DataType) -> str:
    """The text that `_arrow_type` reads: a dictionary gives the type of its values."""
    return str(dtype.value_type if pt.is_dictionary(dtype) else dtype)


def schema_of(columns: Sequence[NamedType]) -> pa.Schema:
    """The columns as an Arrow schema."""
    return pa.schema([pa.field(column.name, _arrow_type(column.type)) for column in columns])


def to_table(data: Any, columns: Sequence[NamedType], names: Sequence[str] | None = None) -> pa.Table:
    """A table with the model's columns, from rows in memory, checked.

    An Arrow table, a pandas or Polars frame, a mapping of names to columns or to the values of one row, a list of such
    rows, or a 2-D array whose columns are `names`, or else the model's in their order.  DataError where it does not
    fit.
    """
    table = _as_table(data, [column.name for column in columns], names)
    for name, kind in misfits(columns, table.schema).items():
        if table.num_rows and no_value(table.column(name)):
            place = table.schema.get_field_index(name)
            table = table.set_column(place, name, pa.nulls(table.num_rows, kind))
    check_schema(columns, table.schema)
    table = table.select([column.name for column in columns])
    for index, column in enumerate(columns):
        if pt.is_null(table.schema.field(index).type):
            table = table.set_column(index, column.name, table.column(index).cast(_arrow_type(column.type)))
    return table


def _as_table(data: Any, needed: list[str], names: Sequence[str] | None) -> pa.Table:
    if isinstance(data, np.ndarray) and data.dtype.names is None and names is None:
        if data.ndim != 2 or data.shape[1] != len(needed):
            row = "; one row is array.reshape(1, -1)" if data.shape == (len(needed),) else ""
            raise DataError(
                f"an array of shape {data.shape}: the model needs (rows, {len(needed)}): {', '.join(needed)}{row}"
            )
        names = needed
    try:
        return tabular.to_table(data, "the data", names=names, only=set(needed))
    except SourceError as error:
        raise DataError(str(error)) from None


def _fits(trained: pa.DataType, found: pa.DataType) -> bool:
    return pt.is_null(found) or pt.is_null(trained) or _kind(trained) == _kind(found)


def _kind(dtype: pa.DataType) -> str:
    if pt.is_dictionary(dtype):
        return _kind(dtype.value_type)
    if pt.is_integer(dtype) or pt.is_floating(dtype) or pt.is_decimal(dtype) or pt.is_boolean(dtype):
        return "number"
    if pt.is_string(dtype) or pt.is_large_string(dtype) or pt.is_string_view(dtype):
        return "text"
    if (zone := has_zone(dtype)) is not None:
        return "time with a zone" if zone else "time"
    return str(dtype)
