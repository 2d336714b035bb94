"""Computes the metrics of each round over all workers, and keeps their history."""

import math
from collections.abc import Mapping, Sequence

import xgboost

from pipeline.efficiency.round_meter import Meter
from pipeline.training.xgboost.binned_metrics import COMPUTATIONS, ScoreCounts, rounded
from pipeline.training.xgboost.matrix import Side
from pipeline.training.xgboost.weights import Total

RATIO = 2  # elements that XGBoost sums over the workers for one of its metrics


class RoundMetrics:
    """The metrics of one training's rounds."""

    def __init__(self, booster: xgboost.Booster, metrics: Sequence[str], total: Total) -> None:
        self._booster, self._metrics, self._total = booster, metrics, total
        self._counters: dict[int, ScoreCounts] = {}
        self.history: dict[str, list[float]] = {}  # "validation.auc" -> a value per round, NaN where not measured

    def enter(self, number: int, values: Mapping[str, float]) -> None:
        """Appends a round's values to the history."""
        for name, value in values.items():
            series = self.history.setdefault(name, [])
            series.extend([math.nan] * (number - 1 - len(series)))
            series.append(value)

    def fill(self, rounds: int) -> None:
        """Extends every series to the number of rounds."""
        for series in self.history.values():
            series.extend([math.nan] * (rounds - len(series)))

    def side(self, side: Side, name: str, number: int, meter: Meter, *, native_only: bool = False) -> dict[str, float]:
        """Computes one side's metrics in a round over all workers, in the given order; `native_only`: XGBoost's own."""
        text = self._booster.eval_set([(side.matrix, name)], number - 1)
        values = {}
        for part in text.split("\t")[1:]:
            key, _, value = part.rpartition(":")
            values[f"{name}.{key.removeprefix(name + '-')}"] = rounded(float(value))
            meter.collective(RATIO)
        own = [metric for metric in self._metrics if metric in COMPUTATIONS]
        if own and not native_only:
            margin = self._booster.predict(side.matrix, output_margin=True)
            counts = self._total(self._counter(side).count(margin))
            meter.collective(counts.size)
            values |= {f"{name}.{metric}": rounded(COMPUTATIONS[metric](counts)) for metric in own}
        places = {f"{name}.{metric}": place for place, metric in enumerate(self._metrics)}
        return dict(sorted(values.items(), key=lambda item: places.get(item[0], -1)))

    def _counter(self, side: Side) -> ScoreCounts:
        if id(side) not in self._counters:
            self._counters[id(side)] = ScoreCounts(side.matrix.get_label(), side.weight)
        return self._counters[id(side)]
