"""Summarises a scaling result: medians of every point, next to its base case.  Pure; table, sentences and report show
it.
"""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pipeline.efficiency.definitions import karp_flatt
from pipeline.efficiency.records import Configuration, Point, Prediction, Result, ScalingSample, Single, TimeSplit
from pipeline.efficiency.resample import Interval, median_interval


@dataclass(frozen=True)
class PointSummary:
    """A measured point: medians over its repetitions."""

    configuration: Configuration
    predicted: Prediction | None
    seconds: Interval  # T, of a round
    splits: tuple[TimeSplit, ...]  # by rank, seconds of a round
    PE: float
    PE_pi: float
    E: float | None  # None: saturated
    E_comm: float | None
    J: float | None
    LB: float
    SerE: float
    TE: float
    CommE: float
    CompS: float | None  # None: without a point of one worker
    GE: float | None  # None: without a base case
    serial_fraction: float | None  # Karp-Flatt; None: one worker, weak scaling, or no reference
    closure: float | None  # None: not all parts were measured
    closures: tuple[float | None, ...]  # the same by rank
    bytes_sent: tuple[int | None, ...]  # a round, by rank, by XGBoost's sockets; None: not counted
    bytes_expected: tuple[int | None, ...]  # the same, computed from the trees
    bytes_exact: bool | None  # the bytes sent equal those computed from the trees; None: not counted

    @property
    def workers(self) -> int:
        return self.configuration.workers

    @property
    def cores(self) -> int:
        return self.configuration.workers * self.configuration.threads

    @property
    def rows(self) -> int:
        return sum(self.configuration.rows)

    def mean(self, part: str) -> float:
        """Mean over the workers of one part of the split, seconds of a round."""
        return statistics.fmean(getattr(split, part) for split in self.splits)


def summarise_points(result: Result) -> tuple[PointSummary, ...]:
    """Every measured point, in the order of the result."""
    return tuple(_seen(result, point) for point in result.points if point.samples)


def headline_point(result: Result) -> PointSummary | None:
    """The headline point: not oversubscribed, strong scaling, with the most workers, in this order."""
    points = sorted(
        summarise_points(result), key=lambda p: (p.configuration.oversubscribed, p.configuration.mode, -p.workers)
    )
    return points[0] if points else None


def base_case(result: Result, mode: str) -> Single | None:
    """The process without a cluster that trained on all rows of a mode with all threads of all workers."""
    return next((single for single in result.singles if single.mode == mode and single.seconds), None)


@dataclass(frozen=True)
class BaselineTimes:
    """The best single process for a point: its time for a round of the point's rows."""

    seconds: float
    threads: int
    all_threads: bool  # False: one worker alone was faster than a process with as many threads as all workers


def base_of(result: Result, configuration: Configuration) -> BaselineTimes | None:
    """The best single process on the same cores; None where none was measured.

    Two have been measured: a process with all threads of all workers, and one worker alone.  The faster one counts, so
    that a process slowed by contention between its threads does not flatter the cluster.  Seconds are by row; where the
    process had another number of cores than the point (all of them, or those of one worker), core-seconds are compared.
    """
    single = base_case(result, configuration.mode)
    if single is None:
        return None
    rows, cores = sum(configuration.rows), configuration.workers * configuration.threads
    cores = min(cores, single.threads) if configuration.oversubscribed else cores
    seconds = statistics.median(single.seconds) / single.rows * rows * single.threads / cores
    best = BaselineTimes(seconds, single.threads, True)
    alone = _alone(result, configuration.mode)
    if alone is not None and (own := _per_row(alone, lambda sample: sample.seconds) * rows) < seconds:
        best = BaselineTimes(own, alone.configuration.threads, False)
    return best


