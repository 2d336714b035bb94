"""Finds what a user should know of CSV columns: one odd value among numbers, leading zeros, columns without a name."""

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from pipeline.config.job import CsvOptions
from pipeline.data.formats.csv_types import Tally, mostly
from pipeline.data.schema.hints import ColumnHints
from pipeline.errors import SourceError
from pipeline.events.findings import Finding, UserNote
from pipeline.formatting import without_secrets

MIXED = "mixed_column"  # the kind of a finding


@dataclass(frozen=True)
class ColumnTally:
    """Counts of one column over all files; each first line with its file."""

    tally: Tally
    files: dict[str, str]  # no_number, no_time and padded: the file of that line


def together(parts: Sequence[tuple[str, Tally]]) -> ColumnTally:
    """Merges the tallies of one column, one (path, tally) per file, with lines from 1; first lines are from the first
    file that has any.
    """
    tally = Tally()
    files: dict[str, str] = {}
    for path, part in parts:
        for name in ("no_number", "no_time", "padded"):
            if getattr(part, name) is not None:
                files.setdefault(name, without_secrets(path))
        tally += part
    return ColumnTally(tally, files)


def check_numbers(columns: dict[str, ColumnTally], kinds: dict[str, pa.DataType], hints: ColumnHints) -> None:
    """SourceError where a column that the job declares a number holds another value."""
    for name, seen in columns.items():
        if hints.known(name) is None and hints.kind(name) == "number" and kinds.get(name) == pa.string():
            tally = seen.tally
            raise SourceError(
                f"{seen.files.get('no_number')}: line {tally.no_number}: column {name!r} holds a value that is no number, "
                f"as {tally.values - tally.numbers:,} of its {tally.values:,} values are; preprocess.columns.{name}.kind = "
                f'"number" needs numbers: name the texts that mean no value in data.csv.missing'
            )


def notes_on(
    columns: dict[str, ColumnTally], kinds: dict[str, pa.DataType], options: CsvOptions, hints: ColumnHints
) -> tuple[UserNote, ...]:
    """Columns that are text though nearly all of their values are numbers or times; and those that are text because
    of leading zeros.
    """
    notes: list[UserNote] = []
    padded = []
    for name, seen in columns.items():
        if kinds.get(name) != pa.string() or hints.known(name) is not None:
            continue
        if seen.tally.padded is not None and seen.tally.numbers == seen.tally.values:
            padded += [name] if name not in hints.copied else []
        elif (found := _mixed(name, seen, options)) is not None:
            notes.append(found)
    if padded:
        first = columns[padded[0]]
        notes.append(
            f"read as text, for numbers with leading zeros: {', '.join(padded)} (first at line {first.tally.padded} of "
            f'{first.files["padded"]}); as a number with preprocess.columns.{padded[0]}.kind = "number"'
        )
    return tuple(notes)


def unnamed(path: str, name: str) -> Finding:
    """A column that has no name in the header and is not used."""
    path = without_secrets(path)
    return Finding(
        "unnamed_column",
        f"{path}: {name} has no name in the header and is left out; name the columns with data.csv.columns, or use it as "
        f'"{name}", e.g. data.id = ["{name}"]',
        where=path,
        setting="data.csv.columns",
    )


def _mixed(name: str, seen: ColumnTally, options: CsvOptions) -> Finding | None:
    """The finding for a column that is text because of a few values, or of another decimal point."""
    tally = seen.tally
    odd = tally.values - tally.numbers
    setting, advice = "data.csv.missing", "if that means no value, name its text in data.csv.missing"
    where = f"line {tally.no_number} of {seen.files.get('no_number')}"
    if tally.commas and odd == tally.commas and not tally.pointed:
        other, point = (",", "comma") if options.decimal == "." else (".", "point")
        setting, what = "data.csv.decimal", f"numbers with a decimal {point}"
        advice = f'set data.csv.decimal = "{other}"'
    elif mostly(tally.numbers, tally):
        what = "not a number" if odd == 1 else "not numbers"
        advice += f'; with preprocess.columns.{name}.kind = "number" it is an error'
    elif mostly(tally.times, tally):
        odd = tally.values - tally.times
        what = "not a time" if odd == 1 else "not times"
        where = f"line {tally.no_time} of {seen.files.get('no_time')}"
    else:
        return None
    return Finding(
        MIXED,
        f"{name} is text because of {odd:,} of {tally.values:,} values ({what}), first at {where}: {advice}; kind = "
        f'"category" confirms it',
        column=name,
        count=odd,
        where=where,
        setting=setting,
    )
