"""Draws the components of scaling on this machine, and the model's extrapolation to many workers."""

from collections.abc import Callable, Sequence
from typing import Any

from pipeline.efficiency.cost import (
    CurvePoint,
    Workload,
    calls,
    curve,
    expected_tree,
    from_configuration,
    stops_paying,
    weak_limit,
)
from pipeline.efficiency.definitions import karp_flatt
from pipeline.efficiency.machine import Machine
from pipeline.efficiency.records import Prediction, Result
from pipeline.efficiency.usl import law
from pipeline.scaling.chart_style import (
    COLORS,
    DASHED,
    DOTTED,
    GOOD,
    GOOD_COLOR,
    INK,
    MARKERS,
    PictureText,
    legend_below,
    log_axis,
    workers_axis,
)
from pipeline.scaling.charts import is_crowded, modes, of
from pipeline.scaling.view import PointSummary, headline_point, summarise_points

FAR = tuple(1 << power for power in range(11))  # up to 1,024 workers
FAR_SHOWN = (1, 4, 16, 64, 256, 1024)
TABLES = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")
PAYLOADS = {16: "16 B", 1 << 10: "1 KiB", 1 << 15: "32 KiB", 1 << 20: "1 MiB", 1 << 25: "32 MiB"}


def allreduce(figure: Any, result: Result, machine: Machine | None) -> PictureText:
    """Seconds of one allreduce by payload, and the ring's formula fitted to them."""
    assert machine is not None
    axes = figure.add_subplot()
    for (count, table), color in zip(machine.collectives.items(), TABLES, strict=False):
        sizes, times = [nbytes for nbytes, _ in table], [1e3 * value for _, value in table]
        axes.plot(sizes, times, color=color, marker="o", markersize=4, label=f"{count} workers")
        fit = [1e3 * machine.ring.seconds(nbytes, count) for nbytes in sizes]
        axes.plot(sizes, fit, color=color, linewidth=1, linestyle=DASHED)
    log_axis(axes, "y")
    log_axis(axes, "x")
    axes.set_xticks(list(PAYLOADS), list(PAYLOADS.values()))
    for nbytes in _payloads(result, machine):
        axes.plot([nbytes] * 2, [0, 0.04], color=INK, linewidth=1, transform=axes.get_xaxis_transform())
    axes.set_xlabel("payload")
    axes.set_ylabel("milliseconds")
    legend_below(figure, axes)
    speed = f" and {1 / machine.ring.beta / 1e9:.2f} GB/s" if machine.ring.beta else ""
    return PictureText(
        "One allreduce, by its payload",
        f"As calibrated; the model interpolates. Dashed: the ring's formula with {1e6 * machine.ring.alpha:.0f} µs a step"
        f"{speed}, for other numbers of workers. Ticks at the bottom: what this run exchanges.",
    )


def _payloads(result: Result, machine: Machine) -> list[int]:
    """Bytes of the exchanges in a round of the report's main point."""
    point = headline_point(result)
    if point is None:
        return []
    workload = from_configuration(point.configuration)
    return sorted({call.nbytes for call in calls(workload, expected_tree(workload, machine.fill))})


def serial(figure: Any, result: Result, machine: Machine | None) -> PictureText:
    """Karp-Flatt's serial fraction: measured, predicted, and the law's straight line."""
    axes, points, color = figure.add_subplot(), of(summarise_points(result), "strong"), COLORS["strong"]
    own = fractions(points)
    counts, measured = [point.workers for point in own], [point.serial_fraction or 0.0 for point in own]
    axes.plot(counts, measured, color=color, marker="o", linestyle="none", label="measured")
    said = [(p.workers, value) for p in own if (value := _predicted_fraction(points[0].predicted, p)) is not None]
    axes.plot(
        [n for n, _ in said], [e for _, e in said], color=color, marker="o", markerfacecolor="white", markersize=7,
        linestyle="none", zorder=1.9, label="predicted",
    )  # fmt: skip
    meaning = ""
    if machine is not None:
        straight, ends = law(machine, from_configuration(own[-1].configuration)), (2, max(8, 2 * max(counts)))
        axes.plot(
            ends, [straight.serial_fraction(n) for n in ends], color=color, linewidth=1, linestyle=DASHED,
            label=f"σ + κN = {straight.sigma:.3f} + {straight.kappa:.4f} N",
        )  # fmt: skip
        meaning = " The line is the model's: σ is work that all repeat, and bandwidth; κ is latency."
    axes.set_ylim(min(0.0, 1.1 * min(measured)), max(0.05, 1.1 * axes.get_ylim()[1]))
    axes.set_xlabel("workers")
    axes.xaxis.get_major_locator().set_params(integer=True)
    legend_below(figure, axes)
    return PictureText(
        "Karp and Flatt's serial fraction",
        f"The share of the work that would have to be serial for such a speedup.{meaning}",
    )


