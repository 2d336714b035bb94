"""Runs the training tasks from the client: one pinned to each worker, one communicator, the first real error."""

import contextlib
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import xgboost
from distributed import Client, Future, get_worker, wait
from distributed.core import Status

from pipeline.cluster.identity import scheduler_info
from pipeline.efficiency.meter import MeterRecord
from pipeline.errors import JobError, PipelineError, TrainingError
from pipeline.events import Event, RoundDone, decode, encode, ignore
from pipeline.topics import hearing
from pipeline.training.communicator import start_tracker, stop_tracker, worker_locks
from pipeline.training.matrix import Partition
from pipeline.training.rounds import RoundsResult, RoundsSpec, Scores, train_rounds

TOPIC = "pipeline"  # Dask's event topic; a message is {run: id, event: encoded event}, to which Dask adds the worker
POLL_SECONDS = 1.0  # how often the client looks whether a worker is gone
ECHO_SECONDS = 5.0  # how long the real error is waited for after the first echo
ECHO = re.compile(r"allreduce|allgather|broadcast|collective|communicator|tracker|rabit|socket|connection", re.I)
PARAMETER = re.compile(  # XGBoost's words for a value it cannot use
    r"value \S+ for Parameter \w+ .*|Invalid Parameter format .*|\S* ?trailing characters could not be parsed.*", re.I
)


@dataclass(frozen=True)
class Trained:
    """The result, and where the predictions for the exact evaluation lie."""

    result: RoundsResult  # without scores
    scores: tuple[Future, ...]  # one of a (train, validation or None) pair of Scores per rank, on that worker
    meters: tuple[MeterRecord, ...]  # by rank


def run_training(
    client: Client,
    partitions: Sequence[Future],
    workers: Sequence[str],
    spec: RoundsSpec,
    listen: Callable[[Event], None] = ignore,
) -> Trained:
    """Trains on the partitions, each on the worker (address) that built it; rank 0 is the first.

    `listen` gets RoundDone events.  TrainingError or DataError with the worker's address for the first real
    error; KeyboardInterrupt stops the workers before it goes on.
    """
    with _events(client, spec, listen) as last, worker_locks(client, workers):
        rank_args = start_tracker(client, workers, spec.run, spec.timeout_seconds)
        futures: list[Future] = []
        orderly = True  # whether all ranks leave the communicator by themselves
        try:
            futures = [
                client.submit(
                    _train_task, partition, spec, args,
                    workers=[worker], allow_other_workers=False, pure=False, retries=0,
                    key=f"rounds-{spec.run}-{rank}-{time.time_ns()}",
                )
                for rank, (partition, worker, args) in enumerate(zip(partitions, workers, rank_args, strict=True))
            ]  # fmt: skip
            _wait(client, futures, workers)
            return _collect(client, futures, workers, spec, last)
        except BaseException as error:
            orderly = not isinstance(error, Exception)
            client.cancel(futures, force=True)
            raise
        finally:
            stop_tracker(client, workers, spec.run, leave=orderly)


def _collect(
    client: Client, futures: Sequence[Future], workers: Sequence[str], spec: RoundsSpec, last: "_Events"
) -> Trained:
    """Fetches the small part of the results; the predictions stay where they are."""
    small = client.submit(_without_scores, futures[0], workers=[workers[0]], pure=False)
    scores = tuple(
        client.submit(_only_scores, future, workers=[worker], pure=False)
        for future, worker in zip(futures, workers, strict=True)
    )
    meters = [
        client.submit(_only_meter, future, workers=[worker], pure=False)
        for future, worker in zip(futures, workers, strict=True)
    ]
    wait([*scores])
    result: RoundsResult = small.result()
    last.finish(result)
    return Trained(result=result, scores=scores, meters=tuple(client.gather(meters)))


def _without_scores(result: RoundsResult) -> RoundsResult:
    return replace(result, train=None, validation=None, meter=None)


def _only_scores(result: RoundsResult) -> tuple[Scores | None, Scores | None]:
    return result.train, result.validation


def _only_meter(result: RoundsResult) -> MeterRecord | None:
    return result.meter


def _train_task(partition: Partition, spec: RoundsSpec, rank_args: Mapping[str, Any] | None) -> RoundsResult:
    """What runs on a worker."""
    worker = get_worker()
    key = worker.get_current_task()

    def unwanted() -> bool:
        task = worker.state.tasks.get(key)
        return worker.status is not Status.running or task is None or task.state not in ("executing", "long-running")

    def report(event: RoundDone) -> None:
        worker.log_event(TOPIC, {"run": spec.run, "event": encode(event)})

    return train_rounds(partition, spec, rank_args, unwanted=unwanted, report=report)


def _wait(client: Client, futures: Sequence[Future], workers: Sequence[str]) -> None:
    """Waits until all ranks are done; raises the first real error, not its echo on the others."""
    pending, failed_at, echo = set(futures), None, None
    of = dict(zip(futures, workers, strict=True))
    while pending:
        try:
            done, pending = wait(list(pending), timeout=POLL_SECONDS, return_when="FIRST_COMPLETED")
        except TimeoutError:
            done = set()
        for future in done:
            if future.status == "finished":
                continue
            error = future.exception() if future.status == "error" else TrainingError("the task was cancelled")
            if not _is_echo(error):
                raise _named(error, of[future])
            echo, failed_at = echo or _named(error, of[future]), failed_at or time.monotonic()
        _check_workers(client, workers)
        if failed_at is not None and (time.monotonic() - failed_at > ECHO_SECONDS or not pending):
            assert echo is not None
            raise echo


def _is_echo(error: BaseException) -> bool:
    return isinstance(error, xgboost.core.XGBoostError) and bool(ECHO.search(str(error)))


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


def _check_workers(client: Client, workers: Sequence[str]) -> None:
    """TrainingError where a worker of the training has left the cluster."""
    try:
        present = scheduler_info(client)["workers"]
    except OSError as error:
        raise TrainingError(f"the scheduler was lost during training: {error}") from None
    lost = [worker for worker in workers if worker not in present]
    if lost:
        raise TrainingError(f"worker {lost[0]} was lost during training")


class _Events:
    """Passes a run's RoundDone events on, the last round's always."""

    def __init__(self, spec: RoundsSpec, listen: Callable[[Event], None]) -> None:
        self._spec, self._listen, self._last, self._lock = spec, listen, 0, threading.Lock()

    def receive(self, message: Mapping[str, Any]) -> None:
        event = decode(message["event"])
        if isinstance(event, RoundDone):
            self._pass(event)

    def finish(self, result: RoundsResult) -> None:
        """Says the last round, whose event may still be under way."""
        rows = 0.0
        latest = {name: series[-1] for name, series in result.history.items()}
        self._pass(
            RoundDone(
                round=result.rounds, rounds=self._spec.rounds, metrics=latest, best_round=result.best_round,
                rows_per_second=rows,
            )
        )  # fmt: skip

    def _pass(self, event: RoundDone) -> None:
        with self._lock:
            if event.round > self._last:
                self._last = event.round
                self._listen(event)


@contextlib.contextmanager
def _events(client: Client, spec: RoundsSpec, listen: Callable[[Event], None]) -> Iterator[_Events]:
    """Listens to a run's events while the context lasts."""
    events = _Events(spec, listen)
    with hearing(client, TOPIC, spec.run, events.receive):
        yield events
