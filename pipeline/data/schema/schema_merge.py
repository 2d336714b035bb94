"""Unifies the schemas of files that drift into one schema, if no value is lost by it.

| left and right              | common type                                                             |
|-----------------------------|-------------------------------------------------------------------------|
| null and anything           | the other one; a column absent from a file is null there                |
| integers                    | the smallest integer type that holds both                               |
| integer and float           | float64; integers beyond 2^53 are refused when they are read            |
| decimals, decimal and int   | a decimal that holds both, up to 76 digits; with a float: float64       |
| dictionaries, others        | what they hold; dictionaries (categories) where all files have the same |
| dates, times without zone   | a time in the finer unit                                                |
| times with zones            | a time in UTC: the same instants; never with dates or times without one |

Other combinations are an error that names file, column and both types.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.types as pt

from pipeline.config.names import matches
from pipeline.errors import SourceError

TEXT_CODES = pa.dictionary(pa.int32(), pa.string())
ABSENT = "absent"  # the type of a column in files that lack it
_UNITS = ("s", "ms", "us", "ns")
_PANDAS_INDEX = re.compile(r"__index_level_\d+__")


@dataclass(frozen=True)
class Drift:
    """A column that does not have the same type in all files."""

    column: str
    types: tuple[tuple[str, int, str], ...]  # (type or "absent", how many files, the first of them)
    read_as: str

    def __str__(self) -> str:
        kinds = (f"{kind} in {files(count)}" for kind, count, _ in self.types)
        return f"{self.column} ({', '.join(kinds)}; read as {self.read_as})"

    @property
    def absent(self) -> tuple[int, str] | None:
        """(how many files lack the column, the first of them); None where all have it."""
        return next(((count, first) for kind, count, first in self.types if kind == ABSENT), None)


def files(count: int) -> str:
    """A number of files, as text."""
    return "1 file" if count == 1 else f"{count:,} files"


def normalise(kind: pa.DataType) -> pa.DataType | None:
    """The type rows are read as: fewer variants than Arrow has; None for types that are refused."""
    if pt.is_string(kind) or pt.is_large_string(kind) or pt.is_string_view(kind):
        return pa.string()
    if pt.is_dictionary(kind):
        inner = normalise(kind.value_type)
        if inner is None or pt.is_temporal(inner) or pt.is_null(inner):
            return inner
        return pa.dictionary(pa.int32(), inner)  # of numbers too: a categorical was intended
    if pt.is_float16(kind):
        return pa.float32()
    if pt.is_date(kind):
        return pa.date32()
    if pt.is_run_end_encoded(kind):
        return normalise(kind.value_type)
    plain = pt.is_integer, pt.is_floating, pt.is_decimal, pt.is_boolean, pt.is_timestamp, pt.is_null
    return kind if any(check(kind) for check in plain) else None


def common(left: pa.DataType, right: pa.DataType) -> pa.DataType | None:
    """The type that holds every value of both normalised types; None where there is none."""
    if left == right or pt.is_null(right):
        return left
    if pt.is_null(left):
        return right
    if pt.is_dictionary(left) or pt.is_dictionary(right):
        return common(*(kind.value_type if pt.is_dictionary(kind) else kind for kind in (left, right)))
    if pt.is_integer(left) and pt.is_integer(right):
        return _common_integer(left, right)
    if (pt.is_integer(left) or pt.is_floating(left)) and (pt.is_integer(right) or pt.is_floating(right)):
        return pa.float64()
    if pt.is_decimal(left) or pt.is_decimal(right):
        return _common_decimal(left, right)
    return _common_time(left, right)


def is_text(kind: pa.DataType) -> bool:
    """Whether a normalised type is that of texts."""
    return kind in (pa.string(), TEXT_CODES)


def has_zone(kind: pa.DataType) -> bool | None:
    """Whether times of this type are instants: dates and times without a zone are not; None for types other than times."""
    kind = kind.value_type if pt.is_dictionary(kind) else kind
    if pt.is_timestamp(kind):
        return kind.tz is not None
    return False if pt.is_date(kind) else None


def zones_differ(left: pa.DataType, right: pa.DataType) -> bool:
    """Whether both are times, and only one of them has a zone: the instants of the other's values are unknown."""
    return {has_zone(left), has_zone(right)} == {True, False}


