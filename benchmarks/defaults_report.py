"""The tables of the benchmark of defaults: ranks, gaps to the best, and cost, from its samples."""

import itertools
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

LARGE_GAP = 0.02
SMALLEST = 1e-3  # losses below, of sets that are nearly solved, count as this in a gap

Sample = Mapping[str, Any]


@dataclass(frozen=True)
class Row:
    """One measure of one set: means over the seeds."""

    set: str
    measure: str
    losses: Mapping[str, float]  # by contender
    gap: float  # of `ours` to the best contender, as a share of the best's loss
    spread: float  # standard error over the seeds of that gap


@dataclass(frozen=True)
class Summary:
    """One of our contenders against the others."""

    ours: str
    sets: int
    seeds: int
    mean_rank: Mapping[str, float]  # of the sets' mean ranks
    rank_error: Mapping[str, float]  # standard error over the sets of the difference to the rank of `ours`
    median_gap: float  # over the rows
    largest: Mapping[str, float]  # "set, measure" -> gap, above LARGE_GAP
    cpu_ratio: float  # median over the sets of the CPU seconds, to those of `to`
    to: str
    rows: Sequence[Row]

    def record(self) -> dict[str, Any]:
        return asdict(self)


def summarize(samples: Sequence[Sample], ours: str, others: Sequence[str], to: str) -> Summary:
    """Compares `ours` with `others` on the sets and seeds that all of them have; errors are left out."""
    names = [ours, *others]
    found = {(one["set"], one["seed"], one["contender"]): one for one in samples if "losses" in one}
    pairs = list(
        dict.fromkeys((data, seed) for data, seed, _ in found if all((data, seed, name) in found for name in names))
    )
    sets = list(dict.fromkeys(data for data, _ in pairs))
    rows, ranks, ratios = [], [], []
    for data in sets:
        by_seed = [{name: found[data, seed, name] for name in names} for one, seed in pairs if one == data]
        measures = list(by_seed[0][ours]["losses"])
        rows += [_row(data, measure, by_seed, ours) for measure in measures]
        parts = [
            _ranks({name: one[name]["losses"][measure] for name in names}) for one in by_seed for measure in measures
        ]
        ranks.append({name: statistics.fmean(part[name] for part in parts) for name in names})
        ratios.append(_cpu(by_seed, ours) / _cpu(by_seed, to))
    return Summary(
        ours=ours, sets=len(sets), seeds=len({seed for _, seed in pairs}),
        mean_rank={name: statistics.fmean(rank[name] for rank in ranks) for name in names},
        rank_error={name: _error([rank[ours] - rank[name] for rank in ranks]) for name in names},
        median_gap=statistics.median(row.gap for row in rows),
        largest={f"{row.set}, {row.measure}": row.gap for row in rows if row.gap > LARGE_GAP},
        cpu_ratio=statistics.median(ratios), to=to, rows=rows,
    )  # fmt: skip


def _row(data: str, measure: str, by_seed: Sequence[Mapping[str, Sample]], ours: str) -> Row:
    losses = {name: statistics.fmean(one[name]["losses"][measure] for one in by_seed) for name in by_seed[0]}
    best = min(losses, key=lambda name: losses[name])
    gaps = [_gap(one[ours]["losses"][measure], one[best]["losses"][measure]) for one in by_seed]
    return Row(data, measure, losses, _gap(losses[ours], losses[best]), _error(gaps))


def _floor(loss: float) -> float:
    return max(loss, SMALLEST)


def _gap(loss: float, best: float) -> float:
    return _floor(loss) / _floor(best) - 1


def _ranks(losses: Mapping[str, float]) -> dict[str, float]:
    """1 for the smallest loss; equal ones share the mean of their ranks.

    >>> _ranks({"a": 0.2, "b": 0.1, "c": 0.2})
    {'a': 2.5, 'b': 1.0, 'c': 2.5}
    """
    values = list(losses.values())
    return {
        name: 1 + sum(other < loss for other in values) + (values.count(loss) - 1) / 2 for name, loss in losses.items()
    }


