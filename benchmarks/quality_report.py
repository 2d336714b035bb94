"""Makes the table of the comparison with plain XGBoost (benchmarks/quality.py)."""

import statistics
from collections.abc import Sequence
from typing import Any

from pipeline.config.metric_registry import rising

Pair = dict[str, Any]  # a pair's metrics and unevenness, each (ours, plain)

HEADER = (
    f"{'set':20}{'rows':>10}{'bins: ours':>12}{'plain':>12}  {'metric':8}{'pairs':>5}{'plain':>10}{'spread':>9}"
    f"{'difference':>12}{'error':>9}  verdict"
)


def summary(pairs: Sequence[Pair], metric: str) -> dict[str, Any]:
    """The differences of one set's pairs in one metric; above 0: ours is better.

    The standard error is that of the means of the seeds of the data: pairs of one seed share their held-out rows.
    """
    sign = 1 if rising(metric) else -1
    differences: dict[int, list[float]] = {}  # by the seed of the data
    plain: dict[int, list[float]] = {}
    for pair in pairs:
        ours, theirs = pair["metrics"][metric]
        differences.setdefault(pair["data_seed"], []).append(sign * (ours - theirs))
        plain.setdefault(pair["data_seed"], []).append(theirs)
    means = [statistics.fmean(values) for values in differences.values()]
    spreads = [statistics.stdev(values) for values in plain.values() if len(values) > 1]
    mean = statistics.fmean(means)
    error = statistics.stdev(means) / len(means) ** 0.5 if len(means) > 1 else None
    return {
        "pairs": len(pairs),
        "plain": statistics.fmean(statistics.fmean(values) for values in plain.values()),
        "spread": statistics.fmean(spreads) if spreads else None,  # standard deviation between pairs of one seed
        "mean": mean,
        "standard_error": error,
        "verdict": "open" if error is None else "not worse" if mean >= -error else "worse",
    }


def table(pairs: Sequence[Pair]) -> str:
    """A line for each set and metric.

    "bins": the unevenness of both.  "spread": the standard deviation of plain XGBoost between pairs of one seed of the
    data, which differ in the order of the rows, and in the seed of the sample: in the folds of target encodings too.
    """
    lines = [HEADER]
    for data in dict.fromkeys(pair["data"] for pair in pairs):
        of_set = [pair for pair in pairs if pair["data"] == data]
        rows = round(statistics.fmean(pair["rows"] for pair in of_set))
        bins = [pair["unevenness"] for pair in of_set if pair["unevenness"] is not None]
        uneven = "".join(_number(statistics.fmean(values), 12, 3) for values in zip(*bins, strict=True))
        for metric in of_set[0]["metrics"]:
            one = summary(of_set, metric)
            lines.append(
                f"{data:20}{rows:>10,}{uneven:24}  {metric:8}{one['pairs']:>5}"
                f"{one['plain']:>10.5f}{_number(one['spread'], 9, 5)}{one['mean']:>+12.5f}"
                f"{_number(one['standard_error'], 9, 5)}  {one['verdict']}"
            )
    return "\n".join(lines)


def _number(value: float | None, width: int, digits: int) -> str:
    return f"{'-':>{width}}" if value is None else f"{value:>{width}.{digits}f}"
