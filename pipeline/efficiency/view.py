"""What a scaling result comes to: medians of every point, beside its base case.  Pure; table, words and report show it."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pipeline.efficiency.definitions import global_efficiency, karp_flatt
from pipeline.efficiency.record import Configuration, Point, Predicted, Result, Sample, Single, Split
from pipeline.efficiency.resample import Interval, median_interval


@dataclass(frozen=True)
class Seen:
    """One measured point: medians over its repetitions."""

    configuration: Configuration
    predicted: Predicted | None
    seconds: Interval  # T, of a round
    splits: tuple[Split, ...]  # by rank, seconds of a round
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
    serial_fraction: float | None  # Karp-Flatt; None: one worker, weak scaling, or nothing to compare with
    closure: float | None  # None: not all parts were measured
    bytes_exact: bool | None  # sent as computed from the trees, to the byte; None: not counted

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


def seen(result: Result) -> tuple[Seen, ...]:
    """Every point that has been measured, in the order of the result."""
    return tuple(_seen(result, point) for point in result.points if point.samples)


def base_case(result: Result, mode: str) -> Single | None:
    """The best single process of a mode."""
    return next((single for single in result.singles if single.mode == mode and single.seconds), None)


def _seen(result: Result, point: Point) -> Seen:
    samples, configuration = point.samples, point.configuration
    alone = _alone(result, point)
    return Seen(
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
        bytes_exact=_bytes_exact(samples),
    )


def _split(samples: Sequence[Sample], rank: int) -> Split:
    def median(part: str) -> float:
        return float(statistics.median(getattr(sample.workers[rank].split, part) for sample in samples))

    return Split(median("useful"), median("transfer"), median("wait"), median("other"))


def _figure(samples: Sequence[Sample], name: str) -> float:
    return float(statistics.median(getattr(sample.figures, name) for sample in samples))


def _figure_or_none(samples: Sequence[Sample], name: str) -> float | None:
    known = [value for sample in samples if (value := getattr(sample.figures, name)) is not None]
    return statistics.median(known) if len(known) == len(samples) else None


def _alone(result: Result, point: Point) -> Point | None:
    """The point of one worker of the same mode."""
    mode = point.configuration.mode
    points = (other for other in result.points if other.samples)
    return next((o for o in points if o.configuration.mode == mode and o.configuration.workers == 1), None)


def _per_row(point: Point, of: Callable[[Sample], float]) -> float:
    return statistics.median(of(sample) for sample in point.samples) / sum(point.configuration.rows)


def _compute_scaling(alone: Point, point: Point) -> float:
    """CompS by row: in weak scaling N workers have N times the rows."""

    def useful(sample: Sample) -> float:
        return sum(worker.split.useful for worker in sample.workers)

    return _per_row(alone, useful) / _per_row(point, useful)


def _global(result: Result, point: Point) -> float | None:
    """GE against the best single process, by row: core-seconds it needs over those of the workers."""
    single = base_case(result, point.configuration.mode)
    if single is None:
        return None
    cores = point.configuration.workers * point.configuration.threads
    seconds = _per_row(point, lambda sample: sample.seconds)
    return global_efficiency(statistics.median(single.seconds) / single.rows, single.threads, seconds, cores)


def _serial_fraction(alone: Point | None, point: Point) -> float | None:
    if alone is None or point.configuration.mode != "strong":
        return None
    first, now = (statistics.median(s.seconds for s in p.samples) for p in (alone, point))
    return karp_flatt(first / now, point.configuration.workers)


def _closure(samples: Sequence[Sample]) -> float | None:
    known = [worker.closure for sample in samples for worker in sample.workers if worker.closure is not None]
    return statistics.median(known) if known else None


def _bytes_exact(samples: Sequence[Sample]) -> bool | None:
    counted = [
        worker.bytes_sent == worker.bytes_expected
        for sample in samples
        for worker in sample.workers
        if worker.bytes_sent is not None and worker.bytes_expected is not None
    ]
    return all(counted) if counted else None
