"""Limits how long a run waits for a cluster without workers: replacements, or the first ones, may be in a queue."""

import math
from collections.abc import Callable

FIRST_NOTE_SECONDS = 10.0  # a restart of the only worker takes less
NOTES_FACTOR = 2.0  # between two notes


class Patience:
    """Counts the time without any worker.  The caller passes the time; not thread-safe."""

    def __init__(self, seconds: float, note: Callable[[str], object]) -> None:
        self._seconds, self._note = seconds, note
        self._since: float | None = None
        self._next_note = FIRST_NOTE_SECONDS

    def seen(self, now: float, workers: int) -> str | None:
        """Takes the number of workers present; returns why the run gives up, or None."""
        if workers:
            self._since, self._next_note = None, FIRST_NOTE_SECONDS
            return None
        if self._since is None:
            self._since = now
        waited = now - self._since
        if waited >= self._seconds:
            return f"no worker was available for {_duration(waited)} (cluster.patience = {_duration(self._seconds)})"
        if waited >= self._next_note:
            self._next_note = NOTES_FACTOR * waited
            limit = "" if math.isinf(self._seconds) else f", {_duration(self._seconds)} at most (cluster.patience)"
            self._note(f"no worker has been available for {_duration(waited)}: waiting for one{limit}")
        return None


def _duration(seconds: float) -> str:
    """
    >>> _duration(12.3), _duration(300), _duration(5400), _duration(90_000)
    ('12 s', '5 min', '90 min', '25 h')
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 2 * 3600 else f"{seconds / 3600:.0f} h"
