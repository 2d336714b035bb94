"""Leaves unreadable fragments out of a run, where `data.skip_bad_fragments` allows it.

The survey decides once which fragments are left out; it reads every column that the later passes will read.  So all
passes agree: a fragment that the survey could not read never comes back, and one that it could read must stay
readable, because its rows have been counted.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.errors import AccessError, BadFragment

_NAMED = 3  # fragments whose reasons a note gives


@dataclass(frozen=True)
class SkippedFragment:
    """What a task returns in place of its result for a fragment that cannot be read."""

    fragment: int  # its index
    rows: int | None  # None: unknown
    reason: str  # one line: file, place in it, what is wrong

    @property
    def known_rows(self) -> int:
        """Its rows, if the metadata contain the count."""
        return self.rows or 0


def note(bad: Sequence[SkippedFragment], fragments: int) -> str:
    """The report's note on fragments left out of `fragments`.

    >>> note([SkippedFragment(3, 500, "/a.parquet, row group 3: damaged")], 16)
    '1 of 16 fragments left out (500 rows by their metadata): /a.parquet, row group 3: damaged'
    >>> note([SkippedFragment(3, None, "/a.csv: damaged"), SkippedFragment(4, 7, "/b.csv: damaged")], 16)
    '2 of 16 fragments left out (rows not all known, 7 at least): /a.csv: damaged; /b.csv: damaged'
    """
    known = sum(item.known_rows for item in bad)
    rows = f"{known:,} rows by their metadata"
    if any(item.rows is None for item in bad):
        rows = f"rows not all known, {known:,} at least" if known else "rows not known"
    reasons = "; ".join(item.reason for item in bad[:_NAMED])
    more = f"; and {len(bad) - _NAMED} more" if len(bad) > _NAMED else ""
    return f"{len(bad)} of {fragments} fragments left out ({rows}): {reasons}{more}"


def turned_bad(error: BadFragment) -> AccessError:
    """The error where a later pass cannot read a fragment that the survey could: such a fragment is not skipped."""
    return AccessError(
        f"{error.where}: changed during the run: it could be read when the run began, now {error.reason}"
    )
