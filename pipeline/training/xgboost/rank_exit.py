"""Ensures that every rank has left a failed training before anything else runs on its worker.

XGBoost (3.4, read and seen) may lose the error of a connection that broke: the thread that reads returns the operation
before it has recorded its result.  A rank that continues in between waits for an answer that no peer will send; neither
a timeout nor the exit of other ranks ends that wait, only the end of its process.
"""

import contextlib
import functools
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import psutil
from distributed import Client

from pipeline.cluster.deadline import call_with_deadline
from pipeline.errors import SchedulerLostError
from pipeline.runtime.membership import WorkerMembership
from pipeline.runtime.rpc import call_if_connected
from pipeline.runtime.worker_session import Content, RunResource, WorkerSession, session_of

POLL_SECONDS = 0.1
ANSWER_SECONDS = 2.0  # for a worker
# Without work, after which a rank counts as stuck; a rank that looks for its tracker takes a second.
STUCK_SECONDS = 5.0
BUSY_SECONDS = 0.02  # of CPU time between two checks; a rank that uses more is busy
STUCK = "it did not leave the rounds after that (stuck in XGBoost), ended"


class RankThread(RunResource):
    """The thread that is in the rounds of a run: the one that makes this object."""

    def __init__(self, run: str) -> None:
        self._id = threading.get_native_id()

    def cpu_seconds(self) -> float:
        """Returns the seconds of CPU time that the thread has used."""
        known = [used.user_time + used.system_time for used in psutil.Process().threads() if used.id == self._id]
        return known[0] if known else time.process_time()  # systems that number threads differently

    def contents(self) -> tuple[Content, ...]:
        return (Content("a thread in its rounds"),)


@contextlib.contextmanager
def training_thread(session: WorkerSession, run: str) -> Iterator[RankThread]:
    """On the worker: marks this thread as being in the rounds of the run."""
    thread = RankThread(run)
    session.put(run, thread)
    try:
        yield thread
    finally:
        session.pop(run, RankThread)


def thread_cpu_seconds(run: str, dask_worker: Any) -> float | None:
    """On the worker: returns the CPU seconds of the thread that is in the rounds of the run; None if there is none."""
    thread = session_of(dask_worker).find(run, RankThread)
    return None if thread is None else thread.cpu_seconds()


def wait_until_ranks_exit(
    membership: WorkerMembership,
    workers: Sequence[str],
    run: str,
    *,
    stuck_seconds: float = STUCK_SECONDS,
    answer_seconds: float = ANSWER_SECONDS,
) -> None:
    """Waits until the ranks of the run have left its rounds; kills the worker of a rank that does nothing any more.

    Does not wait for workers that do not answer: `WorkerMembership` kills those that hang.  A scheduler lost meanwhile is
    reported elsewhere.
    """
    last = dict.fromkeys(workers, (0.0, time.monotonic()))  # worker -> CPU seconds, and when they last grew
    with contextlib.suppress(SchedulerLostError):
        while there := membership.refresh().keys() & workers:
            answers = _answers(membership.client, there, run, answer_seconds)
            busy = {worker: used for worker, used in answers.items() if used is not None}
            if not busy:
                return
            now = time.monotonic()
            for worker, used in busy.items():
                before, since = last[worker]
                if used > before + BUSY_SECONDS:
                    last[worker] = (used, now)
                elif now - since > stuck_seconds:
                    membership.terminate(worker, STUCK)
            time.sleep(POLL_SECONDS)


def _answers(client: Client, workers: Collection[str], run: str, seconds: float) -> Mapping[str, float | None]:
    """Returns `thread_cpu_seconds` of those of these workers that answer within so many seconds."""
    answers: dict[str, float | None] = {}

    def ask(worker: str) -> None:
        answers.update(
            call_if_connected(client, lambda: client.run(thread_cpu_seconds, run, workers=[worker], on_error="ignore"))
            or {}
        )

    call_with_deadline(seconds, "all left", *(functools.partial(ask, worker) for worker in workers))
    return dict(answers)
