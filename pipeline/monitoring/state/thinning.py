"""Keeps metrics by round, thinned for long runs: the best round and the last always stay."""

from collections.abc import Mapping

from pipeline.monitoring.state import bounds

KINDS = 16  # of rounds that differ in their metrics; training rows are measured in some rounds only


class ThinnedSeries:
    """Metrics by round, ascending, `CURVE_POINTS` at most.

    Beyond that, the last round of each `_stride` rounds stays, and of each kind (rounds with the same metrics).
    """

    def __init__(self) -> None:
        self.kept: dict[int, Mapping[str, float]] = {}
        self._times: dict[int, float] = {}  # of the events they come from
        self.kinds: dict[frozenset[str], int] = {}  # the metrics of a round -> number, `KINDS` at most
        self._stride = 1

    def put(self, number: int, time: float, metrics: Mapping[str, float], best: int) -> None:
        """Adds the metrics of round `number`, unless younger ones are stored; the round `best` stays."""
        if time < self._times.get(number, 0.0):
            return
        last = next(reversed(self.kept), number)
        self.kept[number], self._times[number] = metrics, time
        if number < last:
            self.kept = dict(sorted(self.kept.items()))
        elif last < number and last != best and self._place(last) == self._place(number):
            del self.kept[last], self._times[last]
        while len(self.kept) > bounds.CURVE_POINTS:
            self._stride *= 2
            self._stay({*{self._place(each): each for each in self.kept}.values(), best})

    def forget(self, time: float, number: int) -> None:
        """Drops the metrics from before `time` of the rounds after `number`: they are boosted again."""
        self._stay({each for each in self.kept if each <= number or self._times[each] >= time})

    def _place(self, number: int) -> tuple[int, int]:
        """The key of a round: of the rounds with equal keys the last stays."""
        names = frozenset(self.kept[number])
        if len(self.kinds) < KINDS:
            self.kinds.setdefault(names, len(self.kinds))
        return number // self._stride, self.kinds.get(names, 0)

    def _stay(self, rounds: set[int]) -> None:
        self.kept = {each: kept for each, kept in self.kept.items() if each in rounds}
        self._times = {each: self._times[each] for each in self.kept}
