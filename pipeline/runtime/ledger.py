"""What the tasks of a run spend their time on, added up where they run."""

import contextlib
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

from pipeline.efficiency.account import Part

RUN = "pipeline_run"  # annotation of every task of a run: its id


class Ledger:
    """Adds up the parts of one run's tasks in one worker process."""

    def __init__(self) -> None:
        self._parts: dict[str, Part] = {}
        self._lock = threading.Lock()

    def add(self, part: Part) -> None:
        with self._lock:
            known = self._parts.get(part.name, Part(part.name))
            self._parts[part.name] = Part(
                part.name,
                known.seconds + part.seconds,
                known.cpu_seconds + part.cpu_seconds,
                known.process_seconds + part.process_seconds,
            )

    def parts(self) -> tuple[Part, ...]:
        with self._lock:
            return tuple(self._parts.values())


LEDGERS: dict[str, Ledger] = {}  # by run: one in each worker process, while the run keeps an account (runtime.recorder)
Clocks = tuple[float, float, float]  # wall, CPU of the thread, CPU of the process; seconds


class _Open(threading.local):
    """The parts this thread is in, outermost first: what parts inside of each have taken; and their run."""

    def __init__(self) -> None:
        self.inside: list[Clocks] = []
        self.run: str | None = None


_open = _Open()


@contextlib.contextmanager
def entered(name: str) -> Iterator[None]:
    """Enters what runs inside into the account of the run this task belongs to; parts inside of it count by themselves."""
    if not _open.inside:
        _open.run = run_of_task()
    _open.inside.append((0.0, 0.0, 0.0))
    start = _clocks()
    try:
        yield
    finally:
        whole = _minus(_clocks(), start)
        inside = _open.inside.pop()
        if _open.inside:
            _open.inside[-1] = _plus(_open.inside[-1], whole)
        if (ledger := LEDGERS.get(_open.run or "")) is not None:
            ledger.add(Part(name, *_minus(whole, inside)))


def run_of_task() -> str | None:
    """The id of the run that the task in this thread belongs to: Dask hands it on with every task as an annotation."""
    worker = current_worker()
    if worker is None:
        return None
    try:
        task = worker.state.tasks.get(worker.get_current_task())
    except KeyError:  # on a worker, but not in a task's own thread
        return None
    return ((task and task.annotations) or {}).get(RUN)


def current_worker() -> Any:
    """The Dask worker that runs this; None outside of one."""
    if "distributed" not in sys.modules:  # then there is none, and importing it takes half a second
        return None
    from distributed import get_worker

    try:
        return get_worker()
    except ValueError:
        return None


def tagged(run: str) -> Any:
    """A context whose tasks belong to the run."""
    import dask

    return dask.annotate(**{RUN: run})


def _clocks() -> Clocks:
    return time.perf_counter(), time.thread_time(), time.process_time()


def _minus(one: Clocks, other: Clocks) -> Clocks:
    return one[0] - other[0], one[1] - other[1], one[2] - other[2]


def _plus(one: Clocks, other: Clocks) -> Clocks:
    return one[0] + other[0], one[1] + other[1], one[2] + other[2]