def fractions(points: Sequence[PointSummary]) -> list[PointSummary]:
    """The points with a meaningful serial fraction: strong scaling, each thread with a core of its own."""
    return [p for p in points if p.serial_fraction is not None and not is_crowded(p)]


def _predicted_fraction(alone: Prediction | None, point: PointSummary) -> float | None:
    if alone is None or point.predicted is None:
        return None
    return karp_flatt(alone.seconds / point.predicted.seconds, point.workers)


def seconds(figure: Any, result: Result, machine: Machine | None) -> PictureText:
    """The model's T out to 1,024 workers, and the number beyond which another worker stops paying."""
    assert machine is not None
    axes, edge = figure.add_subplot(), stops_paying(machine, workload_of(result, "strong"), FAR[-1])
    _curves(axes, result, machine, lambda point: 1e3 * point.seconds, lambda point: 1e3 * point.seconds.median)
    log_axis(axes, "y")
    if edge < FAR[-1]:
        _mark(axes, edge, "strong")
    axes.set_ylabel("milliseconds a round")
    legend_below(figure, axes)
    paying = (
        f"With the same rows in all, one worker more than {edge:,} saves less than half of what it costs (dotted)."
        if edge < FAR[-1]
        else f"With the same rows in all, one worker more still pays at {edge:,}."
    )
    return PictureText("A round, far out", f"{paying} Predicted; hollow marks are measured.")


def efficiency(figure: Any, result: Result, machine: Machine | None) -> PictureText:
    """The model's PE out to 1,024 workers, and the largest number of equally loaded ones that keeps PE good."""
    assert machine is not None
    axes, workload = figure.add_subplot(), workload_of(result, "weak")
    limit, rows = weak_limit(machine, workload, GOOD), f"With {_each(workload):,} rows on each worker"
    _curves(axes, result, machine, lambda point: point.parallel_efficiency, lambda point: point.PE)
    axes.axhspan(GOOD, 1.05, color=GOOD_COLOR, alpha=0.13, linewidth=0)
    if 1 < limit <= FAR[-1]:
        _mark(axes, limit, "weak")
    axes.set_ylim(0, 1.05)
    axes.set_ylabel("PE")
    legend_below(figure, axes)
    reach = (
        f"{rows}, PE stays at {GOOD} or above up to {limit:,} workers"
        if limit > 1
        else f"{rows}, PE is below {GOOD} with two workers already"
    )
    return PictureText(
        "Parallel efficiency, far out", f"{reach} (green: {GOOD} and above). Predicted; hollow marks are measured."
    )


def _curves(
    axes: Any,
    result: Result,
    machine: Machine,
    said: Callable[[CurvePoint], float],
    was: Callable[[PointSummary], float],
) -> None:
    """Draws the model's curve of each mode, and its measured points."""
    strong, weak = workload_of(result, "strong"), workload_of(result, "weak")
    _curve(axes, "strong", [said(p) for p in curve(machine, strong, FAR)], f"strong: {strong.total_rows:,} rows")
    _curve(axes, "weak", [said(p) for p in curve(machine, weak, FAR, "weak")], f"weak: {_each(weak):,} rows each")
    for mode in modes(summarise_points(result)):
        own = _own(result, mode)
        axes.plot(
            [p.workers for p in own], [was(p) for p in own], color=COLORS[mode], marker=MARKERS[mode], markersize=7,
            markerfacecolor="white", linestyle="none",
        )  # fmt: skip
    workers_axis(axes, FAR)
    axes.set_xticks(FAR_SHOWN, [f"{count:,}" for count in FAR_SHOWN])


def _curve(axes: Any, mode: str, values: Sequence[float], label: str) -> None:
    axes.plot(
        FAR, values, color=COLORS[mode], linestyle=DASHED, marker=MARKERS[mode], markersize=3.5, label=label,
    )  # fmt: skip


def _mark(axes: Any, count: int, mode: str) -> None:
    """Marks a significant number of workers."""
    axes.axvline(count, color=COLORS[mode], linewidth=1, linestyle=DOTTED)
    axes.annotate(
        f"{count:,}", (count, 1 if mode == "strong" else 0), (3, -9 if mode == "strong" else 3), color=COLORS[mode],
        xycoords=("data", "axes fraction"), textcoords="offset points",
    )  # fmt: skip


def workload_of(result: Result, mode: str) -> Workload:
    """The workload of a mode's curves: its own rows where it was measured, else those of the other mode."""
    own, point = _own(result, mode), headline_point(result)
    assert point is not None
    return from_configuration((own[-1] if own else point).configuration)


def _own(result: Result, mode: str) -> list[PointSummary]:
    return [point for point in of(summarise_points(result), mode) if not is_crowded(point)]


def _each(workload: Workload) -> int:
    return workload.total_rows // workload.workers
