"""Runs the training tasks from the client: one pinned to each worker, one communicator, the first real error.

One attempt; the supervisor handles lost workers.
"""

import contextlib
import functools
import re
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

import dask.config
import xgboost
from distributed import Client, Future

from pipeline.efficiency.round_meter import MeterRecord
from pipeline.errors import (
    CollectiveError,
    DepartureError,
    JobError,
    PipelineError,
    SchedulerLostError,
    TrainingError,
    WorkerLostError,
)
from pipeline.events.types import Note
from pipeline.preprocess.fragment_tasks import identity
from pipeline.runtime.future_set import FutureSet
from pipeline.runtime.membership import WorkerMembership
from pipeline.runtime.reachability import Pair, left_out, unreachable_pairs
from pipeline.runtime.rpc import call_if_connected
from pipeline.training import handover
from pipeline.training.state import State
from pipeline.training.trainer import RoundsResult, Scores, StoppedError, TrainingCallbacks, TrainingResult
from pipeline.training.xgboost.communicator import start_tracker, stop_tracker, worker_locks
from pipeline.training.xgboost.rank_exit import wait_until_ranks_exit
from pipeline.training.xgboost.rank_task import train_task
from pipeline.training.xgboost.spec import RoundsSpec
from pipeline.training.xgboost.training_events import TrainingEvents, training_events

POLL_SECONDS = 0.5  # between two checks of the client whether a worker is gone
GONE_SECONDS = 10.0  # for the other ranks to end once a worker that had announced it is gone
SECONDARY_ERROR_SECONDS = 5.0  # to wait for the real error after the first echo
SECONDARY_ERROR = re.compile(
    r"allreduce|allgather|broadcast|collective|communicator|tracker|rabit|socket|connection", re.I
)
WAITING = Note(message="waiting for another training that uses one of these workers")
PARAMETER = re.compile(  # XGBoost's text for a value it cannot use
    r"value \S+ for Parameter \w+ .*|Invalid Parameter format .*|\S* ?trailing characters could not be parsed.*", re.I
)


def run_training(
    client: Client,
    partitions: Sequence[Future],
    workers: Sequence[str],
    spec: RoundsSpec,
    callbacks: TrainingCallbacks = TrainingCallbacks(),  # noqa: B008  # frozen
    membership: WorkerMembership | None = None,
) -> TrainingResult:
    """Trains on the partitions, each on the worker (address) that built it; rank 0 is the first.

    WorkerLostError, CollectiveError or SchedulerLostError if the training may continue elsewhere or later;
    TrainingError or DataError with the worker's address for the first real error; KeyboardInterrupt stops the workers
    before it propagates.
    """
    with contextlib.ExitStack() as stack:
        membership = membership or stack.enter_context(WorkerMembership(client))
        events = stack.enter_context(training_events(client, spec, callbacks, workers[0], membership.hang_seconds))
        stack.enter_context(worker_locks(membership, workers, spec.run, functools.partial(callbacks.on_event, WAITING)))
        rank_args = start_tracker(membership, workers, spec.run, spec.timeout_seconds)
        futures: list[Future] = []
        try:
            begin = replicate_state(client, callbacks.start, workers) if callbacks.start else None
            futures = [
                client.submit(
                    train_task, partition, spec, args, begin, membership.names[worker], callbacks.published,
                    workers=[worker], allow_other_workers=False, pure=False, retries=0,
                    key=f"rounds-{spec.run}-{rank}-{time.time_ns()}",
                )
                for rank, (partition, worker, args) in enumerate(zip(partitions, workers, rank_args, strict=True))
            ]  # fmt: skip
            _wait(membership, futures, workers, callbacks, events)
            trained = _collect(client, futures, workers, membership, events)
        except Exception as error:
            call_if_connected(client, lambda: client.cancel(futures, force=True))
            stop_tracker(membership, workers, spec.run, leave=False)
            wait_until_ranks_exit(membership, workers, spec.run)
            if (reason := keep_last_state(membership, workers, spec, callbacks, error)) is error:
                raise
            raise reason from error
        except BaseException:  # interrupted: all ranks leave the communicator by themselves
            call_if_connected(client, lambda: client.cancel(futures, force=True))
            stop_tracker(membership, workers, spec.run, leave=True)
            raise
        stop_tracker(membership, workers, spec.run, leave=True)
        return trained


def keep_last_state(
    membership: WorkerMembership,
    workers: Sequence[str],
    spec: RoundsSpec,
    callbacks: TrainingCallbacks,
    error: Exception,
) -> Exception:
    """Keeps the state with which the ranks ended an attempt; returns the error, or the departure that caused it.

    Lost workers are not asked: Dask would try to connect to them until the time for answers is over.
    """
    if isinstance(error, SchedulerLostError):
        return error
    try:
        present = membership.refresh()
    except SchedulerLostError:
        return error
    found = handover.collect(membership.client, [worker for worker in workers if worker in present], spec.run)
    if found is None:
        return error
    callbacks.on_checkpoint(found.state)
    if found.leaving and isinstance(error, (WorkerLostError, CollectiveError)):
        if isinstance(error, DepartureError):
            return error
        reason = error.reason if isinstance(error, WorkerLostError) else "it announced that it leaves"
        return DepartureError(workers[found.leaving[0]], reason)
    return error


