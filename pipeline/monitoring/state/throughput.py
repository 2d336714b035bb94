"""Estimates the speed of the rounds, and from it the remaining time."""

import bisect
import itertools
import statistics
from collections import deque

from pipeline.monitoring.state.bounds import CURVE_POINTS

MARKS = 60  # rounds whose times give the current speed
PIECES = 12  # into which those are cut to measure how much the speed varies


class RoundRate:
    """The times at which rounds ended."""

    def __init__(self) -> None:
        self.marks: list[tuple[float, int]] = []  # (time, round) by time; of a long run a sample
        # The last rounds since the rounds began, or restarted; and the rows per second of these rounds.
        self._now: deque[tuple[float, int]] = deque(maxlen=MARKS)
        self._rows: deque[tuple[int, float]] = deque(maxlen=MARKS - 1)

    def put(self, moment: float, number: int) -> None:
        """Adds a round; beyond the limit every second round is dropped."""
        mark = (moment, number)
        place = bisect.bisect_left(self.marks, mark)
        if self.marks[place : place + 1] != [mark]:
            self.marks.insert(place, mark)
        if len(self.marks) > CURVE_POINTS:
            self.marks = [*self.marks[:-1:2], self.marks[-1]]

    def goes_on(self, moment: float, number: int, rows_per_second: float = 0.0) -> None:
        """Adds the youngest round; `rows_per_second` since the one before, 0: unknown."""
        before = self._now[-1][1] if self._now else number
        if not self._now or number > before:
            self._now.append((moment, number))
            if rows_per_second > 0 and number > before:
                self._rows.append((number - before, rows_per_second))

    def begins_again(self) -> None:
        """Resets the speed: later rounds may have another."""
        self._now.clear()
        self._rows.clear()

    @property
    def rounds_per_second(self) -> float | None:
        """Of the last rounds."""
        if len(self._now) < 2:
            return None
        (begin, first), (end, last) = self._now[0], self._now[-1]
        return (last - first) / (end - begin) if end > begin and last > first else None

    @property
    def rounds(self) -> int:
        """How many rounds the two speeds cover."""
        return self._now[-1][1] - self._now[0][1] if self._now else 0

    @property
    def rows_per_second(self) -> float | None:
        """Rows per second of the same rounds, weighted by their duration."""
        if not self._rows:
            return None
        rounds = sum(many for many, _ in self._rows)
        return rounds / sum(many / speed for many, speed in self._rows)

    def seconds_of(self, rounds: int) -> tuple[float, float, float] | None:
        """Seconds that `rounds` more rounds will take: low, middle, high; None if unknown.

        The last rounds are cut into pieces and the seconds per round taken of each: the middle is their median, low and
        high are the second quickest and the second slowest piece (with fewer than six pieces the extremes).
        """
        if not (pieces := sorted(self._pieces())):
            return None
        out = 1 if len(pieces) >= 6 else 0  # another program may have slowed one piece
        return rounds * pieces[out], rounds * statistics.median(pieces), rounds * pieces[-1 - out]

    def _pieces(self) -> list[float]:
        """Seconds per round in each piece of the last rounds."""
        marks = list(self._now)
        if len(marks) < 3:
            return []
        size = max(1, -(-(len(marks) - 1) // PIECES))
        ends = [*marks[:-1:size], marks[-1]]
        return [
            (end - begin) / (last - first)
            for (begin, first), (end, last) in itertools.pairwise(ends)
            if last > first and end >= begin
        ]
