"""Describes a source: columns, missing and distinct values, ranges, the target's balance, files that differ."""

import posixpath
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from pipeline.config.job import Data, Job
from pipeline.config.names import hint
from pipeline.data.opened_sources import open_data
from pipeline.data.reading import read_fragment
from pipeline.data.schema.hints import hints_of
from pipeline.data.schema.schema_merge import Drift
from pipeline.data.skipped import SkippedFragment, note
from pipeline.data.source import Source, open_source
from pipeline.errors import BadFragment, DataError
from pipeline.events.findings import UserNote, plain, text_of
from pipeline.formatting import escaped

MAX_DISTINCT = 10_000  # values are counted apart up to this many distinct ones
MAX_LINES = 60  # shown in a notebook
MAX_BALANCE = 50  # a target with more values is shown by its range alone


@dataclass(frozen=True)
class ColumnSummary:
    """One column over all rows."""

    name: str
    type: str
    missing: int  # null or NaN
    distinct: int | None  # None: more than MAX_DISTINCT
    minimum: Any  # numbers, times and truth values; None for text, and where no value is
    maximum: Any


@dataclass(frozen=True, repr=False)
class Description:
    """A source in numbers."""

    format: str
    files: int
    fragments: int
    rows: int
    columns: tuple[ColumnSummary, ...]
    target: str | None
    balance: tuple[tuple[Any, int], ...]  # (value, rows) of the target, most frequent first; empty above MAX_BALANCE
    drift: tuple[Drift, ...]
    notes: tuple[UserNote, ...]
    fingerprint: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values only, ready for JSON: times as ISO text, decimals as floats."""
        return {
            "format": self.format,
            "files": self.files,
            "fragments": self.fragments,
            "rows": self.rows,
            "columns": [{key: _plain(value) for key, value in vars(column).items()} for column in self.columns],
            "target": self.target,
            "balance": [{"value": _plain(value), "rows": rows} for value, rows in self.balance],
            "drift": [
                {
                    "column": item.column,
                    "types": [{"type": kind, "files": count, "first": first} for kind, count, first in item.types],
                    "read_as": item.read_as,
                }
                for item in self.drift
            ],
            "notes": [plain(note) for note in self.notes],
            "fingerprint": self.fingerprint,
        }

    def __repr__(self) -> str:
        """The text, cut at MAX_LINES lines: a notebook shows it as the value of a cell."""
        lines = str(self).splitlines()
        more = [f"... {len(lines) - MAX_LINES:,} lines more: print it"] if len(lines) > MAX_LINES else []
        return "\n".join(lines[:MAX_LINES] + more)

    def __str__(self) -> str:
        where = f"{self.files} files, " if self.files else ""
        lines = [
            f"{self.rows:,} rows, {len(self.columns)} columns; {self.format}, {where}{self.fragments} fragments",
            "",
        ]
        lines += _table(
            ("column", "type", "missing", "distinct", "minimum", "maximum"),
            [
                (
                    column.name + (" (target)" if column.name == self.target else ""),
                    column.type,
                    f"{column.missing / max(self.rows, 1):.1%}" if column.missing else "-",
                    f"> {MAX_DISTINCT:,}" if column.distinct is None else f"{column.distinct:,}",
                    _shown(column.minimum),
                    _shown(column.maximum),
                )
                for column in self.columns
            ],
        )
        if self.balance:
            rows = [(_shown(value), f"{count:,}", f"{count / self.rows:.1%}") for value, count in self.balance]
            lines += ["", *_table((str(self.target), "rows", "share"), rows)]
        if self.drift:
            rows = [(item.column, item.read_as, _kinds(item)) for item in self.drift]
            lines += ["", *_table(("differs between files", "read as", "found as"), rows)]
        # The drift is already printed in full above.
        notes = [line for line in map(escaped, map(text_of, self.notes)) if not line.startswith("the files differ in ")]
        return "\n".join(lines + ([""] if notes else []) + notes)


@dataclass
class _ColumnCollector:
    """Running totals of one column."""

    field: pa.Field
    missing: int = 0
    values: Counter[Any] | None = field(default_factory=Counter)  # None: more than MAX_DISTINCT values
    minimum: Any = None
    maximum: Any = None

    def add(self, column: pa.ChunkedArray) -> None:
        if pt.is_floating(column.type):
            column = pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
        self.missing += column.null_count
        column = column.drop_null()
        if not len(column):
            return
        if not (pt.is_string(column.type) or pt.is_dictionary(column.type)):
            self._extend(column)
        self._count(column)

    def _extend(self, column: pa.ChunkedArray) -> None:
        ends = pc.min_max(column)
        low, high = ends["min"].as_py(), ends["max"].as_py()
        self.minimum = low if self.minimum is None else min(self.minimum, low)
        self.maximum = high if self.maximum is None else max(self.maximum, high)

    def _count(self, column: pa.ChunkedArray) -> None:
        if self.values is None:
            return
        if pt.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        counts = pc.value_counts(column)
        if len(counts) <= MAX_DISTINCT:
            pairs = zip(counts.field("values").to_pylist(), counts.field("counts").to_pylist(), strict=True)
            self.values.update(dict(pairs))
        if len(counts) > MAX_DISTINCT or len(self.values) > MAX_DISTINCT:
            self.values = None

    def summary(self) -> ColumnSummary:
        distinct = None if self.values is None else len(self.values)
        return ColumnSummary(self.field.name, str(self.field.type), self.missing, distinct, self.minimum, self.maximum)


def describe(source: Any, target: str | None = None) -> Description:
    """Reads the whole source (opened already, what `open_source` opens, a job or its [data]), one fragment at a time.

    DataError for an unknown target.
    """
    if isinstance(source, Job):
        target = _raw_target(source.data, target)
        source = open_data(source.data, source.data.source, hints_of(source.data, source.preprocess))
    if isinstance(source, Data):
        target, source = _raw_target(source, target), open_data(source, source.source)
    if not isinstance(source, Source):
        source = open_source(source)
    if target is not None and target not in source.schema.names:
        if target in source.left_out:
            raise DataError(f"the column {target!r} {source.left_out[target]}")
        raise DataError(f"no column {target!r} in the source{hint(target, source.schema.names)}")
    columns = [_ColumnCollector(item) for item in source.schema]
    rows = 0
    bad: list[SkippedFragment] = []
    for fragment in source.fragments:
        try:
            table = read_fragment(source, fragment, payload=_payload(source, fragment))
        except BadFragment as error:
            if not source.skip_bad:
                raise
            bad.append(SkippedFragment(fragment.index, fragment.rows, str(error)))
            continue
        rows += table.num_rows
        for place, column in enumerate(columns):
            column.add(table.column(place))
    return Description(
        format=source.format,
        files=len(source.files),
        fragments=len(source.fragments),
        rows=rows,
        columns=tuple(column.summary() for column in columns),
        target=target,
        balance=next((_balance(column) for column in columns if column.field.name == target), ()),
        drift=source.drift,
        notes=(*source.notes, note(bad, len(source.fragments))) if bad else source.notes,
        fingerprint=source.fingerprint,
    )


def _raw_target(data: Data, target: str | None) -> str | None:
    """The target that is asked for, or the job's; a derived target is in no file."""
    return target if target is not None or data.target in data.derive else data.target


