"""Collects what the rounds of a run measured: curves, the latest value of each metric, and which metric decides."""

from collections import deque
from collections.abc import Mapping, Sequence

from pipeline.events.types import RoundDone
from pipeline.monitoring.state import bounds
from pipeline.monitoring.state.bounds import last_metrics
from pipeline.monitoring.state.thinning import ThinnedSeries


class MetricHistory:
    """The metrics of one run; rounds that are boosted again are removed."""

    def __init__(self) -> None:
        self._curve = ThinnedSeries()
        self._names: dict[str, None] = {}
        self._deciding = ""  # the metric whose best value was in the best round
        self._restarts: deque[tuple[float, int]] = deque(maxlen=bounds.INCIDENTS)  # (time, last round that counts)

    @property
    def curve(self) -> Mapping[int, Mapping[str, float]]:
        """Metrics by round, ascending; of a long run a sample of rounds, always with the best and the last."""
        return self._curve.kept

    @property
    def names(self) -> Sequence[str]:
        """All known metrics; not every round has each of them."""
        return [*self._names]

    @property
    def latest(self) -> Mapping[str, float]:
        """The latest value of each metric."""
        found: dict[str, float] = {}
        for number in reversed(self._curve.kept):
            found = {**self.curve[number], **found}
            if found.keys() >= self._names.keys():
                break
        return {name: found[name] for name in self._names if name in found}

    @property
    def deciding(self) -> str:
        """Name of the metric that decides early stopping; "" where no metric is measured."""
        last = self.curve[next(reversed(self._curve.kept))] if self.curve else {}
        return self._deciding or next(reversed(dict(last)), "")

    def take(self, event: RoundDone, best_round: int) -> None:
        """Adds a round's metrics, unless that round is boosted again; `best_round`: the best known round."""
        stale = any(event.time < moment and event.round > number for moment, number in self._restarts)
        if event.metrics and not stale:
            self._names |= dict.fromkeys([*event.metrics][-bounds.METRICS :])
            for name in [*self._names][: -bounds.METRICS]:
                del self._names[name]
            self._curve.put(event.round, event.time, last_metrics(event.metrics), best_round)
        if event.round == event.best_round:
            best = [name for name, value in event.metrics.items() if value == event.best]
            self._deciding = best[-1] if best else self._deciding

    def begins_again(self, time: float, number: int) -> None:
        """Drops the rounds after `number`, which are boosted again."""
        self._restarts.append((time, number))
        self._curve.forget(time, number)
