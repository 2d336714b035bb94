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
from distributed.comm.addressing import get_address_host
from xgboost import collective

from pipeline.cluster.deadline import call_with_deadline
from pipeline.errors import SchedulerLostError
from pipeline.runtime.membership import WorkerMembership
from pipeline.runtime.rpc import call_if_connected
from pipeline.runtime.task_errors import task
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
    membership: WorkerMembership, workers: Sequence[str], waiting: Callable[[], object] = lambda: None
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
    owner = f"{client.id}/{uuid.uuid4().hex}"
    while membership.call(functools.partial(client.run_on_scheduler, _take, list(workers), owner), workers):
        if not told:
            waiting()
        told = True
        membership.raise_if_lost(workers)
        time.sleep(LOCK_SECONDS)
    try:
        yield
    finally:
        give_back = functools.partial(client.run_on_scheduler, _give_back, owner)
        call_with_deadline(STOP_SECONDS, "give back", functools.partial(call_if_connected, client, give_back))


def _take(workers: list[str], owner: str, dask_scheduler: Any = None) -> bool:
    """On the scheduler: locks all of these workers, or none; returns True if another owner has one of them."""
    held = dask_scheduler.__dict__.setdefault("pipeline_trainings", {})  # worker -> owner
    for worker in [worker for worker, other in held.items() if other.partition("/")[0] not in dask_scheduler.clients]:
        del held[worker]
    if any(worker in held for worker in workers):
        return True
    held.update(dict.fromkeys(workers, owner))
    return False


def _give_back(owner: str, dask_scheduler: Any = None) -> None:
    """On the scheduler: releases the locks of this owner."""
    held = dask_scheduler.__dict__.get("pipeline_trainings", {})
    for worker in [worker for worker, other in held.items() if other == owner]:
        del held[worker]


# A remote scheduler need not have this package: functions of `__main__` are pickled by value.
_take.__module__ = _give_back.__module__ = "__main__"

_TRACKERS: dict[str, Any] = {}  # by run, on the worker of rank 0; the tracker must exist as long as the rounds run


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
    from xgboost.tracker import RabitTracker

    for other in list(_TRACKERS):  # of clients that are gone: this worker is locked by us now
        _stop_tracker(other, 0)
    tracker = RabitTracker(n_workers=world, host_ip=host, sortby="task", timeout=timeout_seconds)
    tracker.start()
    _TRACKERS[run] = tracker
    return dict(tracker.worker_args())


def _stop_tracker(run: str, leave_seconds: int) -> None:
    """Frees the tracker in its own thread, once the ranks have left it, or after `leave_seconds`.

    A rank that leaves the communicator in order looks for the tracker; after a failure the others wait in vain
    until it is freed.
    """
    tracker = _TRACKERS.pop(run, None)
    if tracker is not None:
        threading.Thread(target=_free, args=(tracker, leave_seconds), daemon=True).start()


def _free(tracker: Any, leave_seconds: int) -> None:
    steps: list[Callable[[], None]] = [tracker.free]
    if leave_seconds:
        steps.insert(0, lambda: tracker.wait_for(timeout=leave_seconds))
    for step in steps:
        try:
            step()
        except (xgboost.core.XGBoostError, ValueError):
            pass  # after a failure both calls raise; the training's own error has been reported
