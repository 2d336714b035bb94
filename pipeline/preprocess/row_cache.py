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
    """What one run keeps on a worker for its next pass.  For any thread: the session's lock guards it."""

    def __init__(self, session: WorkerSession) -> None:
        """`session`: the worker's, whose caches of all runs share one limit.  A cache that is not in it keeps nothing."""
        self._session = session
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

    def has_room(self, fragment: Fragment, limit_nbytes: int) -> bool:
        """Whether the worker may keep the fragment's parsed table, with what it keeps of all runs, by the tables so far."""
        with self._session.lock:
            return self._fits(self.expansion * fragment.nbytes, limit_nbytes)

    def keep_table(self, fragment: Fragment, table: pa.Table, limit_nbytes: int) -> None:
        """Keeps a fragment's parsed table, on the same conditions as `keep_rows`."""
        entry = _Entry(table, table.nbytes)
        with self._session.lock:
            self.expansion = max(self.expansion, entry.nbytes / max(1, fragment.nbytes))
            self._keep(self.tables, fragment.pieces, entry, limit_nbytes)

    def take_table(self, fragment: Fragment) -> pa.Table | None:
        """Removes and returns the table of a fragment; None if there is none."""
        return self._take(self.tables, fragment.pieces)

    def keep_rows(self, rows: Rows, limit_nbytes: int) -> None:
        """Keeps a fragment's rows, unless the rows of all runs would exceed the limit, or the run is over."""
        entry = _Entry(rows, rows.table.nbytes)
        with self._session.lock:
            self._keep(self.rows, rows.fragment, entry, limit_nbytes)

    def take_rows(self, fragment: int) -> Rows | None:
        """Removes and returns the rows of a fragment; None if there are none."""
        return self._take(self.rows, fragment)

    def drop_tables(self) -> None:
        with self._session.lock:
            self.tables.clear()

    def _fits(self, nbytes: float, limit_nbytes: int) -> bool:
        caches = self._session.each(RowCache).values()
        return self in caches and sum(cache.nbytes for cache in caches) + nbytes <= limit_nbytes

    def _keep(self, kept: dict[Hashable, _Entry], key: Hashable, entry: _Entry, limit_nbytes: int) -> None:
        kept.pop(key, None)  # a task may run twice
        if self._fits(entry.nbytes, limit_nbytes):
            kept[key] = entry

    def _take(self, kept: dict[Hashable, _Entry], key: Hashable) -> Any:
        with self._session.lock:
            entry = kept.pop(key, None)
        return None if entry is None else entry.value


def row_cache(run: str) -> RowCache:
    """The run's cache on the worker that runs this code; outside a worker, or if the run is over, one that keeps nothing."""
    session = worker_session()
    if session is None:
        return RowCache(WorkerSession())
    with session.lock:
        cache = session.find(run, RowCache)
        if cache is None:
            cache = RowCache(session)
            session.put(run, cache)
        return cache


def drop_tables(run: str, dask_worker: Any) -> None:
    """On a worker: drops the tables of fragments whose statistics were collected on another one."""
    cache = session_of(dask_worker).find(run, RowCache)
    if cache is not None:
        cache.drop_tables()