Join = Callable[[pa.DataType, pa.DataType], pa.DataType | None]


def _common_integer(left: pa.DataType, right: pa.DataType) -> pa.DataType | None:
    if pt.is_signed_integer(left) == pt.is_signed_integer(right):
        return max(left, right, key=lambda kind: kind.bit_width)
    signed, unsigned = (left, right) if pt.is_signed_integer(left) else (right, left)
    bits = max(signed.bit_width, 2 * unsigned.bit_width)
    return {16: pa.int16(), 32: pa.int32(), 64: pa.int64()}.get(bits)


def _common_decimal(left: pa.DataType, right: pa.DataType) -> pa.DataType | None:
    if pt.is_floating(left) or pt.is_floating(right):
        return pa.float64()
    digits, scale = 0, 0
    for kind in (left, right):
        if pt.is_integer(kind):
            digits = max(digits, len(str(2**kind.bit_width)))
        elif pt.is_decimal(kind):
            digits, scale = max(digits, kind.precision - kind.scale), max(scale, kind.scale)
        else:
            return None
    if digits + scale > 76:
        return None
    return pa.decimal128(digits + scale, scale) if digits + scale <= 38 else pa.decimal256(digits + scale, scale)


def _common_time(left: pa.DataType, right: pa.DataType) -> pa.DataType | None:
    kinds = [kind for kind in (left, right) if pt.is_timestamp(kind)]
    if not kinds or not all(pt.is_timestamp(kind) or pt.is_date(kind) for kind in (left, right)):
        return None
    zones = {kind.tz if pt.is_timestamp(kind) else None for kind in (left, right)}
    if zones_differ(left, right):
        return None
    unit = max((kind.unit for kind in kinds), key=_UNITS.index)
    return pa.timestamp(unit, zones.pop() if len(zones) == 1 else "UTC")


def unify(
    schemas: Sequence[tuple[str, pa.Schema]], exclude: Iterable[str] = (), join: Join = common
) -> tuple[pa.Schema, tuple[Drift, ...]]:
    """The schema of all files, in order of first appearance, and the columns that drift.

    `schemas`: (file, schema) of each; `join`: the common type of two.  Columns of a refused type are left out where a
    pattern of `exclude` matches them, else SourceError.  Columns that are null in every file keep the type null: the
    caller drops them.
    """
    refused: set[str] = set()
    found: dict[str, pa.DataType] = {}
    seen: dict[str, dict[str, list[str]]] = {}
    last: pa.Schema | None = None
    files_of: list[list[str]] = []  # of the last schema's columns
    for file, schema in schemas:
        if last is not None and schema.equals(last):  # nothing new, as in most files
            for of in files_of:
                of.append(file)
            continue
        last, files_of = schema, []
        _check_names(file, schema)
        for field in schema:
            kind = normalise(field.type)
            if kind is None:
                _refuse(file, field, exclude)
                refused.add(field.name)
                continue
            files_of.append(seen.setdefault(field.name, {}).setdefault(str(kind), []))
            files_of[-1].append(file)
            before = found.get(field.name)
            after = kind if before is None else join(before, kind)
            if after is None:
                first = next(iter(seen[field.name].items()))
                raise SourceError(
                    f"{file}: column {field.name!r} is {field.type} here but {first[0]} in {first[1][0]}; "
                    f"no type holds both without losing values"
                )
            found[field.name] = after
    unified = pa.schema([(name, kind) for name, kind in found.items() if name not in refused])
    return unified, _drifts(schemas, unified, seen)


