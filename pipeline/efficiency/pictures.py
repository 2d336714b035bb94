"""The pictures of a scaling run, drawn by Matplotlib: each as PNG for anywhere, and as SVG for the report."""

import io
import re
from collections.abc import Callable, Sequence
from typing import Any, Literal

from pipeline.efficiency.cost import curve, from_configuration, stops_paying, weak_limit
from pipeline.efficiency.definitions import Usl, karp_flatt
from pipeline.efficiency.law import law
from pipeline.efficiency.machine import Machine
from pipeline.efficiency.record import Result
from pipeline.efficiency.view import Seen, base_case, seen

INK, MUTED, RULE = "#1c2430", "#667085", "#e4e7ec"
MEASURED, PREDICTED, BASE = "#0072b2", "#d55e00", "#57606a"  # Okabe and Ito's, told apart without red and green
PARTS = {  # part of the split -> what it is called, its colour
    "useful": ("useful", "#009e73"),
    "transfer": ("transfer", "#0072b2"),
    "wait": ("waiting", "#e69f00"),
    "other": ("other", "#98a2b3"),
}
SIZE_INCHES, DPI = (6.4, 3.8), 110
FAR = tuple(1 << power for power in range(11))  # up to 1,024 workers
GOOD = 0.8  # parallel efficiency

Format = Literal["png", "svg"]
Draw = Callable[[Any, Result, Machine | None], str]  # onto axes; the title


def pictures(result: Result, machine: Machine | None, kind: Format) -> dict[str, bytes]:
    """Picture by name; those that nothing was measured or predicted for are left out."""
    points = seen(result)
    wanted: dict[str, tuple[Draw, bool]] = {
        "seconds": (_seconds, bool(points)),
        "split": (_split, bool(points)),
        "predicted": (_predicted, any(point.predicted for point in points)),
        "allreduce": (_allreduce, machine is not None and bool(machine.collectives)),
        "serial_fraction": (_serial, any(point.serial_fraction is not None for point in points)),
        "far": (_far, machine is not None and bool(points)),
    }
    return {name: _drawn(draw, result, machine, kind) for name, (draw, there) in wanted.items() if there}


def _drawn(draw: Draw, result: Result, machine: Machine | None, kind: Format) -> bytes:
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "scaling", "font.family": "sans-serif"}):
        figure = Figure(figsize=SIZE_INCHES, dpi=DPI, layout="constrained", facecolor="white")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        title = draw(axes, result, machine)
        axes.grid(color=RULE, linewidth=0.8)
        axes.set_axisbelow(True)
        axes.tick_params(colors=MUTED, length=0, labelsize=9, which="both")
        for spine in axes.spines.values():
            spine.set_visible(False)
        if axes.get_legend_handles_labels()[1]:  # below the chart, where no line can run into it
            axes.legend(frameon=False, fontsize=8, ncols=2, loc="upper left", bbox_to_anchor=(-0.01, -0.16))
        axes.set_title(title, loc="left", color=INK, fontweight="bold", fontsize=11)
        content = io.BytesIO()
        metadata = {"Software": None} if kind == "png" else {"Date": None, "Creator": None}
        figure.savefig(content, format=kind, metadata=metadata)
    if kind == "png":
        return content.getvalue()
    drawn = content.getvalue().decode()
    return re.sub(
        r"font: ([^;\"]*?)sans-serif", r"font: \1system-ui, sans-serif", drawn[drawn.index("<svg") :]
    ).encode()


def _of(points: Sequence[Seen], mode: str) -> list[Seen]:
    return sorted((point for point in points if point.configuration.mode == mode), key=lambda point: point.workers)


def _modes(points: Sequence[Seen]) -> list[str]:
    return list(dict.fromkeys(point.configuration.mode for point in points))


def _workers_axis(axes: Any, counts: Sequence[int]) -> None:
    axes.set_xscale("log", base=2)
    axes.set_xticks(sorted(set(counts)), [f"{count:,}" for count in sorted(set(counts))])
    axes.minorticks_off()
    axes.set_xlabel("workers", color=MUTED)


