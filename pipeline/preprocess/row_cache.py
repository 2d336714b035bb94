"""Keeps rows on their worker from one pass to the next: losing them costs only a second read.

Text is parsed once where it fits: the survey keeps the parsed table of a fragment for the statistics, which keep its
rows for the blocks.  Both count against one limit, that of memory which training needs anyway.
"""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from pipeline.data.fragments import Fragment, Piece
from pipeline.data.rows import Rows
from pipeline.runtime.worker_session import Content, RunResource, WorkerSession, session_of, worker_session


class RowCache(RunResource):
    """What one run keeps on a worker for its next pass; guarded by the session's lock."""

    def __init__(self, run: str) -> None:
        self.rows: dict[int, Rows] = {}  # by fragment, for the blocks
        # For the statistics.  By what a fragment is made of: queries that are joined give its number to another one.
        self.tables: dict[tuple[Piece, ...], pa.Table] = {}

    @property
    def nbytes(self) -> int:
        tables = [*(rows.table for rows in list(self.rows.values())), *list(self.tables.values())]
        return sum(table.nbytes for table in tables)

    def contents(self) -> Sequence[Content]:
        count = len(self.rows) + len(self.tables)
        return [Content(f"rows of {count:,} fragment{'s' * (count != 1)}", self.nbytes)] if count else []


def has_room(nbytes: int, limit_nbytes: int) -> bool:
    """Whether this worker may keep so many bytes more, with what it keeps of all runs."""
    session = worker_session()
    return session is not None and _kept_nbytes(session) + nbytes <= limit_nbytes


def keep_table(run: str, fragment: Fragment, table: pa.Table, limit_nbytes: int) -> None:
    """Keeps a fragment's parsed table on this worker, on the same conditions as `keep_rows`."""
    session = worker_session()
    if session is None:
        return
    with session.lock:
        cache = session.of(run, RowCache)
        if cache is None:
            return
        cache.tables.pop(fragment.pieces, None)  # a task may run twice
        if _kept_nbytes(session) + table.nbytes <= limit_nbytes:
            cache.tables[fragment.pieces] = table


def take_table(run: str, fragment: Fragment) -> pa.Table | None:
    """Removes and returns the table that this worker keeps of a fragment; None if it has none."""
    session = worker_session()
    if session is None:
        return None
    with session.lock:
        cache = session.find(run, RowCache)
        return None if cache is None else cache.tables.pop(fragment.pieces, None)


def drop_tables(run: str, dask_worker: Any) -> None:
    """On a worker: drops the tables of fragments whose statistics were collected on another one."""
    session = session_of(dask_worker)
    with session.lock:
        if (cache := session.find(run, RowCache)) is not None:
            cache.tables.clear()


def _kept_nbytes(session: WorkerSession) -> int:
    return sum(each.nbytes for each in session.each(RowCache).values())


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
        if _kept_nbytes(session) + rows.table.nbytes <= limit_nbytes:
            cache.rows[rows.fragment] = rows


def take_rows(run: str, fragment: int) -> Rows | None:
    """Removes and returns the rows that this worker keeps of a fragment; None if it has none."""
    session = worker_session()
    if session is None:
        return None
    with session.lock:
        cache = session.find(run, RowCache)
        return None if cache is None else cache.rows.pop(fragment, None)
