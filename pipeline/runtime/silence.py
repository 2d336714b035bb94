"""Times the scheduler's silence: up to a limit it causes a note only, and it does not count against any worker.

A scheduler's event loop is busy for seconds with a large graph, a garbage collection, another user's function, or on a
loaded machine.  Its workers keep computing.  It is lost if the connection is closed and does not come back, or if it
has not answered for `cluster.hang_seconds`.
"""

import math
from collections.abc import Callable

QUICK_SECONDS = 1.0  # a faster answer is no silence
NOTE_SECONDS = 5.0  # of silence, after which there is a note
LONGER = 1.5  # the end of a silence is noted again only if it was so many times longer than the longest before
WORKER_NOTE_SECONDS = 15.0  # of silence of a worker


class SchedulerSilence:
    """Counts how long the scheduler has not answered.  The caller passes the time; not thread-safe."""

    def __init__(self, limit_seconds: float, note: Callable[[str], object]) -> None:
        self._limit_seconds, self._note = limit_seconds, note
        self._since: float | None = None  # time of the first request without an answer
        self._noted = False  # whether this silence was noted
        self._longest = 0.0  # of the silences whose end was noted

    def asked(self, now: float) -> None:
        """Records that a request was sent."""
        if self._since is None:
            self._since = now

    def answered(self, now: float) -> float:
        """Records an answer; returns the seconds of the silence that it ends, 0 if there was none."""
        silent = 0.0 if self._since is None else now - self._since
        if self._noted and silent > LONGER * self._longest:
            self._note(f"the scheduler answers again, after {silent:.0f} s")
            self._longest = silent
        self._since, self._noted = None, False
        return silent if silent > QUICK_SECONDS else 0.0

    def unanswered(self, now: float) -> str | None:
        """Records that no answer has come; returns why the scheduler counts as lost, or None to keep waiting."""
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
        """Returns how long to wait for the answer to a request sent now."""
        left = math.inf if self._since is None else self._limit_seconds - (now - self._since)
        return max(0.1, min(most, left, self._limit_seconds))
