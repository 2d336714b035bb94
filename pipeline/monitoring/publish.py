"""Publishes a run's events to its scheduler, for the dashboard, Prometheus and `pipeline watch`.

A thread of its own sends them: emitting never blocks, and publishing errors never reach the training.
Workers send the events of rounds themselves.
"""

import contextlib
import logging
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import Any

from distributed import Client

from pipeline.events.topics import RUN_EVENTS
from pipeline.events.types import (
    Event,
    EventHandler,
    Failed,
    FragmentDone,
    Restarted,
    Saved,
    encode,
)

INTERVAL_SECONDS = 1.0  # between two FragmentDone of the same stage
WAITING = 1_000  # events that may wait to be sent; the oldest are dropped
LEAVE_SECONDS = 2.0  # for pending events when the run has ended

ORDERED = (Restarted, Saved, Failed)  # events emitted before one of these have to be sent before it

Send = Callable[[Mapping[str, Any]], object]

logger = logging.getLogger("distributed.pipeline")  # as silent as Dask's own


@contextlib.contextmanager
def publishing(client: Client, run: str) -> Iterator[EventHandler]:
    """An event handler that sends the run's events to the client's scheduler.

    It returns at once, in any thread, and never raises, even if the scheduler is lost.  Leaving the context sends
    the pending events, for two seconds at most.
    """

    def send(message: Mapping[str, Any]) -> None:
        client.log_event(RUN_EVENTS, {**message, "client": client.id})

    publisher = EventPublisher(run, send)
    thread = threading.Thread(target=publisher.work, name="publisher", daemon=True)
    thread.start()
    try:
        yield publisher
    finally:
        publisher.close()
        thread.join(LEAVE_SECONDS)


class EventPublisher:
    """Queue of events to send: of the fragments of a stage the latest, of all others each; a run's end comes last."""

    def __init__(
        self,
        run: str,
        send: Send,
        clock: Callable[[], float] = time.monotonic,
        interval_seconds: float = INTERVAL_SECONDS,
    ) -> None:
        self._run, self._send, self._clock, self._interval = run, send, clock, interval_seconds
        self._waiting: OrderedDict[Hashable, Event] = OrderedDict()
        self._sent: dict[Hashable, float] = {}  # throttled kinds -> time of the last event sent
        self._changed = threading.Condition()
        self._closing = False

    def __call__(self, event: Event) -> None:
        kind = _throttled(event) or id(event)
        with self._changed:
            replaced = self._waiting.pop(kind, None)
            self._waiting[kind] = event
            if len(self._waiting) > WAITING:
                self._waiting.popitem(last=False)
            if replaced is None:  # otherwise the thread knows when to wake up
                self._changed.notify()

    def close(self) -> None:
        """Makes `work` send the pending events and return."""
        with self._changed:
            self._closing = True
            self._changed.notify()

    def work(self) -> None:
        """Sends events until closed."""
        while (event := self._next()) is not None:
            try:
                self._send({"run": self._run, "event": encode(event)})
            except Exception:  # the scheduler is gone or the client closed: the run itself detects that
                logger.info("an event was not sent", exc_info=True)
                if self._closing:
                    return

    def _next(self) -> Event | None:
        """The first event that is due, waiting for it; None: closed and empty."""
        with self._changed:
            while True:
                now = self._clock()
                hurry = self._closing or any(isinstance(event, ORDERED) for event in self._waiting.values())
                for kind in self._waiting:
                    if hurry or self._due(kind) <= now:
                        event = self._waiting.pop(kind)
                        if _throttled(event):
                            self._sent[kind] = now
                        return event
                if self._closing:
                    return None
                self._changed.wait(
                    min((self._due(kind) - now for kind in self._waiting), default=None)
                )  # None: for ever

    def _due(self, kind: Hashable) -> float:
        return self._sent.get(kind, -math.inf) + self._interval


def _throttled(event: Event) -> Hashable | None:
    """The key of events that a later event replaces; None: every event is sent."""
    return event.stage if isinstance(event, FragmentDone) else None
