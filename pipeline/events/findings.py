"""Defines findings: valid results that the user can hardly have meant, such as a column that is text because of one
cell.

A run shows each once, as soon as it is found; the summary, metrics.json and the report repeat it under `notes`.  With
`data.strict = true` a finding is an error.  Plain string notes concern the operation of a run and are never
errors.
"""

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pipeline.formatting import without_secrets


@dataclass(frozen=True)
class Finding:
    """One such result.  No field holds a value of the data."""

    kind: str  # a short name for programs, e.g. "row_number"
    message: str  # the complete line: column, count, first place, and the setting that changes it
    column: str | None = None
    count: int | None = None  # of values or rows concerned
    where: str | None = None  # the first place, e.g. "line 400 of x.csv"
    setting: str | None = None  # the field of the job that changes it


UserNote = str | Finding  # the notes of a source, of the roles of columns or of a run


def text_of(note: UserNote) -> str:
    """The note as a line for the user."""
    return without_secrets(note if isinstance(note, str) else note.message)


def plain(note: UserNote) -> str | dict[str, Any]:
    """The note as JSON: a finding as an object with all its fields, any other as its text.

    >>> plain(Finding("constant_target", "the target y is constant", column="y"))["column"]
    'y'
    """
    if isinstance(note, str):
        return without_secrets(note)
    return dataclasses.asdict(
        dataclasses.replace(note, message=text_of(note), where=without_secrets(note.where or "") or None)
    )


def findings(notes: Iterable[UserNote]) -> list[Finding]:
    """Only the findings among the notes."""
    return [note for note in notes if isinstance(note, Finding)]
