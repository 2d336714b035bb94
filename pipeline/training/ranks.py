"""Runs the training tasks from the client: one pinned to each worker, one communicator, the first real error.

One attempt: what to do about lost workers is the supervisor's business.
"""

import contextlib
import functools
import math
import os
import queue
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import dask.config
import xgboost
from distributed import Client, Future, get_worker
from distributed.core import Status

from pipeline.cluster.asking import if_there
from pipeline.cluster.devices import gpu_now
from pipeline.cluster.members import Members
from pipeline.cluster.memory import rss_nbytes
from pipeline.cluster.pending import Pending
from pipeline.efficiency.meter import MeterRecord, Spent
from pipeline.errors import CollectiveError, JobError, PipelineError, TrainingError
from pipeline.events import Event, Note, RoundDone, WorkerRounds, decode, encode, ignore
from pipeline.preprocess.passing import as_it_is
from pipeline.task_errors import task
from pipeline.topics import ROUNDS, hearing
from pipeline.training.checkpoint import State
from pipeline.training.communicator import start_tracker, stop_tracker, worker_locks
from pipeline.training.leaving import all_left, inside
from pipeline.training.matrix import Partition
from pipeline.training.pace import Pace
from pipeline.training.rounds import RoundsResult, RoundsSpec, Scores, train_rounds

POLL_SECONDS = 0.5  # how often the client looks whether a worker is gone
FETCH_SECONDS = 2.0  # that a checkpoint under way may still take when its training ends
STAYING = (Status.running, Status.paused)  # of a worker that is not about to leave
ECHO_SECONDS = 5.0  # how long the real error is waited for after the first echo
ECHO = re.compile(r"allreduce|allgather|broadcast|collective|communicator|tracker|rabit|socket|connection", re.I)
WAITING = Note(message="waiting for another training that has one of these workers")
PARAMETER = re.compile(  # XGBoost's words for a value it cannot use
    r"value \S+ for Parameter \w+ .*|Invalid Parameter format .*|\S* ?trailing characters could not be parsed.*", re.I
)


class StoppedError(TrainingError):
    """The rounds were stopped because `Going.enough` said so."""


def no_checkpoints(state: State) -> None:
    """For callers who keep none."""


@dataclass(frozen=True)
class Trained:
    """The result, and where the predictions for the exact evaluation lie."""

    result: RoundsResult  # without scores
    scores: tuple[Future, ...]  # one of a (train, validation or None) pair of Scores per rank, on that worker
    meters: tuple[MeterRecord, ...]  # by rank; empty where no round was left to boost


@dataclass(frozen=True)
class Going:
    """How a training goes on, and whom it tells."""

    start: State | None = None  # goes on after its round
    listen: Callable[[Event], None] = ignore  # hears RoundDone, WorkerRounds, and notes
    keep: Callable[[State], None] = no_checkpoints  # gets the states of checkpoints, in a thread of its own
    enough: Callable[[], bool] = lambda: False  # whether to stop here, because it can go on better


def run_training(
    client: Client,
    partitions: Sequence[Future],
    workers: Sequence[str],
    spec: RoundsSpec,
    going: Going = Going(),  # frozen
    members: Members | None = None,
) -> Trained:
    """Trains on the partitions, each on the worker (address) that built it; rank 0 is the first.

    WorkerLostError, CollectiveError or SchedulerLostError where it may go on elsewhere or later; TrainingError or DataError
    with the worker's address for the first real error; KeyboardInterrupt stops the workers before it goes on.
    """
    with contextlib.ExitStack() as stack:
        members = members or stack.enter_context(Members(client))
        events = stack.enter_context(_events(client, spec, going, workers[0]))
        stack.enter_context(worker_locks(members, workers, functools.partial(going.listen, WAITING)))
        rank_args = start_tracker(members, workers, spec.run, spec.timeout_seconds)
        futures: list[Future] = []
        orderly = True  # whether all ranks leave the communicator by themselves
        try:
            begin = _placed(client, going.start, workers) if going.start else None
            futures = [
                client.submit(
                    _train_task, partition, spec, args, begin, members.names[worker],
                    workers=[worker], allow_other_workers=False, pure=False, retries=0,
                    key=f"rounds-{spec.run}-{rank}-{time.time_ns()}",
                )
                for rank, (partition, worker, args) in enumerate(zip(partitions, workers, rank_args, strict=True))
            ]  # fmt: skip
            _wait(members, futures, workers, going, events)
            return _collect(client, futures, workers, members, events)
        except BaseException as error:
            orderly = not isinstance(error, Exception)
            if_there(client, lambda: client.cancel(futures, force=True))
            raise
        finally:
            stop_tracker(members, workers, spec.run, leave=orderly)
            if not orderly:
                all_left(members, workers, spec.run)


