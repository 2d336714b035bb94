"""Receives a training's events on the client: rounds, checkpoint states, rounds that take unusually long."""

import contextlib
import math
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from distributed import Client

from pipeline.events.types import Event, Note, RoundDone, decode, ignore
from pipeline.runtime.channel import ROUNDS, hearing
from pipeline.runtime.rpc import if_there
from pipeline.training import handover
from pipeline.training.checkpoint import State
from pipeline.training.handover import Handover
from pipeline.training.xgboost.rounds import RoundsResult
from pipeline.training.xgboost.slow_rounds import Pace, Stall
from pipeline.training.xgboost.spec import RoundsSpec

FETCH_SECONDS = 2.0  # for a checkpoint that is being fetched when its training ends


def no_checkpoints(state: State) -> None:
    """Default: keeps none."""


@dataclass(frozen=True)
class Going:
    """Start state and callbacks of one training attempt."""

    start: State | None = None  # continue after its round
    listen: Callable[[Event], None] = ignore  # receives RoundDone, WorkerRounds, and notes
    keep: Callable[[State], None] = no_checkpoints  # receives the states of checkpoints, in its own thread
    enough: Callable[[], bool] = lambda: False  # whether to stop here, because the run can restart on more workers


class TrainingEvents:
    """Passes on a run's RoundDone events, the last round's always; and fetches the states of checkpoints.

    Both run in threads of Dask's or their own, where an error of a callback would be lost: `check` raises it.
    """

    def __init__(
        self, client: Client, spec: RoundsSpec, going: Going, first: str, hang_seconds: float = math.inf
    ) -> None:
        """`first`: the worker of rank 0; `hang_seconds`: without a round, after which `stall` is due."""
        self.stall = Stall(hang_seconds)
        self._client, self._spec, self._going, self._first = client, spec, going, first
        self._last, self._lock = going.start.round if going.start else 0, threading.Lock()
        self._pace = Pace(spec.early_stopping)
        self._error: BaseException | None = None  # raised by a callback
        self._checkpoints: queue.SimpleQueue[int | None] = queue.SimpleQueue()  # rounds; None: the end

    def receive(self, message: Mapping[str, Any]) -> None:
        if "checkpoint" in message:
            self._checkpoints.put(message["checkpoint"])
            return
        event = replace(decode(message["event"]), time=time.time())  # clocks of other hosts may differ
        with self._catching():
            if isinstance(event, RoundDone):
                self._pass(event)
            else:
                self._going.listen(event)

    def check(self) -> None:
        """Raises the first error of a callback."""
        if self._error is not None:
            raise self._error

    @contextlib.contextmanager
    def _catching(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            self._error = self._error or error

    def tell_slow(self, words: Callable[[], Mapping[str, float]]) -> None:
        """Emits a note, once, if a round takes unusually long; `words`: returns the last heartbeat of each worker."""
        if (said := self._pace.slow(words)) is not None:
            self._going.listen(Note(message=said))

    def finish(self, result: RoundsResult) -> None:
        """Emits the last round, whose event may not have arrived yet."""
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
                self.stall.heard()
                self._going.listen(event)

    @contextlib.contextmanager
    def fetching(self) -> Iterator[None]:
        """Fetches states in parallel with the training: a fetch may take long, or for ever if a worker hangs."""
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
                if isinstance(waiting := found.get(self._first), Handover):
                    self._going.keep(waiting.state)

    def _take(self) -> Mapping[str, object]:
        """Returns what rank 0's worker has to hand over, or an error, by its address."""
        taken: Mapping[str, object] = self._client.run(
            handover.take, self._spec.run, workers=[self._first], on_error="return"
        )
        return taken


def _best(result: RoundsResult) -> float | None:
    """Returns the deciding metric in the best round; None if nothing is measured."""
    best = math.nan if result.state is None else result.state.best
    return None if math.isnan(best) else best


@contextlib.contextmanager
def training_events(
    client: Client, spec: RoundsSpec, going: Going, first: str, hang_seconds: float = math.inf
) -> Iterator[TrainingEvents]:
    """Receives a run's events while the context lasts."""
    events = TrainingEvents(client, spec, going, first, hang_seconds)
    with events.fetching(), hearing(client, ROUNDS, spec.run, events.receive):
        yield events
