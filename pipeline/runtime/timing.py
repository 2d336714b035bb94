"""Times a run: stages of the client, spans of the workers."""

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from pipeline.events.topics import WORKER_EVENTS
from pipeline.runtime.task_ledger import run_of_task, timed_section
from pipeline.runtime.worker_session import current_worker

Clock = Callable[[], float]

_EPOCH = time.time() - time.monotonic()


def monotonic_epoch() -> float:
    """Returns seconds since the epoch, by a clock that never goes back while this process runs."""
    return _EPOCH + time.monotonic()


@dataclass(frozen=True)
class Span:
    """What one worker did from `start` to `stop`, in seconds since the epoch on its own clock."""

    worker: str
    stage: str
    start: float
    stop: float
    cpu_seconds: float | None = None  # of the task's thread; None: not measured


@dataclass
class StageTimer:
    """Adds up the seconds of named stages; `begin` is when the run began, by `clock`.

    `cpu_begin`: the CPU seconds that its processes had spent by then; 0 where it began with this process.
    """

    begin: float
    cpu_begin: float = 0.0
    clock: Clock = monotonic_epoch
    seconds: dict[str, float] = field(default_factory=dict)
    current: str = ""  # the stage now
    _inside: float = 0.0  # seconds of the stages within the current one

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Counts the seconds of the block; those of a stage within it count there only."""
        start, before, self.current = self.clock(), self.current, name
        inside, self._inside = self._inside, 0.0
        try:
            yield
        finally:
            self.current = before
            spent = self.clock() - start
            self.seconds[name] = self.seconds.get(name, 0.0) + spent - self._inside
            self._inside = inside + spent

    def close(self) -> dict[str, float]:
        """Returns the seconds of every stage, of the time between stages ("other"), and in all ("total")."""
        total = self.clock() - self.begin
        other = max(0.0, total - sum(self.seconds.values()))
        return {**self.seconds, "other": other, "total": total}


def process_start() -> float:
    """Returns when this process began, in seconds since the epoch; the current time if the system does not report it."""
    try:
        with open("/proc/self/stat", encoding="ascii") as stat, open("/proc/uptime", encoding="ascii") as uptime:
            ticks = int(stat.read().rpartition(")")[2].split()[19])
            age = float(uptime.read().split()[0]) - ticks / os.sysconf("SC_CLK_TCK")
    except OSError:
        return time.time()
    return time.time() - max(0.0, age)


@contextlib.contextmanager
def span(stage: str) -> Iterator[None]:
    """Logs the block as a span of the worker that runs this task, and adds it to the run's account.

    Outside a worker it does nothing.
    """
    start, cpu = time.time(), time.thread_time()
    with timed_section(stage):
        yield
    worker = current_worker()
    if worker is not None:
        spent = {"start": start, "stop": time.time(), "cpu_seconds": time.thread_time() - cpu}
        worker.log_event(WORKER_EVENTS, {"run": run_of_task(), "stage": stage, **spent})
