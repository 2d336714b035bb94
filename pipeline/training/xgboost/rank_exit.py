"""Sees to it that every rank has left a training that failed, before anything else is done on its worker.

XGBoost (3.4, read and seen) may lose the error of a connection that broke: the thread that reads hands the operation back
before it has noted what came of it.  A rank that goes on in between waits for an answer that nobody is left to give; no
timeout ends that, nor anybody else's leaving, but the end of its process.
"""

import contextlib
import functools
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence

import psutil
from distributed import Client

from pipeline.cluster.deadline import in_time
from pipeline.errors import SchedulerLostError
from pipeline.runtime.membership import Members
from pipeline.runtime.rpc import if_there

POLL_SECONDS = 0.1
ANSWER_SECONDS = 2.0  # for a worker
# Without work, after which a rank is taken for stuck; one that looks for its tracker takes a second.
STUCK_SECONDS = 5.0
BUSY_SECONDS = 0.02  # of CPU time between two looks, that make a rank busy
STUCK = "it did not leave the rounds after that (stuck in XGBoost), ended"

_inside: dict[str, int] = {}  # on the worker: run -> the thread that trains for it


@contextlib.contextmanager
def inside(run: str) -> Iterator[None]:
    """On the worker: this thread is in the rounds of the run."""
    _inside[run] = threading.get_native_id()
    try:
        yield
    finally:
        _inside.pop(run, None)


def worked(run: str) -> float | None:
    """On the worker: CPU seconds of the thread that is in the rounds of the run; None where none is."""
    thread = _inside.get(run)
    if thread is None:
        return None
    known = [used.user_time + used.system_time for used in psutil.Process().threads() if used.id == thread]
    return known[0] if known else time.process_time()  # systems that number threads in another way


def all_left(members: Members, workers: Sequence[str], run: str) -> None:
    """Waits until the ranks of the run have left its rounds; one that does nothing any more is ended.

    Not for workers that do not answer: `Members` ends those that are frozen.  A scheduler that is lost meanwhile is told
    of elsewhere.
    """
    last = dict.fromkeys(workers, (0.0, time.monotonic()))  # worker -> CPU seconds, and when they were seen to grow
    with contextlib.suppress(SchedulerLostError):
        while there := members.look().keys() & workers:
            busy = {worker: used for worker, used in _answers(members.client, there, run).items() if used is not None}
            if not busy:
                return
            now = time.monotonic()
            for worker, used in busy.items():
                before, since = last[worker]
                if used > before + BUSY_SECONDS:
                    last[worker] = (used, now)
                elif now - since > STUCK_SECONDS:
                    members.end(worker, STUCK)
            time.sleep(POLL_SECONDS)


def _answers(client: Client, workers: Collection[str], run: str) -> Mapping[str, float | None]:
    """What `worked` is on these workers, as far as they answer in time."""
    answers: dict[str, float | None] = {}

    def ask(worker: str) -> None:
        answers.update(if_there(client, lambda: client.run(worked, run, workers=[worker], on_error="ignore")) or {})

    in_time(ANSWER_SECONDS, "all left", *(functools.partial(ask, worker) for worker in workers))
    return dict(answers)
