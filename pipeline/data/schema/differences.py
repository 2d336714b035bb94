"""Describes columns that differ between the files of a source."""

from collections.abc import Mapping, Sequence

import pyarrow as pa

from pipeline.config.names import same_name
from pipeline.data.schema.schema_merge import Drift, files
from pipeline.errors import DataError
from pipeline.events.findings import Finding, UserNote

MOST_NAMED = 10  # columns in the note


def drift_notes(drift: Sequence[Drift], schemas: Sequence[pa.Schema]) -> tuple[UserNote, ...]:
    """A note that names the columns, their types and the number of files with each; a finding for each column that
    files spell in two ways.  `schemas`: of the files."""
    if not drift:
        return ()
    shown = ", ".join(map(str, drift[:MOST_NAMED]))
    more = f" and {len(drift) - MOST_NAMED:,} further columns: see pipeline describe" if len(drift) > MOST_NAMED else ""
    return (f"the files differ in {shown}{more}", *_two_spellings(drift, schemas))


def _two_spellings(drift: Sequence[Drift], schemas: Sequence[pa.Schema]) -> list[Finding]:
    """Two names that differ in case or signs alone, where each file has either the one or the other."""
    found: list[Finding] = []
    seen: dict[str, Drift] = {}
    for item in drift:
        if item.absent is None:
            continue
        other = seen.setdefault(same_name(item.column), item)
        if other is item or not all((item.column in one.names) != (other.column in one.names) for one in schemas):
            continue
        lacking, first = item.absent
        message = (
            f"the columns {other.column!r} (in {files(lacking)}) and {item.column!r} (in {files(len(schemas) - lacking)}) "
            f"are two spellings of one, it seems: no file has both, and each counts as missing where the other is, "
            f"e.g. {item.column!r} in {first}; rename one in the files, or leave both out with data.exclude"
        )
        found.append(Finding("two_spellings", message, item.column, lacking, first, "data.exclude"))
    return found


def files_lack(count: int, total: int) -> str:
    """The number of a source's files that lack something, as the beginning of a sentence.

    >>> files_lack(1, 12), files_lack(2, 12)
    ('1 of 12 files lacks', '2 of 12 files lack')
    """
    return f"{count} of {files(total)} {'lacks' if count == 1 else 'lack'}"


def check_in_every_file(drift: Sequence[Drift], columns: Mapping[str, str | None], files_in_all: int) -> None:
    """DataError where a file lacks one of the `columns` (setting -> name): their rows would count as missing."""
    absent = {item.column: item.absent for item in drift}
    for setting, name in columns.items():
        if name is None or (lacking := absent.get(name)) is None:
            continue
        count, first = lacking
        spelled = [item.column for item in drift if item.column != name and same_name(item.column) == same_name(name)]
        other = f"; the column {spelled[0]!r}, which not all files have either, is another one" if spelled else ""
        raise DataError(
            f"{setting}: {files_lack(count, files_in_all)} the column {name!r}, e.g. {first}{other}: "
            "rename it in the files, or leave the files out"
        )
