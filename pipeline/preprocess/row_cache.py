"""Keeps rows on their worker from one pass to the next: losing them costs only a second read.

Text is parsed once where it fits: the survey keeps the parsed table of a fragment for the statistics, which keep its
rows for the blocks.  Both count against one limit, that of memory which training needs anyway.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from pipeline.data.fragments import Fragment
from pipeline.data.rows import Rows
from pipeline.runtime.worker_session import Content, RunResource, WorkerSession, session_of, worker_session


@dataclass(frozen=True)
class _Entry:
    value: Any
    nbytes: int  # measured once: of a wide table Arrow adds up every column


class RowCache(RunResource):
    """What one run keeps on a worker for its next pass; guarded by the session's lock."""

    def __init__(self, run: str) -> None:
        self.rows: dict[Hashable, _Entry] = {}  # by fragment, for the blocks
        # For the statistics.  By what a fragment is made of: queries that are joined give its number to another one.
        self.tables: dict[Hashable, _Entry] = {}
        self.expansion = 1.0  # bytes of a parsed table for each byte of its text: the most seen

    @property
    def nbytes(self) -> int:
        return sum(entry.nbytes for kept in (self.rows, self.tables) for entry in list(kept.values()))

    def contents(self) -> Sequence[Content]:
        count = len(self.rows) + len(self.tables)
        return [Content(f"rows of {count:,} fragment{'s' * (count != 1)}", self.nbytes)] if count else []


def has_room(run: str, fragment: Fragment, limit_nbytes: int) -> bool:
    """Whether this worker may keep the fragment's parsed table, with what it keeps of all runs, by the tables so far."""
    session = worker_session()
    if session is None:
        return False
    with session.lock:
        cache = session.of(run, RowCache)
        return cache is not None and _kept_nbytes(session) + cache.expansion * fragment.nbytes <= limit_nbytes


def keep_table(run: str, fragment: Fragment, table: pa.Table, limit_nbytes: int) -> None:
    """Keeps a fragment's parsed table on this worker, on the same conditions as `keep_rows`."""
    session, entry = worker_session(), _Entry(table, table.nbytes)
    if session is None:
        return
    with session.lock:
        cache = session.of(run, RowCache)
        if cache is None:
            return
        cache.expansion = max(cache.expansion, entry.nbytes / max(1, fragment.nbytes))
        _keep(session, cache.tables, fragment.pieces, entry, limit_nbytes)


def take_table(run: str, fragment: Fragment) -> pa.Table | None:
    """Removes and returns the table that this worker keeps of a fragment; None if it has none."""
    session = worker_session()
    if session is None:
        return None
    with session.lock:
        cache = session.find(run, RowCache)
        entry = None if cache is None else cache.tables.pop(fragment.pieces, None)
    return None if entry is None else entry.value


def drop_tables(run: str, dask_worker: Any) -> None:
    """On a worker: drops the tables of fragments whose statistics were collected on another one."""
    session = session_of(dask_worker)
    with session.lock:
        if (cache := session.find(run, RowCache)) is not None:
            cache.tables.clear()


def keep_rows(run: str, rows: Rows, limit_nbytes: int) -> None:
    """Keeps a fragment's rows on this worker, unless the rows of all runs would exceed the limit, or the run is over."""
    session, entry = worker_session(), _Entry(rows, rows.table.nbytes)
    if session is None:
        return
    with session.lock:
        cache = session.of(run, RowCache)
        if cache is not None:
            _keep(session, cache.rows, rows.fragment, entry, limit_nbytes)


def take_rows(run: str, fragment: int) -> Rows | None:
    """Removes and returns the rows that this worker keeps of a fragment; None if it has none."""
    session = worker_session()
    if session is None:
        return None
    with session.lock:
        cache = session.find(run, RowCache)
        entry = None if cache is None else cache.rows.pop(fragment, None)
    return None if entry is None else entry.value


def _keep(
    session: WorkerSession, kept: dict[Hashable, _Entry], key: Hashable, entry: _Entry, limit_nbytes: int
) -> None:
    kept.pop(key, None)  # a task may run twice
    if _kept_nbytes(session) + entry.nbytes <= limit_nbytes:
        kept[key] = entry


def _kept_nbytes(session: WorkerSession) -> int:
    return sum(each.nbytes for each in session.each(RowCache).values())
