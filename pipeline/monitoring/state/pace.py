"""How fast the rounds go, and from that how long those take that are left."""

import bisect
import itertools
import statistics
from collections import deque

from pipeline.monitoring.state.bounds import CURVE_POINTS

MARKS = 60  # rounds whose times tell how fast it goes now
PIECES = 12  # into which those are cut to see how much the pace varies


class Pace:
    """When rounds ended."""

    def __init__(self) -> None:
        self.marks: list[tuple[float, int]] = []  # (time, round) by time; of a long run some
        # The last ones since the rounds began, or began again; and of how many rounds they say which rows a second.
        self._now: deque[tuple[float, int]] = deque(maxlen=MARKS)
        self._rows: deque[tuple[int, float]] = deque(maxlen=MARKS - 1)

    def put(self, moment: float, number: int) -> None:
        """Adds a round; where there are too many, every second one goes."""
        mark = (moment, number)
        place = bisect.bisect_left(self.marks, mark)
        if self.marks[place : place + 1] != [mark]:
            self.marks.insert(place, mark)
        if len(self.marks) > CURVE_POINTS:
            self.marks = [*self.marks[:-1:2], self.marks[-1]]

    def goes_on(self, moment: float, number: int, rows_per_second: float = 0.0) -> None:
        """This is the youngest round; `rows_per_second` since the one before, 0: not known."""
        before = self._now[-1][1] if self._now else number
        if not self._now or number > before:
            self._now.append((moment, number))
            if rows_per_second > 0 and number > before:
                self._rows.append((number - before, rows_per_second))

    def begins_again(self) -> None:
        """What comes may go at another pace."""
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
        """How many rounds the two speeds are of."""
        return self._now[-1][1] - self._now[0][1] if self._now else 0

    @property
    def rows_per_second(self) -> float | None:
        """Of the same rounds: each took as long as its rows at its speed."""
        if not self._rows:
            return None
        rounds = sum(many for many, _ in self._rows)
        return rounds / sum(many / speed for many, speed in self._rows)

    def seconds_of(self, rounds: int) -> tuple[float, float, float] | None:
        """What so many rounds more will take: low, middle, high; None where there is no telling.

        The seconds a round took are looked at in pieces of the last rounds: the middle is their median, low and high
        are the quickest and the slowest piece but one.
        """
        if not (pieces := sorted(self._pieces())):
            return None
        out = 1 if len(pieces) >= 6 else 0  # one slow piece may be the neighbour's
        return rounds * pieces[out], rounds * statistics.median(pieces), rounds * pieces[-1 - out]

    def _pieces(self) -> list[float]:
        """Seconds a round took in each piece of the last rounds."""
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