def replicate_state(client: Client, start: State, workers: Sequence[str]) -> Future:
    """Puts the state on the cluster as a task: scattered data would be lost with the worker that holds it."""
    with dask.config.set({"distributed.admin.large-graph-warning-threshold": "1 TiB"}):  # Dask warns at 10 MB
        return client.submit(identity, start, workers=list(workers), pure=False)


def _collect(
    client: Client,
    futures: Sequence[Future],
    workers: Sequence[str],
    membership: WorkerMembership,
    events: TrainingEvents,
) -> TrainingResult:
    """Fetches the small part of the results; the predictions stay on the workers."""
    placed = list(zip(futures, workers, strict=True))
    small = client.submit(_without_scores, futures[0], workers=[workers[0]], pure=False)
    scores = tuple(client.submit(_only_scores, future, workers=[worker], pure=False) for future, worker in placed)
    meters = [client.submit(_only_meter, future, workers=[worker], pure=False) for future, worker in placed]
    membership.wait(scores, workers)
    result, *metered = membership.results([small, *meters], workers)
    events.finish(result)
    return TrainingResult(result=result, scores=scores, meters=tuple(meter for meter in metered if meter is not None))


def _without_scores(result: RoundsResult) -> RoundsResult:
    return replace(result, train=None, validation=None, meter=None)


def _only_scores(result: RoundsResult) -> tuple[Scores | None, Scores | None]:
    return result.train, result.validation


def _only_meter(result: RoundsResult) -> MeterRecord | None:
    return result.meter


def _wait(
    membership: WorkerMembership,
    futures: Sequence[Future],
    workers: Sequence[str],
    callbacks: TrainingCallbacks,
    events: TrainingEvents,
) -> None:
    """Waits until all ranks are done; raises the first real error, not its echo on the others.

    If a worker has announced that it leaves, the ranks that stay end the attempt themselves: this waits for them.
    """
    pending, failed_at, echo = FutureSet(futures), None, None
    of, departures = dict(zip(futures, workers, strict=True)), Departures(membership, workers)
    running = set(workers)
    events.stall.heard()
    while pending:
        for future in pending.wait_any(POLL_SECONDS):
            running.discard(of[future])
            if future.status == "finished":
                continue
            error = future.exception() if future.status == "error" else CollectiveError("the task was cancelled")
            if not _is_secondary_error(error):
                raise _named(error, of[future])
            echo, failed_at = echo or _named(error, of[future]), failed_at or time.monotonic()
        if failed_at is not None:
            membership.refresh()
        departures.check(running)
        if events.stall.due() and membership.all_heard(workers):
            leave_out_unreachable(membership, workers)
        events.check()
        events.note_slow_round(
            lambda: {at: said["last_seen"] for at, said in membership.refresh().items() if at in of.values()}
        )
        if pending and callbacks.should_stop():
            raise StoppedError
        if failed_at is not None and (time.monotonic() - failed_at > SECONDARY_ERROR_SECONDS or not pending):
            raise CollectiveError(str(echo)) from echo


def leave_out_unreachable(
    membership: WorkerMembership,
    workers: Sequence[str],
    probe: Callable[[Client, Sequence[str]], Sequence[Pair]] = unreachable_pairs,
) -> None:
    """If no round ends though all heartbeats arrive: leaves out workers that others cannot reach (DepartureError)."""
    unreached = left_out(membership.call(lambda: probe(membership.client, workers), workers), workers)
    for worker, other in unreached.items():
        name, other_name = membership.names[worker], membership.names[other]
        membership.leave_out(
            worker,
            f"workers {other_name} and {name} cannot reach each other (no TCP connection between them, and no round for "
            f"{membership.hang_seconds:g} s, cluster.hang_seconds): the run continues without worker {name}",
        )
    membership.raise_if_lost(unreached)


class Departures:
    """Workers that have announced that they leave, during one attempt."""

    def __init__(
        self, membership: WorkerMembership, workers: Sequence[str], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._membership, self._workers, self._clock = membership, workers, clock
        self._gone_at: float | None = None  # when the first of them was seen to be disconnected

    def check(self, running: Collection[str]) -> None:
        """Raises as `WorkerMembership.raise_if_lost`; DepartureError once the ranks that stay have ended, or GONE_SECONDS are over.

        `running`: the workers whose ranks have not ended.  A worker that leaves and is still connected stays in its
        collectives, so that the others end with it; after it disconnects, the attempt fails by itself, or never.
        """
        leaving = self._membership.announced(self._workers)
        self._membership.raise_if_lost([worker for worker in self._workers if worker not in leaving])
        if not leaving:
            return
        if not all(leaving.values()):
            self._gone_at = self._gone_at or self._clock()
        too_long = self._gone_at is not None and self._clock() - self._gone_at > GONE_SECONDS
        if too_long or not set(running) - leaving.keys():
            self._membership.raise_if_lost(leaving)


def _is_secondary_error(error: BaseException) -> bool:
    known = isinstance(error, xgboost.core.XGBoostError) and bool(SECONDARY_ERROR.search(str(error)))
    return known or isinstance(error, CollectiveError)


def _named(error: BaseException, worker: str) -> PipelineError:
    """Converts the error into one of ours, in one line, with the worker's address."""
    if isinstance(error, PipelineError):
        return type(error)(f"worker {worker}: {error}")
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = " ".join(line for line in lines if not line.startswith(("Stack trace", "[bt]")))[:500]
    if found := PARAMETER.search(text):
        return JobError(f"training.params: {found[0]}")
    named = TrainingError(f"worker {worker}: {type(error).__name__}: {text}")
    named.__cause__ = error
    return named
