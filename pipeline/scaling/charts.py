"""Draws the charts of a scaling run's measurements and of the predictions for them."""

import math
import statistics
from collections.abc import Sequence
from typing import Any

from pipeline.efficiency.machine import Machine
from pipeline.efficiency.records import Prediction, Result, TimeSplit
from pipeline.scaling.chart_style import (
    COLORS,
    CROWDED,
    DASHED,
    DOTTED,
    GOOD_COLOR,
    INK,
    MARKERS,
    MUTED,
    PARTS,
    PictureText,
    legend_below,
    log_axis,
    workers_axis,
)
from pipeline.scaling.view import PointSummary, base_case, summarise_points

LEAST_BARS = 5  # room is kept for at least this many bars
MOST_BARS = 18  # beyond, the quickest and the slowest worker of each point are shown
ROOM = 0.1  # of the axis: a useful part at least this long gets its share as a label
RATIOS = {"T": "T", "u": "useful", "C": "overhead", "E": "E", "PE": "PE"}
CLOSE = 0.1  # predicted over measured - 1
RATIO_TICKS = (0.25, 0.33, 0.5, 0.67, 0.8, 0.9, 1, 1.1, 1.25, 1.5, 2, 3, 4)


def modes(points: Sequence[PointSummary]) -> list[str]:
    """Strong before weak."""
    return sorted({point.configuration.mode for point in points})


def of(points: Sequence[PointSummary], mode: str) -> list[PointSummary]:
    """The points of a mode by number of workers."""
    return sorted((point for point in points if point.configuration.mode == mode), key=lambda point: point.workers)


def seconds(figure: Any, result: Result, machine: Machine | None) -> PictureText:
    """T against N, log-log: measured with intervals, ideal, predicted with the model's band, the base case."""
    axes, points = figure.add_subplot(), summarise_points(result)
    counts = [point.workers for point in points]
    for mode in modes(points):
        own, color = of(points, mode), COLORS[mode]
        _measured(axes, own, color)
        _ideal(axes, own)
        _said(axes, own, color)
        if (single := base_case(result, mode)) is not None:
            place, value = single.threads / own[0].configuration.threads, 1e3 * statistics.median(single.seconds)
            size = 10 if mode == "strong" else 6  # the same base case for both: nested markers
            axes.plot(
                place, value, color=color, marker="D", markerfacecolor="white", markersize=size, linestyle="none",
                zorder=4, label=f"{mode}, one process",
            )  # fmt: skip
            counts.append(max(1, round(place)))
    log_axis(axes, "y")
    workers_axis(axes, counts)
    axes.set_ylabel("milliseconds a round")
    legend_below(figure, axes)
    return PictureText(
        "How long a round takes",
        "Medians with 95 % intervals. Dotted: ideal scaling from the first point; shaded: the model's band; hollow: the "
        "process without a cluster, on the cores of as many workers.",
    )


def _measured(axes: Any, own: Sequence[PointSummary], color: str) -> None:
    mode, median = own[0].configuration.mode, [1e3 * point.seconds.median for point in own]
    down = [value - 1e3 * point.seconds.low for point, value in zip(own, median, strict=True)]
    up = [1e3 * point.seconds.high - value for point, value in zip(own, median, strict=True)]
    counts = [point.workers for point in own]
    axes.plot(counts, median, color=color, marker=MARKERS[mode], markersize=5, zorder=3, label=f"{mode}, measured")
    axes.errorbar(counts, median, [down, up], color=color, linestyle="none", capsize=3)
    crowded = [(point.workers, value) for point, value in zip(own, median, strict=True) if is_crowded(point)]
    if crowded:
        axes.plot(*zip(*crowded, strict=True), color=color, marker="x", markersize=11, linestyle="none", label=CROWDED)


def _ideal(axes: Any, own: Sequence[PointSummary]) -> None:
    first, uncrowded = own[0], [point for point in own if not is_crowded(point)]
    at_work = [first.workers / point.workers if first.configuration.mode == "strong" else 1.0 for point in uncrowded]
    axes.plot(
        [point.workers for point in uncrowded], [1e3 * first.seconds.median * share for share in at_work],
        color=MUTED, linewidth=1, linestyle=DOTTED, zorder=1.5,
    )  # fmt: skip


def _said(axes: Any, own: Sequence[PointSummary], color: str) -> None:
    said = [(point.workers, point.predicted) for point in own if point.predicted is not None]
    if not said:
        return
    counts, mode = [count for count, _ in said], own[0].configuration.mode
    low, high = [1e3 * p.seconds_low for _, p in said], [1e3 * p.seconds_high for _, p in said]
    axes.fill_between(counts, low, high, color=color, alpha=0.15, linewidth=0)
    middle = [1e3 * p.seconds for _, p in said]
    marker = "_" if len(said) == 1 else None
    axes.plot(counts, middle, color=color, linestyle=DASHED, marker=marker, markersize=14, label=f"{mode}, predicted")