def _check_names(file: str, schema: pa.Schema) -> None:
    if len(set(schema.names)) < len(schema.names):
        twice = next(name for name in schema.names if schema.names.count(name) > 1)
        raise SourceError(f"{file}: two columns are named {twice!r}")
    if "" in schema.names:
        raise SourceError(f"{file}: column {schema.names.index('') + 1} has no name")


def _refuse(file: str, field: pa.Field, exclude: Iterable[str]) -> None:
    if any(matches(pattern, field.name) for pattern in exclude):
        return
    raise SourceError(f"{file}: column {field.name!r} {unusable(field.type)}; leave it out with data.exclude")


def unusable(kind: pa.DataType) -> str:
    """The reason why columns of this type are refused."""
    return f"{'is nested' if pt.is_nested(kind) else 'has a type that cannot be used'}: {kind}"


def _drifts(
    schemas: Sequence[tuple[str, pa.Schema]], unified: pa.Schema, seen: dict[str, dict[str, list[str]]]
) -> tuple[Drift, ...]:
    drifts = []
    for field in unified:
        kinds = {kind: (len(files), files[0]) for kind, files in seen[field.name].items()}
        if sum(count for count, _ in kinds.values()) < len(schemas):
            absent = [file for file, schema in schemas if field.name not in schema.names]
            kinds[ABSENT] = len(absent), absent[0]
        if len(kinds) > 1:
            types = tuple((kind, count, first) for kind, (count, first) in kinds.items())
            drifts.append(Drift(field.name, types, str(field.type)))
    return tuple(drifts)


def is_pandas_index(name: str) -> bool:
    """Whether pandas wrote a frame's index under this name: a row number, not data."""
    return _PANDAS_INDEX.fullmatch(name) is not None


def conform(table: pa.Table, schema: pa.Schema, where: str) -> pa.Table:
    """The table with exactly the columns and types of `schema`; columns it lacks are null.

    SourceError where a value does not fit, naming `where` (the file) and the column, never the value.
    """
    if table.schema.equals(schema):
        return table
    columns = []
    for field in schema:
        place = table.schema.get_field_index(field.name)
        if place < 0:
            columns.append(pa.chunked_array([pa.nulls(table.num_rows, field.type)]))
            continue
        columns.append(_cast(table.column(place), field, where))
    return pa.table(columns, schema=schema) if columns else table.select([])  # which keeps the number of rows


def no_value(column: pa.ChunkedArray) -> bool:
    """Whether every value is null or NaN."""
    import pyarrow.compute as pc

    return column.null_count == len(column) or bool(
        pt.is_floating(column.type) and pc.all(pc.is_null(column, nan_is_null=True)).as_py()
    )


def _is_number(kind: pa.DataType) -> bool:
    return pt.is_integer(kind) or pt.is_floating(kind) or pt.is_decimal(kind) or pt.is_boolean(kind)


def _cast(column: pa.ChunkedArray, field: pa.Field, where: str) -> pa.ChunkedArray:
    if column.type == field.type:
        return column
    if not (_is_number(column.type) and _is_number(field.type)) and no_value(column):
        return pa.chunked_array([pa.nulls(len(column), field.type)])
    if zones_differ(column.type, field.type):  # Arrow would take times without a zone as UTC
        raise SourceError(
            f"{where}: column {field.name!r} is {column.type} here but {field.type} elsewhere; "
            f"times with and without a zone cannot be compared"
        )
    try:
        if pt.is_run_end_encoded(column.type):
            import pyarrow.compute as pc

            column = pc.run_end_decode(column)
        if pt.is_dictionary(column.type) and not pt.is_dictionary(field.type):
            column = column.cast(column.type.value_type)
        if pt.is_dictionary(field.type) and not pt.is_dictionary(column.type):
            column = column.cast(field.type.value_type).dictionary_encode()
        return column.cast(field.type)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise SourceError(
            f"{where}: column {field.name!r} holds {column.type} values that do not fit {field.type}, "
            f"the type all files have in common"
        ) from None