def _error(values: Sequence[float]) -> float:
    return statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan


def _cpu(by_seed: Sequence[Mapping[str, Sample]], name: str) -> float:
    return statistics.fmean(one[name]["cpu_seconds"] for one in by_seed)


def text(found: Summary) -> str:
    """The tables in Markdown."""
    names = list(found.mean_rank)
    lines = [
        f"{found.ours}: {found.sets} sets, {found.seeds} seeds",
        "",
        "| | mean rank | difference |",
        "|---|---|---|",
    ]
    for name in names:
        difference = found.mean_rank[found.ours] - found.mean_rank[name]
        said = "" if name == found.ours else f"{difference:+.2f} ± {found.rank_error[name]:.2f}"
        lines.append(f"| {name} | {found.mean_rank[name]:.2f} | {said} |")
    lines += ["", "| set | measure | " + " | ".join(names) + " | gap to the best |", "|---" * (len(names) + 3) + "|"]
    for row in found.rows:
        values = " | ".join(f"{row.losses[name]:.4g}" for name in names)
        lines.append(f"| {row.set} | {row.measure} | {values} | {row.gap:.1%} ± {row.spread:.1%} |")
    lines += [
        "",
        f"median gap to the best {found.median_gap:.2%}; CPU seconds {found.cpu_ratio:.2f} times those of {found.to}",
    ]
    return "\n".join(lines)


def by_rounds(samples: Sequence[Sample], libraries: Sequence[Sample], to: str) -> list[dict[str, Any]]:
    """Of each candidate and number of rounds: the mean logarithm of its loss over the best library's, and its CPU
    seconds to those of `to` (geometric mean); those on most sets first.
    """
    best, cost = _best(libraries), _costs(libraries, to)
    logs: dict[tuple[str, int], dict[str, list[float]]] = {}
    costs: dict[tuple[str, int], list[float]] = {}
    for one, mark in [(each, mark) for each in samples if "curve" in each for mark in each["curve"]]:
        key = one["contender"], mark["rounds"]
        if one["set"] not in cost:
            continue
        gap = statistics.fmean(
            math.log(_floor(loss) / _floor(best[one["set"], name])) for name, loss in mark["losses"].items()
        )
        logs.setdefault(key, {}).setdefault(one["set"], []).append(gap)
        costs.setdefault(key, []).append(math.log(max(mark["cpu_seconds"], 1e-3) / cost[one["set"]]))
    found = [
        {
            "candidate": name, "rounds": rounds, "sets": len(of),
            "mean_gap": statistics.fmean(statistics.fmean(values) for values in of.values()),
            "median_gap": statistics.median(statistics.fmean(values) for values in of.values()),
            "cpu_ratio": math.exp(statistics.fmean(costs[name, rounds])),
        }
        for (name, rounds), of in logs.items()
    ]  # fmt: skip
    return sorted(found, key=lambda one: (-one["sets"], one["mean_gap"]))


def _best(libraries: Sequence[Sample]) -> dict[tuple[str, str], float]:
    """(set, measure) -> the smallest of the libraries' mean losses."""
    parts: dict[tuple[str, str, str], list[float]] = {}
    for one in libraries:
        for measure, loss in one.get("losses", {}).items():
            parts.setdefault((one["set"], measure, one["contender"]), []).append(loss)
    means = {key: statistics.fmean(values) for key, values in parts.items()}
    return {
        pair: min(means[key] for key in keys)
        for pair, keys in ((pair, list(keys)) for pair, keys in itertools.groupby(sorted(means), lambda key: key[:2]))
    }


def _costs(libraries: Sequence[Sample], name: str) -> dict[str, float]:
    parts: dict[str, list[float]] = {}
    for one in libraries:
        if one["contender"] == name and "losses" in one:
            parts.setdefault(one["set"], []).append(one["cpu_seconds"])
    return {data: statistics.fmean(values) for data, values in parts.items()}