def _placed(client: Client, start: State, workers: Sequence[str]) -> Future:
    """The state on the cluster: as a task, not as scattered data, which would be gone with the worker that has it."""
    with dask.config.set({"distributed.admin.large-graph-warning-threshold": "1 TiB"}):  # Dask warns of 10 MB
        return client.submit(as_it_is, start, workers=list(workers), pure=False)


def _collect(
    client: Client, futures: Sequence[Future], workers: Sequence[str], members: Members, events: "_Events"
) -> Trained:
    """Fetches the small part of the results; the predictions stay where they are."""
    placed = list(zip(futures, workers, strict=True))
    small = client.submit(_without_scores, futures[0], workers=[workers[0]], pure=False)
    scores = tuple(client.submit(_only_scores, future, workers=[worker], pure=False) for future, worker in placed)
    meters = [client.submit(_only_meter, future, workers=[worker], pure=False) for future, worker in placed]
    members.wait(scores, workers)
    result, *metered = members.results([small, *meters], workers)
    events.finish(result)
    return Trained(result=result, scores=scores, meters=tuple(meter for meter in metered if meter is not None))


def _without_scores(result: RoundsResult) -> RoundsResult:
    return replace(result, train=None, validation=None, meter=None)


def _only_scores(result: RoundsResult) -> tuple[Scores | None, Scores | None]:
    return result.train, result.validation


def _only_meter(result: RoundsResult) -> MeterRecord | None:
    return result.meter


_STATES: dict[str, State] = {}  # by run, on rank 0's worker: the latest, until the client has fetched it


@task
def _train_task(
    partition: Partition, spec: RoundsSpec, rank_args: Mapping[str, Any] | None, start: State | None, name: str
) -> RoundsResult:
    """What runs on a worker, whose name it has to know."""
    worker = get_worker()
    key = worker.get_current_task()

    def unwanted() -> bool:
        task = worker.state.tasks.get(key)
        return worker.status not in STAYING or task is None or task.state not in ("executing", "long-running")

    def report(event: RoundDone) -> None:
        worker.log_event(ROUNDS, {"run": spec.run, "event": encode(event)})

    def account(first: int, last: int, spent: Spent) -> None:
        now = {**asdict(spent), "memory_nbytes": rss_nbytes(os.getpid()), **(gpu_now() if spec.device != "cpu" else {})}
        event = WorkerRounds(worker=name, first=first, round=last, **now)
        worker.log_event(ROUNDS, {"run": spec.run, "event": encode(event)})

    def keep(state: State) -> None:
        _STATES[spec.run] = state
        worker.log_event(ROUNDS, {"run": spec.run, "checkpoint": state.round})

    with partition.lock, inside(spec.run):  # an attempt before this one may not have seen yet that it is over
        try:
            return train_rounds(
                partition, spec, rank_args, start=start, unwanted=unwanted, report=report, account=account, keep=keep
            )
        finally:
            _STATES.pop(spec.run, None)


def _hand_over(run: str) -> State | None:
    return _STATES.pop(run, None)


def _wait(members: Members, futures: Sequence[Future], workers: Sequence[str], going: Going, events: "_Events") -> None:
    """Waits until all ranks are done; raises the first real error, not its echo on the others."""
    pending, failed_at, echo = Pending(futures), None, None
    of = dict(zip(futures, workers, strict=True))
    while pending:
        for future in pending.ended(POLL_SECONDS):
            if future.status == "finished":
                continue
            error = future.exception() if future.status == "error" else CollectiveError("the task was cancelled")
            if not _is_echo(error):
                raise _named(error, of[future])
            echo, failed_at = echo or _named(error, of[future]), failed_at or time.monotonic()
        if failed_at is not None:
            members.look()
        members.check(workers)
        events.check()
        events.tell_slow(lambda: {at: said["last_seen"] for at, said in members.look().items() if at in of.values()})
        if pending and going.enough():
            raise StoppedError
        if failed_at is not None and (time.monotonic() - failed_at > ECHO_SECONDS or not pending):
            raise CollectiveError(str(echo)) from echo


