"""Checks how far a scaling result can be trusted: every available check, with its number."""

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pipeline.efficiency.records import Point, Result, ScalingSample, WorkerSample
from pipeline.scaling.view import PointSummary, base_case, base_of, summarise_points

CLOSED = 0.03  # of T: the largest difference between T and the sum of its four parts
IDENTICAL = 1e-9  # largest rounding difference between the two sides of E / (E + J ...) = PE
MEASURING = 0.005  # of a round: the largest cost of measuring it
LONG_SECONDS = 0.02  # rounds at least this long are checked for that cost
SCATTER = 0.05  # of T: half of its 95 % interval


@dataclass(frozen=True)
class Check:
    """A question, and its answer in a few words."""

    name: str
    value: str
    good: bool | None  # None: unknown


def checks(result: Result) -> tuple[Check, ...]:
    """Checks of the measured points; none without a point."""
    points = [point for point in result.points if point.samples]
    if not points:
        return ()
    found = [
        _closure(summarise_points(result)), _bytes(points), _identity(points), _meter(points), *_scatter(points, summarise_points(result)),
        _before(points), _band(summarise_points(result)), *_bases(result), *_retried(points), *_crowded(summarise_points(result)),
        *_methods(points),
    ]  # fmt: skip
    return tuple(found)


def _closure(points: Sequence[PointSummary]) -> Check:
    """Closure: u, x, w and o are measured independently; their sum should be T."""
    name = "useful, transfer, waiting and other add up to the round"
    known = [value for point in points for value in point.closures if value is not None]
    if not known:
        return Check(name, "not all of them were measured", None)
    return Check(name, f"within {max(known):.2%} on every worker (medians; at most {CLOSED:.0%})", max(known) <= CLOSED)


def _bytes(points: Sequence[Point]) -> Check:
    name = "bytes that the sockets sent are those computed from the trees"
    workers = [w for p in points if p.configuration.workers > 1 for w in _workers(p)]
    counted = [w for w in workers if w.bytes_sent is not None and w.bytes_expected is not None]
    if not counted:
        return Check(name, "not counted" if workers else "nothing is exchanged by one worker", None)
    off = sum(worker.bytes_sent != worker.bytes_expected for worker in counted)
    said = f"{off} of {len(counted)} differ" if off else f"to the byte, in all {len(counted)} counts"
    return Check(name, said, off == 0)


def _identity(points: Sequence[Point]) -> Check:
    worst = max(sample.figures.identity_error for sample in _samples(points))
    return Check("PE and E, J are the same arithmetic", f"apart by {worst:.0e} at most", worst <= IDENTICAL)


def _meter(points: Sequence[Point]) -> Check:
    """Judged by rounds of `LONG_SECONDS` and more: a clock read costs the same in a shorter one."""
    name = "measuring costs hardly anything"
    long = [p for p in points if statistics.median(sample.seconds for sample in p.samples) >= LONG_SECONDS]
    worst = max(statistics.median(worker.meter_share for worker in _workers(point)) for point in long or points)
    if not long:
        return Check(name, f"{worst:.2%} of a round; these are shorter than {1e3 * LONG_SECONDS:.0f} ms", None)
    return Check(name, f"{worst:.2%} of a round at most (medians; at most {MEASURING:.1%})", worst <= MEASURING)


def _scatter(points: Sequence[Point], views: Sequence[PointSummary]) -> Iterator[Check]:
    name = "repetitions agree"
    if any(len(point.samples) == 1 for point in points):
        yield Check(name, "a point has one repetition only", None)
        return
    widest = max(views, key=lambda point: point.seconds.relative)
    said = f"the widest 95 % interval of T is ± {widest.seconds.relative:.1%} ({_label(widest)}; at most {SCATTER:.0%})"
    yield Check(name, said, widest.seconds.relative <= SCATTER)


def _before(points: Sequence[Point]) -> Check:
    """Whether predictions precede measurements.  Time stamps are ISO 8601 in UTC, written alike: they sort as text."""
    name = "predictions were written before what they predict"
    pairs = [(p.predicted.time, min(s.time for s in p.samples)) for p in points if p.predicted is not None]
    if not pairs:
        return Check(name, "nothing was predicted", None)
    good = all(said and said <= begun for said, begun in pairs)
    return Check(name, "by their time stamps" if good else "not by their time stamps", good)


def _band(points: Sequence[PointSummary]) -> Check:
    """Whether measurements are within the model's band.  Oversubscribed points do not test the model."""
    name = "rounds took as long as predicted"
    told = [p for p in points if p.predicted is not None and not p.configuration.oversubscribed]
    if not told:
        return Check(name, "nothing was predicted for as many threads as cores", None)
    bands = [(p.predicted.seconds_low, p.seconds.median, p.predicted.seconds_high) for p in told if p.predicted]
    inside = sum(low <= was <= high for low, was, high in bands)
    return Check(name, f"{inside} of {len(told)} points lie in their band", inside == len(told))


def _bases(result: Result) -> Iterator[Check]:
    """Which base case is faster.  A process with all threads can be slower than one worker with fewer: its threads
    slow each other down.
    """
    name = "one process gains from all its threads"
    for mode in dict.fromkeys(single.mode for single in result.singles):
        single = base_case(result, mode)
        points = [p for p in summarise_points(result) if p.configuration.mode == mode]
        if single is None or not points:
            continue
        widest = max(points, key=lambda point: point.workers)
        best = base_of(result, widest.configuration)
        if best is not None and not best.all_threads:
            slower = statistics.median(single.seconds) / single.rows * widest.rows / best.seconds
            said = f"{mode}: with {single.threads} threads {slower:.1f} times as slow as one worker with {best.threads}"
            yield Check(name, f"{said}, which is GE's baseline", False)


def _retried(points: Sequence[Point]) -> Iterator[Check]:
    if again := sum(sample.retried for sample in _samples(points)):
        yield Check("no worker was lost", f"{again} repetitions lost one and were repeated", False)


def _crowded(points: Sequence[PointSummary]) -> Iterator[Check]:
    if crowded := [_label(point) for point in points if point.configuration.oversubscribed]:
        yield Check("every thread has a core", f"oversubscribed: {', '.join(crowded)}", False)


def _methods(points: Sequence[Point]) -> Iterator[Check]:
    workers = [worker for point in points for worker in _workers(point)]
    missing = dict.fromkeys(what for worker in workers for what in worker.missing)
    if missing:
        yield Check("the system reports all that is measured", f"missing: {', '.join(missing)}", False)
    yield Check("useful time is measured by", ", ".join(dict.fromkeys(w.method for w in workers)), None)


def _label(point: PointSummary) -> str:
    """A point's short label."""
    return f"{point.configuration.mode} {point.workers}"


def _samples(points: Sequence[Point]) -> list[ScalingSample]:
    return [sample for point in points for sample in point.samples]


def _workers(point: Point) -> list[WorkerSample]:
    return [worker for sample in point.samples for worker in sample.workers]
