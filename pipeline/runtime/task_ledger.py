"""Adds up, in each worker process, what the tasks of a run spend their time on."""

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Any

from pipeline.efficiency.account import TimeSlice
from pipeline.runtime.worker_session import Content, RunResource, current_worker, session_of

RUN = "pipeline_run"  # annotation of every task of a run: its id


class Ledger(RunResource):
    """Adds up the parts of one run's tasks on one worker, while `runtime.recorder` keeps an account there."""

    def __init__(self, run: str) -> None:
        self._parts: dict[str, TimeSlice] = {}
        self._lock = threading.Lock()

    def add(self, part: TimeSlice) -> None:
        with self._lock:
            known = self._parts.get(part.name, TimeSlice(part.name))
            self._parts[part.name] = TimeSlice(
                part.name,
                known.seconds + part.seconds,
                known.cpu_seconds + part.cpu_seconds,
                known.process_seconds + part.process_seconds,
            )

    def parts(self) -> tuple[TimeSlice, ...]:
        with self._lock:
            return tuple(self._parts.values())

    def contents(self) -> tuple[Content, ...]:
        return (Content("the ledger of its tasks"),)


Clocks = tuple[float, float, float]  # wall, CPU of the thread, CPU of the process; seconds


class _Open(threading.local):
    """The run and the open parts of this thread, outermost first, each with the time that parts inside it took."""

    def __init__(self) -> None:
        self.inside: list[Clocks] = []
        self.run: str | None = None


_open = _Open()


@contextlib.contextmanager
def timed_section(name: str) -> Iterator[None]:
    """Adds the block's time to the account of this task's run; parts inside the block count separately.

    The peak of the worker's memory counts for the outermost part.
    """
    measured: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
    if not _open.inside:
        _open.run = run_of_task()
        if _ledger(_open.run) is not None:
            measured = session_of(current_worker()).peak_rss.stage(_open.run, name)
    _open.inside.append((0.0, 0.0, 0.0))
    start = _clocks()
    try:
        with measured:
            yield
    finally:
        whole = _minus(_clocks(), start)
        inside = _open.inside.pop()
        if _open.inside:
            _open.inside[-1] = _plus(_open.inside[-1], whole)
        if (ledger := _ledger(_open.run)) is not None:
            ledger.add(TimeSlice(name, *_minus(whole, inside)))


def _ledger(run: str | None) -> Ledger | None:
    """Returns the run's ledger on this worker; None if its time is not accounted for here."""
    worker = None if run is None else current_worker()
    return None if run is None or worker is None else session_of(worker).find(run, Ledger)


def run_of_task() -> str | None:
    """Returns the id of the run of this thread's task, from the annotation that Dask passes with every task."""
    worker = current_worker()
    if worker is None:
        return None
    try:
        task = worker.state.tasks.get(worker.get_current_task())
    except KeyError:  # on a worker, but not in a task's own thread
        return None
    return ((task and task.annotations) or {}).get(RUN)


def annotate_run(run: str) -> Any:
    """Returns a context that annotates its tasks with the run."""
    import dask

    return dask.annotate(**{RUN: run})


def _clocks() -> Clocks:
    return time.perf_counter(), time.thread_time(), time.process_time()


def _minus(one: Clocks, other: Clocks) -> Clocks:
    return one[0] - other[0], one[1] - other[1], one[2] - other[2]


def _plus(one: Clocks, other: Clocks) -> Clocks:
    return one[0] + other[0], one[1] + other[1], one[2] + other[2]
