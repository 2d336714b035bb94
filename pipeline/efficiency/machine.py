"""Stores the results of calibrating the workers: pure data, saved as JSON."""

import bisect
import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

VERSION = 5
CACHED_NBYTES = 32 * 1024  # one histogram up to this size fits in a core's first cache
NEAR_NBYTES = 2 * 1024 * 1024  # size of a core's near cache: rows beyond it are slower to read
REACHED_NBYTES = 16 * 1024 * 1024  # histograms of a tree beyond this size exceed caches and page tables


@dataclass(frozen=True)
class Coefficients:
    """Seconds of one worker's useful time, each for one unit of work; fitted, none negative.

    The units are those of `cost.work`.  The terms were selected on 120 one-thread fits (5 k to 400 k rows, 8 to
    128 features, 16 to 253 bins each, depths 4 to 10): these explain them to 4 %, without the terms for caches and
    filled bins the error is 11 %.  "Doubling" terms grow with the logarithm of a working set over the size of a cache.
    """

    row_feature: float = 0.0  # a row's value added to a histogram
    row_feature_doubling: float = 0.0  # the same, for each doubling of a histogram beyond the first cache
    row_built: float = 0.0  # a row gathered for a histogram, whatever its features
    row_split: float = 0.0  # a row sent left or right
    row_split_doubling: float = 0.0  # the same, for each doubling of the rows beyond the near cache
    row: float = 0.0  # a row's gradient and new prediction
    bin_node: float = 0.0  # a bin of a node: clearing, subtraction, and split evaluation
    bin_node_wide: float = 0.0  # in addition, as far as one histogram exceeds the first cache
    bin_node_filled: float = 0.0  # in addition, as far as the bin holds rows: the gain of a split is computed
    bin_node_far: float = 0.0  # in addition, as far as a tree's histograms exceed the caches
    feature_node: float = 0.0  # a feature of a node
    tree: float = 0.0  # a tree, whatever its size

    def seconds(self, work: Mapping[str, float]) -> float:
        return math.fsum(getattr(self, name) * amount for name, amount in work.items())


COEFFICIENTS = tuple(field.name for field in dataclasses.fields(Coefficients))


@dataclass(frozen=True)
class Fill:
    """Models how trees grow: which share of a level's possible nodes splits, and how evenly.

    A node with few rows finds no split that leaves both children enough weight; and in later rounds the remaining
    signal is in ever fewer rows: trees get skewed and split less (20 k rows, depth 8: 214 splits in the first rounds,
    102 after thirty).  This depends on the data, not on the machine.  The numbers are a fit to `synthetic` rows, 38
    trainings of 32 rounds with 2.5 k to 1 M rows, 8 to 128 features and depths 4 to 10: nodes came out within 2 % in
    the median and 8 % at worst.  Other data grow other trees.
    """

    constant: float = -0.73  # of a logistic curve
    rows: float = 0.50  # for each doubling of the rows per possible node
    round: float = -0.60  # for each doubling of the round's number, counted from 1
    level: float = -0.26  # for each level below the root
    features: float = 0.20  # for each doubling of the features
    smaller: tuple[float, ...] = (0.196, 0.0116, -0.0423, 0.0159, -0.0086)  # constant, rows, round, features, depth

    def share(self, rows: float, number: float, level: int, features: int) -> float:
        """Share of the nodes at a level (root 0) that split, in round `number` (counted from 0) of a training on this
        many rows in all.
        """
        x = self.constant + self.level * level + self.features * math.log2(features)
        x += self.rows * (math.log2(max(1.0, rows)) - level) + self.round * math.log2(1 + number)
        return 1 / (1 + math.exp(-min(50.0, max(-50.0, x))))

    def smaller_child(self, rows: float, number: float, depth: int, features: int) -> float:
        """The share of a splitting node's rows that goes to its smaller child: the mean over a tree."""
        doublings = (1.0, math.log2(max(1.0, rows)), math.log2(1 + number), math.log2(features), depth)
        share = math.fsum(factor * value for factor, value in zip(self.smaller, doublings, strict=True))
        return min(0.5, max(0.02, share))


