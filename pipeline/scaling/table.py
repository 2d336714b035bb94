"""Renders the terminal's table of a scaling run: measured, predicted, ratio."""

import statistics

from pipeline.efficiency.records import Result
from pipeline.formatting import aligned
from pipeline.scaling.view import PointSummary, base_case, summarise_points

HEADS = (
    ("", "GE", "PE", "", "E", "", "J", "T", "", "", "", "closure", ""),
    ("", "", "measured", "predicted", "measured", "predicted", "", "measured", "95 %", "predicted", "ratio", "", ""),
)


def table(result: Result) -> str:
    """A line for each point: GE first, then PE, then E with its seconds."""
    rows = [*HEADS, *(_row(point) for point in summarise_points(result))]
    lines = aligned(rows, right=range(1, len(HEADS[0]) - 1))
    for mode in dict.fromkeys(single.mode for single in result.singles):
        if (single := base_case(result, mode)) is not None:
            seconds = statistics.median(single.seconds)
            threads = f"{single.threads} thread{'s' if single.threads > 1 else ''}"
            note = f" ({single.note})" if single.note else ""
            lines.append(f"{mode}: a single process without a cluster, {threads}: {_ms(seconds)} a round{note}")
    return "\n".join([result.name, "", *lines])


def _row(point: PointSummary) -> tuple[str, ...]:
    predicted = point.predicted
    workers = f"{point.workers} worker{'s' if point.workers > 1 else ''}"
    return (
        f"{point.configuration.mode}, {workers} x {point.configuration.threads}",
        _number(point.GE),
        _number(point.PE),
        _number(predicted.figures.PE if predicted else None),
        _figure(point.E, point.workers),
        _figure(predicted.figures.E, point.workers) if predicted else "-",
        _figure(point.J, point.workers),
        _ms(point.seconds.median),
        f"{1e3 * point.seconds.low:.2f} to {1e3 * point.seconds.high:.2f}",
        _ms(predicted.seconds) if predicted else "-",
        f"{predicted.seconds / point.seconds.median:.2f}" if predicted else "-",
        "-" if point.closure is None else f"{point.closure:.1%}",
        "oversubscribed" if point.configuration.oversubscribed else "",
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _figure(value: float | None, workers: int) -> str:
    """E and J: of one worker they are noise over noise, and without any overhead they are undefined."""
    return "-" if workers == 1 else "saturated" if value is None else f"{value:.2f}"


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.2f} ms"
