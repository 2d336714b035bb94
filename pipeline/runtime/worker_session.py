"""Holds everything that runs keep on a worker: one session a worker, by run id, with one `close(run)`.

A Dask worker plugin, added when a run first needs it.  What is kept has a class in the package that knows it (rows,
scratch files, ...), derived from `RunResource`; so it is never state of a module, and one run cannot see another's.
"""

import sys
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.runtime.peak_rss import PeakRss

NAME = "pipeline-session"  # of the plugin
CLOSED_RUNS = 1_000  # remembered, because tasks may end later than their run


@dataclass(frozen=True)
class Content:
    """One line of what a run keeps on a worker."""

    what: str
    nbytes: int | None = None  # None: unknown, or too few to count


class RunResource:
    """What one part of the package keeps of one run on a worker."""

    def __init__(self, run: str) -> None:
        """`run`: its id.  A class that is put into the session, and not made by its `of`, may take something else."""

    def contents(self) -> Sequence[Content]:
        """Returns what it holds, for people."""
        return ()

    def transition(self, start: str, finish: str) -> None:
        """Called on the worker's event loop for each transition of a task of any run."""

    def close(self) -> None:
        """Releases what garbage collection does not.  Called after it has left the session."""


class WorkerSession:
    """What runs keep on one worker: of each class of `RunResource`, at most one object a run.  For any thread."""

    def __init__(self) -> None:
        self.lock = threading.RLock()  # to be held over several calls that belong together
        self.peak_rss = PeakRss()  # of all runs: the process has one peak
        self._kept: dict[tuple[str, type[RunResource]], RunResource] = {}  # the latest put last
        self._closed: deque[str] = deque(maxlen=CLOSED_RUNS)

    def of[T: RunResource](self, run: str, kind: type[T]) -> T | None:
        """Returns the run's object of this class, which is made of the run's id alone if there is none.

        None if the run is over.
        """
        with self.lock:
            found = self.find(run, kind)
            if found is None and self.put(run, made := kind(run)):
                return made
            return found

    def put(self, run: str, kept: RunResource) -> bool:
        """Keeps the object, in place of another one of its class; False, and nothing is kept, if the run is over."""
        with self.lock:
            self._kept.pop((run, type(kept)), None)
            if run in self._closed:
                return False
            self._kept[run, type(kept)] = kept
            return True

    def find[T: RunResource](self, run: str, kind: type[T]) -> T | None:
        """Returns the run's object of this class, if there is one."""
        found: Any = self._kept.get((run, kind))
        return found

    def pop[T: RunResource](self, run: str, kind: type[T]) -> T | None:
        """Removes and returns the run's object of this class, if there is one; does not close it."""
        found: Any = self._kept.pop((run, kind), None)
        return found

    def each[T: RunResource](self, kind: type[T]) -> dict[str, T]:
        """Returns all runs' objects of this class, the latest put last."""
        return {run: kept for (run, _), kept in list(self._kept.items()) if isinstance(kept, kind)}

    def close(self, run: str) -> None:
        """Drops everything of a run; from now on nothing is kept for it."""
        with self.lock:
            if run not in self._closed:
                self._closed.append(run)
            ended = [self._kept.pop(key) for key in list(self._kept) if key[0] == run]
            self.peak_rss.pop(run)
        for kept in ended:
            kept.close()

    def contents(self) -> list[tuple[str, Content]]:
        """Returns (run, content) of everything that is kept."""
        return [(run, content) for (run, _), kept in list(self._kept.items()) for content in kept.contents()]

    def transition(self, key: Any, start: str, finish: str, **kwargs: Any) -> None:
        """Called by Dask for each transition of a task."""
        for kept in tuple(self._kept.values()):
            kept.transition(start, finish)


def current_worker() -> Any:
    """Returns the Dask worker that runs this code; None outside a worker."""
    if "distributed" not in sys.modules:  # then there is no worker, and the import would take half a second
        return None
    from distributed import get_worker

    try:
        return get_worker()
    except ValueError:
        return None


def worker_session() -> WorkerSession | None:
    """Returns the session of the worker that runs this code; None outside a worker."""
    worker = current_worker()
    return None if worker is None else session_of(worker)


def session_of(worker: Any) -> WorkerSession:
    """Returns the worker's session, made at the first call."""
    session: WorkerSession | None = worker.plugins.get(NAME)
    if session is not None:
        return session
    if threading.get_ident() == worker.thread_id:
        return _add(worker)
    from distributed.utils import sync

    made: WorkerSession = sync(worker.loop, _add_there, worker)  # Dask reads its plugins on its event loop
    return made


def _add(worker: Any) -> WorkerSession:
    session: WorkerSession = worker.plugins.setdefault(NAME, WorkerSession())
    return session


async def _add_there(worker: Any) -> WorkerSession:
    return _add(worker)


def close_run(run: str, dask_worker: Any) -> None:
    """On a worker: drops everything of a run; from now on nothing is kept for it."""
    session_of(dask_worker).close(run)


def contents_on(dask_worker: Any) -> list[tuple[str, str, int | None]]:
    """On a worker: returns (run, what, bytes or None) of everything that runs keep there."""
    session: WorkerSession | None = dask_worker.plugins.get(NAME)
    return [] if session is None else [(run, kept.what, kept.nbytes) for run, kept in session.contents()]
