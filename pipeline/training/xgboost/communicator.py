"""Sets up XGBoost's communicator: the tracker that connects the ranks, and how each rank joins and leaves."""

import contextlib
import functools
import os
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import xgboost
from distributed import get_worker
from distributed.comm.addressing import get_address_host
from xgboost import collective
from xgboost.tracker import RabitTracker

from pipeline.cluster.deadline import call_with_deadline
from pipeline.errors import SchedulerLostError
from pipeline.runtime.membership import WorkerMembership
from pipeline.runtime.rpc import call_if_connected
from pipeline.runtime.scheduler_session import call
from pipeline.runtime.task_errors import task
from pipeline.runtime.worker_session import Content, RunResource, WorkerSession, session_of
from pipeline.training.xgboost import ports

RETRIES = 1  # of a connection; with XGBoost's 3 a worker looks for the tracker for 12 s after a failure
LOCK_SECONDS = 0.5  # between two attempts to lock the workers
# For a worker to answer that its tracker has ended, and for the scheduler that the locks are released.
STOP_SECONDS = 2.0
LEAVE_SECONDS = 60  # that the tracker waits for ranks that have not left yet


@contextlib.contextmanager
def communicator(rank_args: Mapping[str, Any] | None) -> Iterator[None]:
    """Joins XGBoost's collective for the block.

    Leaving raises after a failure, and if its listener is closed already; such errors do not matter any more.
    """
    if rank_args is None:
        yield
        return
    context = collective.CommunicatorContext(**rank_args)
    with ports.close_listening_sockets(), _without_rank_lines():
        context.__enter__()
    try:
        yield
    finally:
        with contextlib.suppress(xgboost.core.XGBoostError):
            context.__exit__(None, None, None)


@contextlib.contextmanager
def _without_rank_lines() -> Iterator[None]:
    """Suppresses what the tracker's thread prints about each rank, bypassing Python, on this process's stderr."""
    with tempfile.TemporaryFile() as held:
        stderr = os.dup(2)
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            held.seek(0)
            for line in held:
                if b" got rank " not in line:
                    os.write(2, line)


@contextlib.contextmanager
def worker_locks(
    membership: WorkerMembership, workers: Sequence[str], run: str, waiting: Callable[[], object] = lambda: None
) -> Iterator[None]:
    """Locks all these workers for one training, so that two trainings never wait for each other with half of them each.

    The scheduler keeps the owner of each worker; the locks of a client that is gone are free at once (Dask's own locks
    wait 30 s for it, a MultiLock for ever).  `waiting` is called once, before the first wait.  WorkerLostError if a
    worker leaves meanwhile.
    """
    if len(workers) == 1:
        yield
        return
    client, told = membership.client, False
    name = uuid.uuid4().hex
    lock = functools.partial(client.run_on_scheduler, call, "lock", list(workers), run, client.id, name)
    while not membership.call(lock, workers):
        if not told:
            waiting()
        told = True
        membership.raise_if_lost(workers)
        time.sleep(LOCK_SECONDS)
    try:
        yield
    finally:
        unlock = functools.partial(client.run_on_scheduler, call, "unlock", name)
        call_with_deadline(STOP_SECONDS, "unlock", functools.partial(call_if_connected, client, unlock))


def start_tracker(
    membership: WorkerMembership, workers: Sequence[str], run: str, timeout_seconds: int
) -> list[dict[str, Any] | None]:
    """Starts the tracker on rank 0's worker; returns the arguments with which each rank joins the communicator.

    None for a single worker, which needs no communicator.  WorkerLostError if rank 0's worker leaves meanwhile.
    """
    if len(workers) == 1:
        return [None]
    host = get_address_host(workers[0])
    task = membership.client.submit(
        _tracker_task, run, len(workers), host, timeout_seconds,
        workers=[workers[0]], allow_other_workers=False, pure=False,
    )  # fmt: skip
    (arguments,) = membership.results([task], workers[:1])
    shared = {**arguments, "dmlc_timeout": timeout_seconds, "dmlc_retry": RETRIES}
    return [{**shared, "dmlc_task_id": f"{rank:06d}"} for rank in range(len(workers))]


def stop_tracker(membership: WorkerMembership, workers: Sequence[str], run: str, *, leave: bool) -> None:
    """Ends the run's tracker; `leave`: the ranks are leaving the communicator in order, and it waits for them.

    Its worker may be gone, or hung and never answer: then the tracker ends with it.
    """
    if len(workers) == 1:
        return
    seconds = LEAVE_SECONDS if leave else 0

    stop = functools.partial(
        membership.client.run, _stop_tracker, run, seconds, workers=[workers[0]], on_error="ignore"
    )
    with contextlib.suppress(SchedulerLostError):
        if workers[0] in membership.refresh():
            call_with_deadline(
                STOP_SECONDS, "stop tracker", functools.partial(call_if_connected, membership.client, stop)
            )


@task
def _tracker_task(run: str, world: int, host: str, timeout_seconds: int) -> dict[str, Any]:
    session = session_of(get_worker())
    for other in session.each(Tracker):  # of clients that are gone: this worker is locked by us now
        _stop_on(session, other, 0)
    tracker = _QuietTracker(n_workers=world, host_ip=host, sortby="task", timeout=timeout_seconds)
    tracker.start()
    session.put(run, Tracker(tracker))
    return dict(tracker.worker_args())


class _QuietTracker(RabitTracker):
    """Says nothing at the end of its process, as `client.restart()` ends workers: its ranks may have gone before."""

    def __del__(self) -> None:
        with contextlib.suppress(xgboost.core.XGBoostError):
            super().__del__()


class Tracker(RunResource):
    """A run's tracker, on the worker of rank 0; it must exist as long as the rounds run."""

    def __init__(self, tracker: Any) -> None:
        self._tracker = tracker

    def contents(self) -> tuple[Content, ...]:
        return (Content("the tracker of its ranks"),)

    def close(self, leave_seconds: int = 0) -> None:
        """Frees the tracker in its own thread, once the ranks have left it, or after `leave_seconds`.

        A rank that leaves the communicator in order looks for the tracker; after a failure the others wait in vain
        until it is freed.
        """
        threading.Thread(target=_free, args=(self._tracker, leave_seconds), daemon=True).start()


def _stop_tracker(run: str, leave_seconds: int, dask_worker: Any) -> None:
    _stop_on(session_of(dask_worker), run, leave_seconds)


def _stop_on(session: WorkerSession, run: str, leave_seconds: int) -> None:
    """Ends the run's tracker on this worker, if there is one."""
    tracker = session.pop(run, Tracker)
    if tracker is not None:
        tracker.close(leave_seconds)


def _free(tracker: Any, leave_seconds: int) -> None:
    steps: list[Callable[[], None]] = [tracker.free]
    if leave_seconds:
        steps.insert(0, lambda: tracker.wait_for(timeout=leave_seconds))
    for step in steps:
        try:
            step()
        except (xgboost.core.XGBoostError, ValueError):
            pass  # after a failure both calls raise; the training's own error has been reported
