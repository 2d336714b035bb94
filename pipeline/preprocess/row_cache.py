"""Keeps rows on their worker between the two passes: losing them costs only a second read."""

from collections.abc import Sequence

from pipeline.data.rows import Rows
from pipeline.runtime.worker_session import Content, RunResource, worker_session


class RowCache(RunResource):
    """The rows of one run that wait on a worker for the second pass, by fragment; guarded by the session's lock."""

    def __init__(self, run: str) -> None:
        self.rows: dict[int, Rows] = {}

    @property
    def nbytes(self) -> int:
        return sum(rows.table.nbytes for rows in list(self.rows.values()))

    def contents(self) -> Sequence[Content]:
        count = len(self.rows)
        return [Content(f"rows of {count:,} fragment{'s' * (count != 1)}", self.nbytes)] if count else []


def keep_rows(run: str, rows: Rows, limit_nbytes: int) -> None:
    """Keeps a fragment's rows on this worker, unless the rows of all runs would exceed the limit, or the run is over."""
    session = worker_session()
    if session is None:
        return
    with session.lock:
        cache = session.of(run, RowCache)
        if cache is None:
            return
        cache.rows.pop(rows.fragment, None)  # a task may run twice
        kept = sum(each.nbytes for each in session.each(RowCache).values())
        if kept + rows.table.nbytes <= limit_nbytes:
            cache.rows[rows.fragment] = rows


def take_rows(run: str, fragment: int) -> Rows | None:
    """Removes and returns the rows that this worker keeps of a fragment; None if it has none."""
    session = worker_session()
    if session is None:
        return None
    with session.lock:
        cache = session.find(run, RowCache)
        return None if cache is None else cache.rows.pop(fragment, None)
