"""Infers the types of CSV columns: the types in each block, joined by rules that do not depend on where blocks are cut.

A whole number with a leading zero, or beyond int64, is a name made of digits: as a number it would be another name, or
would lose digits.  So a column that holds one is text, unless the job or a model declares it a number.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from pipeline.data.formats.csv_blocks import CsvBlock
from pipeline.data.schema.hints import ColumnHints
from pipeline.data.schema.schema_merge import common

BEYOND_INT64 = pa.decimal128(38, 0)  # placeholder for whole numbers beyond int64, until all files are read
_SAMPLED = 256  # values of a block that show whether a column is text throughout
_ALL = 1_024  # up to this many values are tested one by one
_MOSTLY = 0.9  # a column with at least this share of numbers, or of times, is meant as that type
_END = r"[ \t]*$"
_WHOLE = r"^[ \t]*[+-]?\d+" + _END
_PADDED = r"^[ \t]*[+-]?0(?:\d+|[xX][0-9a-fA-F]+)" + _END
_TIME = r"^\d{4}-\d\d-\d\d(?:[ T]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:?\d\d)?)?" + _END
_OTHER_POINT = {".": r"^[ \t]*[+-]?\d*,(?:\d{1,2}|\d{4,})" + _END, ",": r"^[ \t]*[+-]?\d*\.\d+" + _END}


@dataclass(frozen=True)
class Tally:
    """How many values of a column are numbers and times; the lines are numbered from 0 in the piece."""

    values: int = 0  # not missing
    numbers: int = 0
    times: int = 0
    commas: int = 0  # of values that are neither: numbers with a comma for the decimal point, or the reverse
    pointed: bool = False  # a number has a fraction with the job's decimal point
    no_number: int | None = None  # line of the first value that is no number
    no_time: int | None = None
    padded: int | None = None  # line of the first whole number with a leading zero

    def after(self, line: int) -> "Tally":
        """The same with `line` lines before it."""
        if not line:
            return self
        places = (None if place is None else place + line for place in self._lines())
        return Tally(self.values, self.numbers, self.times, self.commas, self.pointed, *places)

    def __add__(self, other: "Tally") -> "Tally":
        """Both together, the lines of `other` behind those of `self`."""
        return Tally(
            self.values + other.values,
            self.numbers + other.numbers,
            self.times + other.times,
            self.commas + other.commas,
            self.pointed or other.pointed,
            *(a if a is not None else b for a, b in zip(self._lines(), other._lines(), strict=True)),
        )

    def _lines(self) -> tuple[int | None, ...]:
        return self.no_number, self.no_time, self.padded


@dataclass(frozen=True)
class PieceSummary:
    """What one piece holds."""

    kinds: dict[str, pa.DataType] = field(default_factory=dict)
    tallies: dict[str, Tally] = field(default_factory=dict)
    rows: int = 0
    lines: int = 0

    def behind(self, lines: int) -> "PieceSummary":
        """The same with `lines` lines before the piece that belong to no piece."""
        tallies = {name: tally.after(lines) for name, tally in self.tallies.items()}
        return replace(self, tallies=tallies, lines=self.lines + lines)


def join(left: pa.DataType, right: pa.DataType) -> pa.DataType:
    """The type for texts of both types; text holds everything.  Associative and commutative."""
    if left == right or pt.is_null(right):
        return left
    if pt.is_null(left):
        return right
    if any(pt.is_boolean(kind) or kind == pa.string() for kind in (left, right)):
        return pa.string()
    return common(left, right) or pa.string()


def look(blocks: Iterable[CsvBlock], wanted: list[str], counted: str, hints: ColumnHints) -> PieceSummary:
    """The types of the wanted columns of a piece, and its rows; without any, `counted` is the column to count by."""
    kinds: dict[str, pa.DataType] = dict.fromkeys(wanted, pa.null())
    tallies = dict.fromkeys(wanted, Tally())
    rows = lines = 0
    numbers = {name for name in wanted if hints.is_number(name)}
    for block in blocks:
        table = block.parse({}, wanted) if wanted else block.texts([counted])
        rows += table.num_rows
        if wanted and table.num_rows:
            for name, (kind, tally) in _look(block, table, numbers, tallies).items():
                kinds[name] = join(kinds[name], kind)
                later = tally.after(lines)
                tallies[name] = later if rows == table.num_rows else tallies[name] + later  # often there is one block
        lines += block.content.count(b"\n")
    return PieceSummary(kinds, tallies, rows, lines)


def settle(kind: pa.DataType, is_number: bool) -> pa.DataType:
    """The type that a column is read as, once all files have been read."""
    if kind != BEYOND_INT64:
        return kind
    return pa.float64() if is_number else pa.string()


def _look(
    block: CsvBlock, table: pa.Table, numbers: set[str], before: dict[str, Tally]
) -> dict[str, tuple[pa.DataType, Tally]]:
    """Type and tally of each column of one block; places that earlier blocks gave are not searched for."""
    found = {}
    free = [item.name for item in table.schema if item.name not in numbers]
    padded = _padded(block, table, free)
    beyond = _beyond_int64(block, table)
    for item in table.schema:
        column = table.column(item.name)
        tally = _tally(block, column, before[item.name], exact=item.name in numbers)
        kind = pa.string() if pt.is_time(item.type) or pt.is_duration(item.type) else item.type
        if item.name in padded:
            kind, tally = pa.string(), replace(tally, padded=block.line_of(padded[item.name]))
        elif item.name in beyond:
            kind = BEYOND_INT64
        found[item.name] = (kind, tally)
    return found


def _padded(block: CsvBlock, table: pa.Table, names: list[str]) -> dict[str, int]:
    """The columns in which Arrow has read whole numbers with leading zeros as numbers, with the first such row."""
    names = [name for name in names if _is_number(table.schema.field(name).type)]
    if not names or not block.may_be_padded():
        return {}
    found = {name: _matches(column, _PADDED) for name, column in zip(names, block.texts(names).columns, strict=True)}
    rows = {name: pc.index(matches, True).as_py() for name, matches in found.items()}
    return {name: row for name, row in rows.items() if row >= 0}


def _beyond_int64(block: CsvBlock, table: pa.Table) -> set[str]:
    """The columns of whole numbers with a value beyond int64."""
    names = []
    for item in table.schema:
        if pt.is_floating(item.type) and not _is_fraction(table.column(item.name)[0].as_py()):
            ends = pc.min_max(table.column(item.name)).as_py()
            if ends["min"] is not None and max(-ends["min"], ends["max"]) >= 2.0**63:
                names.append(item.name)
    texts = block.texts(names) if names else None
    return {name for name in names if texts is not None and pc.all(_matches(texts.column(name), _WHOLE)).as_py()}


def _is_fraction(value: float | None) -> bool:
    """Whether a column with this value is surely not of whole numbers; far cheaper than its smallest and largest."""
    return value is not None and math.isfinite(value) and value % 1 != 0


def _is_number(kind: pa.DataType) -> bool:
    return bool(pt.is_integer(kind) or pt.is_floating(kind))


def _tally(block: CsvBlock, column: pa.ChunkedArray, before: Tally, exact: bool) -> Tally:
    """The numbers and times of one column; with `exact` even if most values are neither."""
    values = len(column) - column.null_count
    kind = column.type
    if not values:
        return Tally()
    if pt.is_string(kind) and (exact or not _is_text(column, block.options.decimal)):
        return _tally_texts(block, column, before, values)
    numbers = values if _is_number(kind) else 0
    times = values if pt.is_date(kind) or pt.is_timestamp(kind) else 0
    no_number = before.no_number is None and not numbers
    no_time = before.no_time is None and not times
    first = None
    if no_number or no_time:
        first = _line(block, column.is_valid()) if column.null_count else block.line_of(0)
    return Tally(
        values,
        numbers,
        times,
        pointed=pt.is_floating(kind),
        no_number=first if no_number else None,
        no_time=first if no_time else None,
    )


def _tally_texts(block: CsvBlock, column: pa.ChunkedArray, before: Tally, values: int) -> Tally:
    decimal = block.options.decimal
    number, time = _matches(column, _number(decimal)), _matches(column, _TIME)
    return Tally(
        values=values,
        numbers=pc.sum(number).as_py() or 0,
        times=pc.sum(time).as_py() or 0,
        commas=pc.sum(_matches(column, _OTHER_POINT[decimal])).as_py() or 0,
        pointed=bool(pc.any(pc.and_(number, pc.match_substring(column, decimal))).as_py()),
        no_number=_line(block, pc.invert(number)) if before.no_number is None else None,
        no_time=_line(block, pc.invert(time)) if before.no_time is None else None,
    )


def _is_text(column: pa.ChunkedArray, decimal: str) -> bool:
    """Whether most of a few evenly spaced values are neither numbers nor times."""
    if len(column) <= _ALL:
        return False
    step = len(column) // _SAMPLED
    sample = column.take(pa.array(range(0, len(column), step))).drop_null()
    like = sum(
        pc.sum(_matches(sample, pattern)).as_py() or 0 for pattern in (_number(decimal), _TIME, _OTHER_POINT[decimal])
    )
    return 2 * like < len(sample)


def _number(decimal: str) -> str:
    point = r"\." if decimal == "." else decimal
    return rf"^[ \t]*[+-]?(?:(?:\d+{point}?\d*|{point}\d+)(?:[eE][+-]?\d+)?|(?i:nan|inf|infinity))" + _END


def _matches(column: pa.ChunkedArray, pattern: str) -> pa.ChunkedArray:
    return pc.match_substring_regex(column, pattern)


def _line(block: CsvBlock, mask: pa.ChunkedArray) -> int | None:
    """The line of the first row where the mask is True."""
    row = pc.index(mask, True).as_py()
    return None if row < 0 else block.line_of(row)


def mostly(part: int, tally: Tally) -> bool:
    """Whether nearly all of a column's values are of this kind: `part` of those in `tally`."""
    return part < tally.values and part >= _MOSTLY * tally.values
