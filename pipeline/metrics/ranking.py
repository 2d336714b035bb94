"""Computes exact ranking metrics over whole queries, all queries at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from pipeline.metrics.thresholds import Array, Floats, descending

LARGEST_EXPONENTIAL = 31  # labels above it have linear gains: 2^label would dominate (XGBoost refuses them too)


def evaluate_ranking(
    label: Array, score: Array, group: Array, weight: Array | None = None, at: Sequence[int] = (5, 10)
) -> dict[str, float]:
    """NDCG at each of `at` and over whole queries, and MAP, averaged over queries by their weight.

    label (rows,) relevance >= 0; score (rows,); group (rows,) int64: the query's key; weight (rows,): a query's weight
    is the mean of its rows' weights.  Rows of equal score share their places, so the order of rows does not matter.
    NDCG gains 2^label - 1; MAP counts labels above 0 as relevant; a query with nothing relevant scores 1, as in
    XGBoost.
    """
    queries = _Queries.of(label, score, group)
    weights = queries.average(weight)
    results = {f"ndcg@{k}": _mean(queries.ndcg(k), weights) for k in at}
    results["ndcg"] = _mean(queries.ndcg(None), weights)
    results["map"] = _mean(queries.average_precision(), weights)
    return results


def evaluate_queries(label: Array, score: Array, group: Array, weight: Array | None = None) -> tuple[Floats, Floats]:
    """(queries,) NDCG and weight of each query."""
    queries = _Queries.of(label, score, group)
    return queries.ndcg(None), queries.average(weight)


@dataclass(frozen=True)
class _Queries:
    """Rows by query, and in each by falling score; `starts` is where each query begins, `place` counts from 0 in it."""

    order: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]
    query: npt.NDArray[np.int64]  # (rows,) ordinal
    place: npt.NDArray[np.int64]  # (rows,)
    tie: npt.NDArray[np.int64]  # (rows,) ordinal of the run of equal scores in one query
    tie_starts: npt.NDArray[np.int64]
    label: Floats  # (rows,) in this order

    @classmethod
    def of(cls, label: Array, score: Array, group: Array) -> "_Queries":
        changes = np.flatnonzero(np.append(True, group[1:] != group[:-1]))
        _, ordinals = np.unique(group[changes], return_inverse=True)
        keys = np.repeat(ordinals.astype(np.uint64), np.diff(np.append(changes, len(group))))
        keys <<= np.uint64(32)
        keys |= descending(score)
        order = np.argsort(keys, kind="stable")
        keys = keys[order]
        query = (keys >> np.uint64(32)).astype(np.int64)
        starts = np.flatnonzero(np.append(True, query[1:] != query[:-1]))
        first = np.append(True, keys[1:] != keys[:-1])
        return cls(
            order=order,
            starts=starts,
            query=query,
            place=np.arange(len(keys)) - starts[query],
            tie=np.cumsum(first) - 1,
            tie_starts=np.flatnonzero(first),
            label=label[order].astype(np.float64),
        )

    def average(self, weight: Array | None) -> Floats:
        """(queries,) the mean weight of each query's rows."""
        sizes = np.diff(np.append(self.starts, len(self.query)))
        if weight is None:
            return np.ones(len(sizes))
        sums: Floats = np.add.reduceat(weight[self.order].astype(np.float64), self.starts)
        return sums / sizes

    def ndcg(self, k: int | None) -> Floats:
        """(queries,) NDCG at k; rows of equal score each get the mean discount of the places they share."""
        gain = self.gain
        discount = 1 / np.log2(self.place + 2.0)
        if k is not None:
            discount[self.place >= k] = 0
        shared = np.add.reduceat(discount, self.tie_starts) / np.diff(np.append(self.tie_starts, len(gain)))
        reached = np.add.reduceat(gain * shared[self.tie], self.starts)
        best = np.add.reduceat(self.best_first * discount, self.starts)
        return np.divide(reached, best, out=np.ones_like(best), where=best > 0)

    @cached_property
    def gain(self) -> Floats:
        """(rows,) the gain of each row."""
        return self.label if self.label.max() > LARGEST_EXPONENTIAL else np.exp2(self.label) - 1

    @cached_property
    def best_first(self) -> Floats:
        """(rows,) the gains of each query from the largest down; gains are few, so their ranks are sorted instead."""
        values, ranks = np.unique(-self.gain, return_inverse=True)
        keys = self.query * len(values) + ranks
        keys.sort()
        best: Floats = -values[keys % len(values)]
        return best

    def average_precision(self) -> Floats:
        """(queries,) mean over the relevant rows of the precision at their score."""
        relevant = (self.label > 0).astype(np.float64)
        hits = np.cumsum(relevant)
        before = (hits - relevant)[self.starts]
        ends = np.append(self.tie_starts[1:], len(hits)) - 1
        precision = ((hits - before[self.query]) / (self.place + 1.0))[ends]
        found = np.add.reduceat(relevant, self.starts)
        summed = np.add.reduceat(relevant * precision[self.tie], self.starts)
        return np.divide(summed, found, out=np.ones_like(found), where=found > 0)


def _mean(values: Floats, weights: Floats) -> float:
    total = float(weights.sum())
    return float(np.dot(values, weights)) / total if total > 0 else float("nan")
