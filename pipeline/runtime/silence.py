"""Silence of the scheduler is not its loss: until a limit it is a note, and nobody else is blamed for it meanwhile.

A scheduler's event loop is busy for seconds with a large graph, a garbage collection, another user's function, or on a
loaded machine.  Its workers go on computing.  It is lost where the connection is closed and does not come back, or where
it has not answered for `cluster.hang_seconds`.
"""

import math
from collections.abc import Callable

QUICK_SECONDS = 1.0  # an answer within that is no silence
NOTE_SECONDS = 5.0  # of silence, after which there is a note
LONGER = 1.5  # a silence is noted again when it ends only if it is so many times the longest before
WORKER_NOTE_SECONDS = 15.0  # of silence of a worker


class SchedulerSilence:
    """How long the scheduler has not answered.  The caller's clock; not thread-safe."""

    def __init__(self, limit_seconds: float, note: Callable[[str], object]) -> None:
        self._limit_seconds, self._note = limit_seconds, note
        self._since: float | None = None  # when the first question was asked that has no answer
        self._noted = False  # this silence
        self._longest = 0.0  # noted when it ended

    def asked(self, now: float) -> None:
        """A question is sent."""
        if self._since is None:
            self._since = now

    def answered(self, now: float) -> float:
        """An answer has come; the seconds of the silence that it ends, 0 where there was none."""
        silent = 0.0 if self._since is None else now - self._since
        if self._noted and silent > LONGER * self._longest:
            self._note(f"the scheduler answers again, after {silent:.0f} s")
            self._longest = silent
        self._since, self._noted = None, False
        return silent if silent > QUICK_SECONDS else 0.0

    def unanswered(self, now: float) -> str | None:
        """No answer has come yet; why the scheduler counts as lost, or None: it is waited for."""
        silent = 0.0 if self._since is None else now - self._since
        if silent >= self._limit_seconds:
            return f"it has not answered for {silent:.0f} s (cluster.hang_seconds = {self._limit_seconds:g})"
        if silent >= NOTE_SECONDS and not self._noted:
            self._noted = True
            self._note(self._waiting())
        return None

    def _waiting(self) -> str:
        limit = "" if math.isinf(self._limit_seconds) else f", {self._limit_seconds:g} s at most (cluster.hang_seconds)"
        return f"the scheduler has not answered for {NOTE_SECONDS:g} s: waiting for it{limit}"

    def patience(self, now: float, most: float) -> float:
        """How long to wait for the answer to a question that is asked now."""
        left = math.inf if self._since is None else self._limit_seconds - (now - self._since)
        return max(0.1, min(most, left, self._limit_seconds))