def _payload(source: Source, fragment: Any) -> Any:
    payload = source.payload(fragment)
    return payload.compute() if source.format == "dask" else payload


def _balance(column: _ColumnCollector) -> tuple[tuple[Any, int], ...]:
    if column.values is None or len(column.values) > MAX_BALANCE:
        return ()
    return tuple(sorted(column.values.items(), key=lambda entry: (-entry[1], str(entry[0]))))


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if hasattr(value, "isoformat"):
        return value.isoformat()
    number = float(value)
    return number if number - number == 0 else str(number)  # JSON has no infinity


def _shown(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _kinds(drift: Drift) -> str:
    """The types of a column with their files, the most frequent first; for the other types the first file is named."""
    kinds = sorted(drift.types, key=lambda entry: -entry[1])
    named = [
        f"{kind} in {count}" + (f" ({posixpath.basename(first)}...)" if place else "")
        for place, (kind, count, first) in enumerate(kinds)
    ]
    return ", ".join(named)


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    """Left-aligned names, right-aligned numbers, two blanks between columns."""
    lines = [[escaped(cell) for cell in line] for line in (head, *rows)]
    widths = [max(len(line[place]) for line in lines) for place in range(len(head))]
    return [
        "  ".join(
            cell.ljust(width) if place < 1 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