def _seconds(axes: Any, result: Result, machine: Machine | None) -> str:
    """T against N, log-log: measured with intervals, ideal, predicted with the model's band, the base case."""
    points = seen(result)
    for mode, style in zip(_modes(points), ("-", "--"), strict=False):
        own = _of(points, mode)
        counts, first = [point.workers for point in own], own[0]
        median = [1e3 * point.seconds.median for point in own]
        bars = [
            [1e3 * (point.seconds.median - point.seconds.low) for point in own],
            [1e3 * (point.seconds.high - point.seconds.median) for point in own],
        ]
        axes.errorbar(
            counts, median, bars, color=MEASURED, marker="o", linestyle=style, capsize=3, label=f"{mode}, measured"
        )
        if all(point.predicted for point in own):
            said = [point.predicted for point in own if point.predicted]
            axes.plot(
                counts,
                [1e3 * p.seconds for p in said],
                color=PREDICTED,
                linestyle=style,
                marker="s",
                markersize=4,
                label=f"{mode}, predicted",
            )
            axes.fill_between(
                counts,
                [1e3 * p.seconds_low for p in said],
                [1e3 * p.seconds_high for p in said],
                color=PREDICTED,
                alpha=0.15,
                linewidth=0,
            )
        ideal = [median[0] * (first.workers / n if mode == "strong" else 1) for n in counts]
        axes.plot(
            counts,
            ideal,
            color=MUTED,
            linewidth=1,
            linestyle=(0, (2, 4)),
            label="ideal" if mode == _modes(points)[0] else None,
        )
        if (single := base_case(result, mode)) is not None and mode == "strong":
            value = 1e3 * sorted(single.seconds)[len(single.seconds) // 2]
            axes.axhline(
                value, color=BASE, linewidth=1, linestyle=(0, (6, 3)), label=f"one process, {single.threads} threads"
            )
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    axes.set_yticks([v for e in range(-3, 6) for v in (10.0**e, 2 * 10.0**e, 5 * 10.0**e) if low <= v <= high])
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.minorticks_off()
    _workers_axis(axes, [point.workers for point in points])
    return "Milliseconds of a round"


def _split(axes: Any, result: Result, machine: Machine | None) -> str:
    """Stacked bars: where each worker's time of a round goes."""
    bars = [(point, rank, split) for point in seen(result) for rank, split in enumerate(point.splits)][-MOST_BARS:]
    places = list(range(len(bars)))[::-1]
    left = [0.0] * len(bars)
    for part, (name, color) in PARTS.items():
        widths = [1e3 * getattr(split, part) for _, _, split in bars]
        axes.barh(places, widths, left=left, color=color, height=0.72, label=name)
        left = [start + width for start, width in zip(left, widths, strict=True)]
    labels = [f"{point.configuration.mode} {point.workers}, worker {rank}" for point, rank, _ in bars]
    axes.set_yticks(places, labels)
    axes.set_xlabel("milliseconds of a round", color=MUTED)
    return "Where each worker's time goes"


MOST_BARS = 16


def _predicted(axes: Any, result: Result, machine: Machine | None) -> str:
    """Predicted over measured, for T, u, C, E and PE of every point."""
    names = ("T", "u", "C", "E", "PE")
    points = [point for point in seen(result) if point.predicted is not None]
    width = 0.8 / len(points)
    colors = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")
    for number, point in enumerate(points):
        ratios = [_ratio(point, name) for name in names]
        places = [index + (number - (len(points) - 1) / 2) * width for index in range(len(names))]
        shown = [(place, ratio) for place, ratio in zip(places, ratios, strict=True) if ratio is not None]
        label = f"{point.configuration.mode} {point.workers}"
        axes.bar(
            [p for p, _ in shown],
            [r - 1 for _, r in shown],
            width * 0.9,
            bottom=1,
            color=colors[number % 6],
            label=label,
        )
    axes.axhline(1, color=INK, linewidth=1)
    low, high = axes.get_ylim()
    axes.set_ylim(min(low, 0.75), max(high, 1.25))
    axes.set_xticks(range(len(names)), ["T", "u, useful", "C, overhead", "E", "PE"])
    return "Predicted over measured: 1 is right"


def _ratio(point: Seen, name: str) -> float | None:
    assert point.predicted is not None
    figures, splits = point.predicted.figures, point.predicted.splits
    useful = sum(split.useful for split in splits) / len(splits)
    pairs: dict[str, tuple[float | None, float | None]] = {
        "T": (point.predicted.seconds, point.seconds.median),
        "u": (useful, point.mean("useful")),
        "C": (point.predicted.seconds - useful, point.seconds.median - point.mean("useful")),
        "E": (figures.E, point.E),
        "PE": (figures.PE, point.PE),
    }
    said, was = pairs[name]
    if said is None or was is None or was <= 0 or (name in ("C", "E") and point.workers == 1):
        return None
    return said / was


def _allreduce(axes: Any, result: Result, machine: Machine | None) -> str:
    """Seconds of one allreduce by payload, and the ring's formula fitted to them."""
    assert machine is not None
    for (count, table), color in zip(
        machine.collectives.items(), ("#0072b2", "#e69f00", "#009e73", "#cc79a7"), strict=False
    ):
        sizes = [nbytes for nbytes, _ in table]
        axes.plot(
            sizes,
            [1e3 * seconds for _, seconds in table],
            color=color,
            marker="o",
            markersize=4,
            label=f"{count} workers, measured",
        )
        axes.plot(
            sizes,
            [1e3 * machine.ring.seconds(nbytes, count) for nbytes in sizes],
            color=color,
            linewidth=1,
            linestyle=(0, (4, 3)),
        )
    axes.plot([], [], color=MUTED, linewidth=1, linestyle=(0, (4, 3)), label=_ring_text(machine))
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    ticks = [16, 1 << 10, 1 << 15, 1 << 20, 1 << 25]
    axes.set_xticks(ticks, ["16 B", "1 KiB", "32 KiB", "1 MiB", "32 MiB"])
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.minorticks_off()
    axes.set_xlabel("payload", color=MUTED)
    return "Milliseconds of one allreduce"


def _ring_text(machine: Machine) -> str:
    speed = f", {1 / machine.ring.beta / 1e9:.2f} GB/s" if machine.ring.beta else ""
    return f"ring: {1e6 * machine.ring.alpha:.0f} µs a step{speed}"


def _serial(axes: Any, result: Result, machine: Machine | None) -> str:
    """Karp-Flatt's serial fraction: measured, and the line that the model predicts."""
    own = [point for point in _of(seen(result), "strong") if point.serial_fraction is not None]
    counts = [point.workers for point in own]
    fractions = [point.serial_fraction for point in own]
    axes.plot(counts, fractions, color=MEASURED, marker="o", linestyle="none", label="measured")
    if machine is not None:
        most = max(8, 2 * max(counts))
        line = curve(machine, from_configuration(own[-1].configuration), range(1, most + 1))
        said = [(p.workers, karp_flatt(line[0].seconds / p.seconds, p.workers)) for p in line[1:]]
        axes.plot(
            [n for n, _ in said],
            [e for _, e in said],
            color=PREDICTED,
            label=_law_text(law(machine, from_configuration(own[-1].configuration))),
        )
    axes.set_ylim(bottom=0)
    axes.set_xlabel("workers", color=MUTED)
    axes.xaxis.get_major_locator().set_params(integer=True)
    return "Karp-Flatt's serial fraction"


def _law_text(scaling: Usl) -> str:
    """Intercept: replicated compute and bandwidth; slope: latency."""
    return f"predicted, about {scaling.sigma:.2g} + {scaling.kappa:.2g} N"


def _far(axes: Any, result: Result, machine: Machine | None) -> str:
    """The model's curve out to 1,024 workers, and where another one stops paying."""
    assert machine is not None
    point = max(seen(result), key=lambda p: (p.configuration.mode == "strong", p.workers))
    workload = from_configuration(point.configuration)
    strong = curve(machine, workload, FAR)
    axes.plot(
        FAR,
        [p.parallel_efficiency for p in strong],
        color=MEASURED,
        marker="o",
        markersize=4,
        label=f"strong: {workload.total_rows:,} rows in all",
    )
    weak = curve(machine, workload, FAR, "weak")
    each = workload.total_rows // workload.workers
    axes.plot(
        FAR,
        [p.parallel_efficiency for p in weak],
        color=PREDICTED,
        marker="s",
        markersize=4,
        label=f"weak: {each:,} rows each",
    )
    axes.axhline(GOOD, color=MUTED, linewidth=1, linestyle=(0, (2, 4)))
    edge, limit = stops_paying(machine, workload, FAR[-1]), weak_limit(machine, workload, GOOD)
    axes.axvline(
        edge,
        color=MEASURED,
        linewidth=1,
        linestyle=(0, (4, 3)),
        label=f"strong: one more than {edge:,} saves less than it costs",
    )
    weak_text = f"weak: PE {GOOD} up to {limit:,} workers" if limit > 1 else f"weak: PE below {GOOD} from 2 workers on"
    axes.plot([], [], color=PREDICTED, linewidth=1, linestyle=(0, (4, 3)), label=weak_text)
    if 1 < limit <= FAR[-1]:
        axes.axvline(limit, color=PREDICTED, linewidth=1, linestyle=(0, (4, 3)))
    axes.set_ylim(0, 1.05)
    _workers_axis(axes, FAR)
    return "Parallel efficiency, predicted far out"