def _is_echo(error: BaseException) -> bool:
    known = isinstance(error, xgboost.core.XGBoostError) and bool(ECHO.search(str(error)))
    return known or isinstance(error, CollectiveError)


def _named(error: BaseException, worker: str) -> PipelineError:
    """The error as one of ours, in one line, with the worker's address."""
    if isinstance(error, PipelineError):
        return type(error)(f"worker {worker}: {error}")
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = " ".join(line for line in lines if not line.startswith(("Stack trace", "[bt]")))[:500]
    if found := PARAMETER.search(text):
        return JobError(f"training.params: {found[0]}")
    named = TrainingError(f"worker {worker}: {type(error).__name__}: {text}")
    named.__cause__ = error
    return named


class _Events:
    """Passes a run's RoundDone events on, the last round's always; and fetches the states of checkpoints.

    Both in threads of Dask's or their own, where an error of those who listen would be lost: `check` raises it.
    """

    def __init__(self, client: Client, spec: RoundsSpec, going: Going, first: str) -> None:
        """`first`: the worker of rank 0."""
        self._client, self._spec, self._going, self._first = client, spec, going, first
        self._last, self._lock = going.start.round if going.start else 0, threading.Lock()
        self._pace = Pace(spec.early_stopping)
        self._error: BaseException | None = None  # of those who listen
        self._checkpoints: queue.SimpleQueue[int | None] = queue.SimpleQueue()  # rounds; None: the end

    def receive(self, message: Mapping[str, Any]) -> None:
        if "checkpoint" in message:
            self._checkpoints.put(message["checkpoint"])
            return
        event = replace(decode(message["event"]), time=time.time())  # the clocks of other hosts may be set differently
        with self._catching():
            if isinstance(event, RoundDone):
                self._pass(event)
            else:
                self._going.listen(event)

    def check(self) -> None:
        """Raises the first error of those who listen."""
        if self._error is not None:
            raise self._error

    @contextlib.contextmanager
    def _catching(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            self._error = self._error or error

    def tell_slow(self, words: Callable[[], Mapping[str, float]]) -> None:
        """Says once that a round takes unusually long; `words`: when each worker was last heard of."""
        if (said := self._pace.slow(words)) is not None:
            self._going.listen(Note(message=said))

    def finish(self, result: RoundsResult) -> None:
        """Says the last round, whose event may still be under way."""
        latest = {name: series[-1] for name, series in result.history.items() if math.isfinite(series[-1])}
        self._pass(
            RoundDone(
                round=result.rounds, rounds=self._spec.rounds, metrics=latest, best_round=result.best_round,
                best=_best(result), rows_per_second=0.0,
            )
        )  # fmt: skip

    def _pass(self, event: RoundDone) -> None:
        with self._lock:
            if event.round > self._last:
                self._last = event.round
                self._pace.heard(event)
                self._going.listen(event)

    @contextlib.contextmanager
    def fetching(self) -> Iterator[None]:
        """Fetches states as they come, beside the training: it may take long, or for ever where a worker freezes."""
        thread = threading.Thread(target=self._fetch, name="checkpoints", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._checkpoints.put(None)
            thread.join(FETCH_SECONDS)
        self.check()

    def _fetch(self) -> None:
        while self._checkpoints.get() is not None:
            with self._catching():
                found = if_there(self._client, self._take) or {}
                if isinstance(state := found.get(self._first), State):
                    self._going.keep(state)

    def _take(self) -> Mapping[str, object]:
        """What rank 0's worker has to hand over, or an error, by its address."""
        taken: Mapping[str, object] = self._client.run(
            _hand_over, self._spec.run, workers=[self._first], on_error="return"
        )
        return taken


def _best(result: RoundsResult) -> float | None:
    """The deciding metric in the best round; None where nothing is measured."""
    best = math.nan if result.state is None else result.state.best
    return None if math.isnan(best) else best


@contextlib.contextmanager
def _events(client: Client, spec: RoundsSpec, going: Going, first: str) -> Iterator[_Events]:
    """Listens to a run's events while the context lasts."""
    events = _Events(client, spec, going, first)
    with events.fetching(), hearing(client, ROUNDS, spec.run, events.receive):
        yield events