def _seen(result: Result, point: Point) -> PointSummary:
    samples, configuration = point.samples, point.configuration
    alone = _alone(result, point.configuration.mode)
    return PointSummary(
        configuration=configuration,
        predicted=point.predicted,
        seconds=median_interval([sample.seconds for sample in samples]),
        splits=tuple(_split(samples, rank) for rank in range(configuration.workers)),
        PE=_figure(samples, "PE"),
        PE_pi=_figure(samples, "PE_pi"),
        E=_figure_or_none(samples, "E"),
        E_comm=_figure_or_none(samples, "E_comm"),
        J=_figure_or_none(samples, "J"),
        LB=_figure(samples, "LB"),
        SerE=_figure(samples, "SerE"),
        TE=_figure(samples, "TE"),
        CommE=_figure(samples, "CommE"),
        CompS=None if alone is None else _compute_scaling(alone, point),
        GE=_global(result, point),
        serial_fraction=_serial_fraction(alone, point),
        closure=_closure(samples),
        closures=tuple(_closure(samples, rank) for rank in range(configuration.workers)),
        bytes_sent=_bytes(point, "bytes_sent"),
        bytes_expected=_bytes(point, "bytes_expected"),
        bytes_exact=_bytes_exact(samples),
    )


def _split(samples: Sequence[ScalingSample], rank: int) -> TimeSplit:
    def median(part: str) -> float:
        return float(statistics.median(getattr(sample.workers[rank].split, part) for sample in samples))

    return TimeSplit(median("useful"), median("transfer"), median("wait"), median("other"))


def _figure(samples: Sequence[ScalingSample], name: str) -> float:
    return float(statistics.median(getattr(sample.figures, name) for sample in samples))


def _figure_or_none(samples: Sequence[ScalingSample], name: str) -> float | None:
    known = [value for sample in samples if (value := getattr(sample.figures, name)) is not None]
    return statistics.median(known) if len(known) == len(samples) else None


def _alone(result: Result, mode: str) -> Point | None:
    """The point of one worker of a mode."""
    points = (other for other in result.points if other.samples)
    return next((o for o in points if o.configuration.mode == mode and o.configuration.workers == 1), None)


def _per_row(point: Point, of: Callable[[ScalingSample], float]) -> float:
    return statistics.median(of(sample) for sample in point.samples) / sum(point.configuration.rows)


def _compute_scaling(alone: Point, point: Point) -> float:
    """CompS by row: in weak scaling N workers have N times the rows."""

    def useful(sample: ScalingSample) -> float:
        return sum(worker.split.useful for worker in sample.workers)

    return _per_row(alone, useful) / _per_row(point, useful)


def _global(result: Result, point: Point) -> float | None:
    """GE: seconds of the best single process on the point's cores over the point's own."""
    own = base_of(result, point.configuration)
    return None if own is None else own.seconds / statistics.median(sample.seconds for sample in point.samples)


def _serial_fraction(alone: Point | None, point: Point) -> float | None:
    if alone is None or point.configuration.mode != "strong":
        return None
    first, now = (statistics.median(s.seconds for s in p.samples) for p in (alone, point))
    return karp_flatt(first / now, point.configuration.workers)


def _closure(samples: Sequence[ScalingSample], rank: int | None = None) -> float | None:
    workers = [worker for sample in samples for worker in sample.workers if rank is None or worker.rank == rank]
    known = [worker.closure for worker in workers if worker.closure is not None]
    return statistics.median(known) if known else None


def _bytes(point: Point, name: str) -> tuple[int | None, ...]:
    """By rank and round; the same in every repetition, because the trees are the same."""
    last = point.samples[-1].workers
    found = [getattr(worker, name) for worker in last]
    return tuple(None if value is None else round(value / point.configuration.rounds) for value in found)


def _bytes_exact(samples: Sequence[ScalingSample]) -> bool | None:
    counted = [
        worker.bytes_sent == worker.bytes_expected
        for sample in samples
        for worker in sample.workers
        if worker.bytes_sent is not None and worker.bytes_expected is not None
    ]
    return all(counted) if counted else None
