"""Compares two scaling runs: each point's seconds, and whether they differ by more than their scatter."""

from collections.abc import Iterator

from pipeline.efficiency.records import Configuration, Result, check_comparable
from pipeline.efficiency.resample import Interval, median_interval
from pipeline.errors import UserError


def comparison(result: Result, earlier: Result, *, force: bool = False) -> list[str]:
    """A line for each common point; UserError where there is none, or where the machines differ."""
    if not force:
        check_comparable(result.circumstances, earlier.circumstances)
    found = list(_lines(result, earlier))
    if not found:
        raise UserError(
            f"no point of {result.name!r} was measured in {earlier.name!r} too: other rows, depth or workers"
        )
    return found


def _lines(result: Result, earlier: Result) -> Iterator[str]:
    before = {_what(point.configuration): point for point in earlier.points if point.samples}
    for point in result.points:
        old = before.get(_what(point.configuration))
        if old is None or not point.samples:
            continue
        now, then = (median_interval([sample.seconds for sample in each.samples]) for each in (point, old))
        verdict = "no difference beyond the scatter" if _overlap(now, then) else f"x {now.median / then.median:.2f}"
        configuration = point.configuration
        yield (
            f"{configuration.mode}, {configuration.workers} x {configuration.threads}: {1e3 * now.median:.2f} ms a round, "
            f"earlier {1e3 * then.median:.2f} ms: {verdict}"
        )


def _what(configuration: Configuration) -> tuple[object, ...]:
    """The configuration fields that must be equal for two points to be compared; the number of rounds may differ."""
    c = configuration
    return (
        c.mode, c.workers, c.threads, sum(c.rows), c.features, c.bins, c.depth, c.growth, c.max_leaves, c.trees_per_round,
        c.column_share, c.row_share, c.objective, c.device,
    )  # fmt: skip


def _overlap(one: Interval, other: Interval) -> bool:
    return one.low <= other.high and other.low <= one.high
