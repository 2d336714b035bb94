"""Collects what is known of a source's columns before its files are opened: from a job, or from a model's manifest."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.types as pt

from pipeline.config.job import Data, Preprocess
from pipeline.config.names import matches, wildcard
from pipeline.data.schema.schema_merge import is_text, normalise

_QUOTED = re.compile(r'"(column \d+)"')  # an unnamed column in SQL


@dataclass(frozen=True)
class ColumnHints:
    """Known facts about columns that control how text files are read: only unknown columns are decided by their
    content.
    """

    types: pa.Schema | None = None  # types that named columns have in the training files
    kinds: tuple[tuple[str, str], ...] = ()  # (name or pattern, kind) of preprocess.columns, in the job's order
    copied: frozenset[str] = frozenset()  # only copied to predictions: each value must come back unchanged
    mentioned: frozenset[str] = frozenset()  # names that the job uses

    def kind(self, name: str) -> str | None:
        """The kind that the job gives a column: an exact name before patterns, the first pattern before later ones."""
        if name in (given := dict(self.kinds)):
            return given[name]
        return next((kind for pattern, kind in self.kinds if wildcard(pattern).fullmatch(name)), None)

    def known(self, name: str) -> pa.DataType | None:
        """The known type of a column; None if unknown."""
        place = -1 if self.types is None else self.types.get_field_index(name)
        kind = None if self.types is None or place < 0 else normalise(self.types.field(place).type)
        return None if kind is None or pt.is_null(kind) else kind

    def fixed(self, name: str) -> pa.DataType | None:
        """The type that a column is read as whatever its text is; None if that depends on the text.

        Whole numbers and times may occur with fractions in other files, and columns that are only copied must not
        lose a digit.
        """
        kind = self.known(name)
        if kind is None or pt.is_integer(kind) or pt.is_date(kind) or pt.is_timestamp(kind):
            return None
        return kind if is_text(kind) or name not in self.copied else None

    def is_number(self, name: str) -> bool:
        """Whether the column's values are numbers, so that a leading zero means nothing."""
        kind = self.known(name)
        if kind is not None and name not in self.copied:
            return pt.is_integer(kind) or pt.is_floating(kind) or pt.is_decimal(kind)
        return self.kind(name) == "number"

    def keeps(self, name: str) -> bool:
        """Whether an unnamed column, named by its position, is used."""
        return name in self.mentioned or self.known(name) is not None


NO_HINTS = ColumnHints()


def hints_of(data: Data, preprocess: Preprocess | None = None, types: pa.Schema | None = None) -> ColumnHints:
    """The hints in a job about the columns of its files."""
    columns = {} if preprocess is None else preprocess.columns
    held = data.validation
    named = [data.target, data.weight, data.group, *data.id, *columns]
    named += [] if held is None else [held.column, held.time]
    sql = [*data.derive.values(), data.where or ""]
    return ColumnHints(
        types=types,
        kinds=tuple((name, column.kind) for name, column in columns.items()),
        copied=frozenset(data.id),
        mentioned=frozenset({name for name in named if name}).union(*map(_QUOTED.findall, sql)),
    )


def settled(hints: ColumnHints, exclude: Iterable[str], name: str) -> bool:
    """Whether the job has decided the type of a column, so that text in it may be intended."""
    out = any(matches(pattern, name) for pattern in exclude)
    return out or name in hints.copied or hints.kind(name) not in (None, "auto")