def split(figure: Any, result: Result, machine: Machine | None) -> PictureText:
    """Stacked bars: how each worker's time of a round is spent, with the prediction below."""
    axes, points = figure.add_subplot(), summarise_points(result)
    crowded = sum(point.workers for point in points) > MOST_BARS
    bars = [(p, rank) for mode in modes(points) for p in of(points, mode) for rank in _ranks(p, crowded)]
    figure.set_figheight(max(figure.get_figheight(), 0.9 + 0.2 * len(bars)))
    places = [-float(number) for number in range(len(bars))]
    longest = 1e3 * max(point.seconds.median for point, _ in bars)
    for place, (point, rank) in zip(places, bars, strict=True):
        _stack(axes, place, point.splits[rank], 0.56)
        if point.predicted is not None:
            _stack(axes, place - 0.385, point.predicted.splits[rank], 0.13)
        total, useful = 1e3 * point.seconds.median, 1e3 * point.splits[rank].useful
        axes.plot([total, total], [place - 0.36, place + 0.36], color=INK, linewidth=1.2)
        if useful > ROOM * longest:
            share = f"{useful / total:.0%}"
            axes.text(
                useful - 0.01 * longest, place, share, ha="right", va="center_baseline", color="white", fontsize=8
            )
    axes.set_yticks(places, [_name(point, rank) for point, rank in bars], fontsize=8)
    spare = max(0.0, LEAST_BARS - len(bars)) / 2
    axes.set_ylim(places[-1] - 0.7 - spare, 0.6 + spare)
    axes.set_xlim(0, 1.03 * max(longest, *(1e3 * _total(p.predicted.splits[r]) for p, r in bars if p.predicted), 0.0))
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("milliseconds a round")
    for name, color in PARTS.values():
        axes.barh(0, 0, color=color, label=name)
    legend_below(figure, axes)
    star = f" *: {CROWDED}." if any(is_crowded(point) for point, _ in bars) else ""
    which = "Of each point the worker that computes least and the one that computes most. " if crowded else ""
    return PictureText(
        "Where each worker's time goes",
        f"{which}Each part measured by its own means; the black line is the round's time, the percentage the useful share, "
        f"the thin bar what had been predicted.{star}",
    )


def _stack(axes: Any, place: float, parts: TimeSplit, height: float) -> None:
    start = 0.0
    for part, (_, color) in PARTS.items():
        width = 1e3 * getattr(parts, part)
        axes.barh(place, width, left=start, color=color, height=height)
        start += width


def _total(parts: TimeSplit) -> float:
    return math.fsum(getattr(parts, part) for part in PARTS)


def _ranks(point: PointSummary, crowded: bool) -> Sequence[int]:
    if not crowded or point.workers <= 2:
        return range(point.workers)
    by_useful = sorted(range(point.workers), key=lambda rank: point.splits[rank].useful)
    return by_useful[0], by_useful[-1]


def _name(point: PointSummary, rank: int) -> str:
    name = f"{point.configuration.mode} {point.workers}{'*' if is_crowded(point) else ''}"
    return name if point.workers == 1 else f"{name}, worker {rank}"


def predicted(figure: Any, result: Result, machine: Machine | None) -> PictureText:
    """Predicted over measured, for T, u, C, E and PE of every point that is not oversubscribed: a panel each."""
    points = checked(result)
    panels = figure.subplots(1, len(RATIOS), sharey=True)
    for axes, (name, title) in zip(panels, RATIOS.items(), strict=True):
        axes.axhspan(1 / (1 + CLOSE), 1 + CLOSE, color=GOOD_COLOR, alpha=0.13, linewidth=0)
        axes.axhline(1, color=INK, linewidth=1)
        for mode in modes(points):
            found = [(p.workers, ratio) for p in of(points, mode) if (ratio := ratio_of(p, name)) is not None]
            axes.plot(
                [count for count, _ in found], [ratio for _, ratio in found], color=COLORS[mode], marker=MARKERS[mode],
                markersize=5, label=f"{mode} scaling",
            )  # fmt: skip
        axes.set_title(title, fontsize=9, color=INK)
    log_axis(panels[0], "y", least=1.6)
    low, high = panels[0].get_ylim()
    ticks = [tick for tick in RATIO_TICKS if low <= tick <= high]
    if high / low <= 20:
        panels[0].set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    for axes in panels:
        workers_axis(axes, {point.workers for point in points})
        axes.margins(x=0.12)
        axes.set_xlabel("")
    panels[len(panels) // 2].set_xlabel("workers")
    panels[0].set_ylabel("predicted / measured")
    legend_below(figure, panels[0])
    return PictureText(
        "Predicted over measured",
        f"1 is right, green is within {CLOSE:.0%}.",
    )


def checked(result: Result) -> list[PointSummary]:
    """The points by which the model can be judged: predicted, and with a core for every thread."""
    return [point for point in summarise_points(result) if point.predicted and not is_crowded(point)]


def is_crowded(point: PointSummary) -> bool:
    """Oversubscribed: its threads take turns on the cores, which no efficiency model covers."""
    return point.configuration.oversubscribed


def pair_of(point: PointSummary, name: str) -> tuple[float | None, float | None]:
    """T, u, C, E or PE: measured and predicted; None where it has no value."""
    if point.workers == 1 and name in ("C", "E"):
        return None, None
    useful = point.mean("useful")
    values = {"T": point.seconds.median, "u": useful, "C": point.seconds.median - useful, "E": point.E, "PE": point.PE}
    return values[name], None if point.predicted is None else _expected(point.predicted)[name]


def _expected(said: Prediction) -> dict[str, float | None]:
    useful = statistics.fmean(split.useful for split in said.splits)
    return {"T": said.seconds, "u": useful, "C": said.seconds - useful, "E": said.figures.E, "PE": said.figures.PE}


def ratio_of(point: PointSummary, name: str) -> float | None:
    """Predicted over measured; None where one of them is missing or zero."""
    was, will = pair_of(point, name)
    return will / was if was and will and was > 0 and will > 0 else None
