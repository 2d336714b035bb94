"""Receives a training's events on the client: rounds, checkpoint states, rounds that take unusually long."""

import contextlib
import math
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from distributed import Client

from pipeline.events.topics import WORKER_EVENTS
from pipeline.events.types import Note, RoundDone, decode
from pipeline.runtime.channel import subscribe
from pipeline.runtime.rpc import call_if_connected
from pipeline.training import handover
from pipeline.training.handover import Handover
from pipeline.training.trainer import RoundsResult, TrainingCallbacks
from pipeline.training.xgboost.slow_rounds import SlowRoundDetector, Stall
from pipeline.training.xgboost.spec import RoundsSpec

FETCH_SECONDS = 2.0  # for a checkpoint that is being fetched when its training ends


class TrainingEvents:
    """Passes on a run's RoundDone events, the last round's always; and fetches the states of checkpoints.

    Both run in threads of Dask's or their own, where an error of a callback would be lost: `check` raises it.
    """

    def __init__(
        self, client: Client, spec: RoundsSpec, callbacks: TrainingCallbacks, first: str, hang_seconds: float = math.inf
    ) -> None:
        """`first`: the worker of rank 0; `hang_seconds`: without a round, after which `stall` is due."""
        self.stall = Stall(hang_seconds)
        self._client, self._spec, self._callbacks, self._first = client, spec, callbacks, first
        self._last, self._lock = callbacks.start.round if callbacks.start else 0, threading.Lock()
        self._slow_rounds = SlowRoundDetector(spec.early_stopping)
        self._error: BaseException | None = None  # raised by a callback
        self._checkpoints: queue.SimpleQueue[int | None] = queue.SimpleQueue()  # rounds; None: the end

    def receive(self, message: Mapping[str, Any]) -> None:
        if "checkpoint" in message:
            self._checkpoints.put(message["checkpoint"])
        if "event" not in message:
            return  # perhaps for another handler of this subscription
        event = replace(decode(message["event"]), time=time.time())  # clocks of other hosts may differ
        with self._catching():
            if isinstance(event, RoundDone):
                self._pass(event)
            else:
                self._callbacks.on_event(event)

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

    def note_slow_round(self, heartbeats: Callable[[], Mapping[str, float]]) -> None:
        """Emits a note, once, if a round takes unusually long; `heartbeats`: returns the last heartbeat of each worker."""
        if (said := self._slow_rounds.slow(heartbeats)) is not None:
            self._callbacks.on_event(Note(message=said))

    def finish(self, result: RoundsResult) -> None:
        """Emits the last round, whose event may not have arrived yet."""
        self._pass(result.last_round(self._spec.rounds))

    def _pass(self, event: RoundDone) -> None:
        with self._lock:
            if event.round > self._last:
                self._last = event.round
                self._slow_rounds.heard(event)
                self.stall.heard()
                self._callbacks.on_event(event)

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
                found = call_if_connected(self._client, self._fetch_checkpoint) or {}
                if isinstance(waiting := found.get(self._first), Handover):
                    self._callbacks.on_checkpoint(waiting.state)

    def _fetch_checkpoint(self) -> Mapping[str, object]:
        """Returns what rank 0's worker has to hand over, or an error, by its address."""
        taken: Mapping[str, object] = self._client.run(
            handover.pop_checkpoint, self._spec.run, workers=[self._first], on_error="return"
        )
        return taken


@contextlib.contextmanager
def training_events(
    client: Client, spec: RoundsSpec, callbacks: TrainingCallbacks, first: str, hang_seconds: float = math.inf
) -> Iterator[TrainingEvents]:
    """Receives a run's events while the context lasts."""
    events = TrainingEvents(client, spec, callbacks, first, hang_seconds)
    with events.fetching(), subscribe(client, WORKER_EVENTS, spec.run, events.receive):
        yield events
