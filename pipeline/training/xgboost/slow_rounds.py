"""Reports a round that takes unusually long while every worker answers; never ends it."""

import statistics
import time
from collections import deque
from collections.abc import Callable, Mapping

from pipeline.events.types import RoundDone
from pipeline.training.xgboost.rounds import EVENT_SECONDS

TIMES = 10  # times the median, from which on a round takes unusually long
LEAST_SECONDS = 10.0  # shorter rounds are never reported
KNOWN = 3  # rounds needed for comparison
RECENT = 100  # events whose seconds count


class SlowRoundDetector:
    """Detects a slow round from the events of one training."""

    def __init__(self, early_stopping: int, clock: Callable[[], float] = time.monotonic) -> None:
        """`early_stopping`: rounds without a better one that end the training; 0: never."""
        self._early_stopping, self._clock = early_stopping, clock
        self._heard: deque[tuple[RoundDone, float]] = deque()  # filled in another thread than the one that reads it
        self._seconds: deque[float] = deque(maxlen=RECENT)  # of a round
        self._last: tuple[int, float] | None = None  # round, and when its event arrived
        self._told = False  # whether there is nothing more to report before the next round
        self._words: Mapping[str, float] | None = None  # heartbeats of the workers when the round was first found slow

    def heard(self, event: RoundDone) -> None:
        """Records that a round has ended; events may skip rounds.  May be called in any thread."""
        self._heard.append((event, self._clock()))

    def _enter(self, event: RoundDone, now: float) -> None:
        if self._last is not None:
            self._seconds.append((now - self._last[1]) / (event.round - self._last[0]))
        stopped = 0 < self._early_stopping <= event.round - event.best_round
        self._last, self._told, self._words = (event.round, now), stopped or event.round == event.rounds, None

    def slow(self, heartbeats: Callable[[], Mapping[str, float]]) -> str | None:
        """Returns a message about the current round if it is slow, once.

        `heartbeats`: returns the last heartbeat of each worker, by address.  As long as one of them has sent none since the
        round was found slow, it may be hung, which `WorkerMembership` reports and ends.
        """
        while self._heard:
            self._enter(*self._heard.popleft())
        if self._last is None or self._told or len(self._seconds) < KNOWN:
            return None
        passed, median = self._clock() - self._last[1], statistics.median(self._seconds)
        if passed < max(LEAST_SECONDS, TIMES * median):
            return None
        if self._words is None:
            self._words = heartbeats()
            return None
        now = heartbeats()
        if any(now.get(worker) == word for worker, word in self._words.items()):
            return None
        self._told = True
        told_all = median >= EVENT_SECONDS
        which = f"round {self._last[0] + 1}" if told_all else f"a round after {self._last[0]}"
        return (
            f"{which} takes unusually long: {passed:.0f} s so far, the median is {median:.2g} s; every worker answers"
        )


class Stall:
    """Detects that no round has ended for `seconds`, and again each time after as many seconds more."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds, self._clock = seconds, clock
        self._since = clock()

    def heard(self) -> None:
        """Records that a round has ended, or that the rounds begin.  May be called in any thread."""
        self._since = self._clock()

    def due(self) -> bool:
        """Whether the time is over."""
        if self._clock() - self._since <= self._seconds:
            return False
        self._since = self._clock()
        return True