@dataclass(frozen=True)
class Ring:
    """Latency and bandwidth of XGBoost's allreduce: T(n) = (2N-1) alpha + ((2N-1)/N) n beta."""

    alpha: float  # seconds a step
    beta: float  # seconds a byte

    def seconds(self, nbytes: float, workers: int) -> float:
        return (2 * workers - 1) * (self.alpha + nbytes * self.beta / workers) if workers > 1 else 0.0


Table = tuple[tuple[int, float], ...]  # (payload bytes, seconds), rising


@dataclass(frozen=True)
class Machine:
    """The calibrated workers: how fast they compute and how fast they communicate."""

    fingerprint: str  # of fixed properties: processor, cores, workers, threads, device, versions
    made: str  # ISO 8601, UTC
    device: Literal["cpu", "cuda"]
    threads: int  # of each worker
    coefficients: Coefficients  # of the typical worker
    capabilities: tuple[float, ...]  # row x feature histogram updates per useful second, by worker
    collectives: Mapping[int, Table]  # by number of workers
    ring: Ring  # summary of the tables, for other numbers of workers
    fill: Fill  # how trees grow
    dask_task_seconds: float  # an empty task, there and back, many at once
    dask_bytes_per_second: float  # from one worker to another; 0: there is only one worker
    spread: float  # standard deviation of measured / fitted - 1 over the calibration's own fits
    seconds: float  # duration of the calibration
    typical: float = 0.0  # capability of the worker that the coefficients describe; 0: the median of `capabilities`
    delay: float = 0.0  # of the useful time, that a worker's thread was ready and had no core
    jitter: float = 0.0  # standard deviation of a round's useful time relative to its expected value
    busy: float = 1.0  # duration of the calibration relative to a quiet machine; used in no prediction

    def allreduce_seconds(self, nbytes: float, workers: int) -> float:
        """One allreduce of this size: from the table of that many workers, else by the ring's formula."""
        if workers == 1:
            return 0.0
        table = self.collectives.get(workers)
        return self.ring.seconds(nbytes, workers) if not table else interpolated(table, nbytes)

    def speeds(self, workers: int) -> tuple[float, ...]:
        """Each worker's speed over the typical one's; workers beyond those calibrated are typical."""
        typical = self.typical or sorted(self.capabilities)[len(self.capabilities) // 2]
        known = [capability / typical for capability in self.capabilities[:workers]]
        return (*known, *[1.0] * (workers - len(known)))

    def to_dict(self) -> dict[str, Any]:
        """A dict of JSON values."""
        return {**dataclasses.asdict(self), "version": VERSION}

    @classmethod
    def from_dict(cls, values: Any) -> Self:
        """The inverse of `to_dict`; ValueError for another version or an invalid document."""
        version = values.get("version") if isinstance(values, Mapping) else None
        if version != VERSION:
            raise ValueError(f"a calibration of version {version!r}, not {VERSION}")
        plain = {key: value for key, value in values.items() if key != "version"}
        try:
            plain["coefficients"] = Coefficients(**plain["coefficients"])
            plain["ring"] = Ring(**plain["ring"])
            plain["fill"] = Fill(**{**plain["fill"], "smaller": tuple(plain["fill"]["smaller"])})
            plain["capabilities"] = tuple(plain["capabilities"])
            plain["collectives"] = {int(count): _pairs(table) for count, table in plain["collectives"].items()}
            return cls(**plain)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not a calibration: {error}") from None


def _pairs(table: Sequence[Sequence[Any]]) -> tuple[tuple[Any, Any], ...]:
    return tuple((first, second) for first, second in table)


def interpolated(table: Sequence[tuple[float, float]], place: float) -> float:
    """Piecewise linear; before the first entry that entry, beyond the last the last piece is extrapolated.

    >>> interpolated([(0, 1.0), (10, 2.0)], 5), interpolated([(0, 1.0), (10, 2.0)], 20)
    (1.5, 3.0)
    """
    if len(table) == 1 or place <= table[0][0]:
        return table[0][1]
    after = min(max(1, bisect.bisect_left(table, (place, float("-inf")))), len(table) - 1)
    (x0, y0), (x1, y1) = table[after - 1], table[after]
    return y0 + (y1 - y0) * (place - x0) / (x1 - x0)
