"""Values by round, of which a long run's are thinned: the best round and the last always stay."""

from pipeline.dashboard import bounds


class Thinned[T]:
    """Values by round, ascending, `CURVE_POINTS` at most: where there are more, one stays for each `_stride` rounds."""

    def __init__(self) -> None:
        self.kept: dict[int, T] = {}
        self._times: dict[int, float] = {}  # of the events they are from
        self._stride = 1

    def put(self, number: int, time: float, value: T, best: int) -> None:
        """Adds the value of round `number`, unless a younger one is there; the round `best` stays."""
        if time < self._times.get(number, 0.0):
            return
        last = next(reversed(self.kept), number)
        self.kept[number], self._times[number] = value, time
        if number < last:
            self.kept = dict(sorted(self.kept.items()))
        elif last < number and last // self._stride == number // self._stride and last != best:
            del self.kept[last], self._times[last]
        while len(self.kept) > bounds.CURVE_POINTS:
            self._stride *= 2
            self._stay({*{each // self._stride: each for each in self.kept}.values(), best})  # the last of each stride

    def forget(self, time: float, number: int) -> None:
        """What was heard before `time` of the rounds after `number`: they are boosted again."""
        self._stay({each for each in self.kept if each <= number or self._times[each] >= time})

    def _stay(self, rounds: set[int]) -> None:
        self.kept = {each: kept for each, kept in self.kept.items() if each in rounds}
        self._times = {each: self._times[each] for each in self.kept}
