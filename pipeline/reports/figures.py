"""Draws the report's charts with Bokeh."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from bokeh.models.annotations import Span, Title
from bokeh.models.formatters import NumeralTickFormatter
from bokeh.models.sources import ColumnDataSource
from bokeh.models.tools import HoverTool
from bokeh.plotting import figure

from pipeline.config.metric_registry import title_of
from pipeline.metrics.curves import ClassCurves, Curves
from pipeline.reports import data as report_data
from pipeline.reports.data import ReportData, plain, thinned

INK, MUTED, RULE = "#1c2430", "#667085", "#e4e7ec"
VALIDATION, TRAIN, BEST = "#2563eb", "#98a2b3", "#d9480f"
INCIDENT = "#b91c1c"
CLASSES = ("#2563eb", "#d9480f", "#0f9d74", "#9333ea", "#ca8a04", "#0891b2", "#be185d", "#57606a")
STAGES = (
    "#2563eb",
    "#0f9d74",
    "#ca8a04",
    "#9333ea",
    "#d9480f",
    "#0891b2",
    "#be185d",
    "#65a30d",
    "#57606a",
    "#98a2b3",
    "#7c2d12",
    "#38bdf8",
)
FONT = "system-ui, 'Segoe UI', 'Helvetica Neue', Arial, sans-serif"

Figure = Any  # bokeh.plotting.figure


def learning(data: ReportData, metric: str) -> Figure:
    """One metric by round, training and validation, with the best round marked."""
    plot = _figure(title_of(metric), "round", "", height=300)
    lines = {use: thinned(data.history.get(f"{use}.{metric}", ())) for use in ("train", "validation")}
    drawn = [use for use, (rounds, _) in lines.items() if len(rounds)]
    for use in drawn:
        rounds, values = lines[use]
        source = ColumnDataSource({"round": rounds, "value": values})
        color = VALIDATION if use == "validation" else TRAIN
        line = plot.line("round", "value", source=source, line_width=2.2, color=color, legend_label=use)
        plot.add_tools(
            HoverTool(renderers=[line], tooltips=[(use, "@value{0.00000}"), ("round", "@round")], mode="vline")
        )
    if data.best_round and drawn:
        plot.add_layout(Span(location=data.best_round, dimension="height", line_color=BEST, line_dash=[4, 4]))
        rounds, values = lines[drawn[-1]]
        place = min(int(np.searchsorted(rounds, data.best_round)), len(rounds) - 1)
        if rounds[place] == data.best_round:
            plot.scatter([data.best_round], [values[place]], size=9, color=BEST)
            plot.title.text += f" – {report_data.number(values[place])} at the {data.kept} round, {data.best_round:,}"
    _legend(plot, "left")
    for legend in list(plot.legend):  # above the chart, where no line crosses it
        plot.center.remove(legend)
        legend.orientation, legend.spacing, legend.margin = "horizontal", 16, 0
        plot.add_layout(legend, "above")
    return plot


def importance(data: ReportData, which: str) -> Figure:
    """Bars of the most important features by "gain" or "permutation", in one order for both."""
    names = report_data.top_features(data.gain, data.permutation)[::-1]
    values = data.gain if which == "gain" else data.permutation
    total = sum(data.gain.values()) or 1.0
    sizes = [values.get(name, 0.0) / total if which == "gain" else values.get(name, 0.0) for name in names]
    title = (
        "Share of the gain of all splits"
        if which == "gain"
        else plain(data.permutation_unit)[:1].upper() + plain(data.permutation_unit)[1:]
    )
    places = list(range(len(names)))
    source = ColumnDataSource({"y": places, "size": sizes, "name": [plain(name) for name in names]})
    plot = _figure(title, "", "", height=60 + 21 * len(names))
    bars = plot.hbar(
        y="y", right="size", height=0.68, source=source, color=VALIDATION if which == "gain" else "#0f9d74"
    )
    plot.add_tools(HoverTool(renderers=[bars], tooltips=[("", "@name"), ("", "@size{0.0000}")]))
    plot.yaxis.ticker = places
    plot.yaxis.major_label_overrides = {place: plain(name, 26) for place, name in zip(places, names, strict=True)}
    plot.ygrid.visible = False
    plot.y_range.range_padding = 0.02
    if which == "gain":
        plot.xaxis.formatter = NumeralTickFormatter(format="0 %")
    return plot


def roc(data: ReportData) -> Figure:
    """ROC curves: of training and validation for two classes, of each class on the judged rows for more."""
    plot = _figure("ROC curve", "false positive rate", "true positive rate", height=340)
    plot.line([0, 1], [0, 1], color=MUTED, line_dash=[3, 4], line_width=1)
    for label, color, curve in _curves(data):
        _line(plot, curve.false_positive_rate, curve.recall, color, f"{label}  {curve.auc:.4f}")
    _unit_axes(plot)
    _legend(plot, "bottom_right", "AUC")
    return plot


def precision_recall(data: ReportData) -> Figure:
    """Precision by recall, for the same curves as `roc`."""
    plot = _figure("Precision and recall", "recall", "precision", height=340)
    for label, color, curve in _curves(data):
        _line(plot, curve.recall, curve.precision, color, f"{label}  {curve.average_precision:.4f}")
    _unit_axes(plot)
    _legend(plot, "bottom_left", "average precision")
    return plot


def calibration(data: ReportData) -> Figure:
    """Observed share by predicted probability, in equally heavy bins."""
    plot = _figure("Calibration", "predicted probability", "observed share", height=340)
    plot.line([0, 1], [0, 1], color=MUTED, line_dash=[3, 4], line_width=1)
    for label, color, curve in _curves(data):
        _line(plot, curve.predicted, curve.observed, color, label)
        plot.scatter(curve.predicted, curve.observed, size=6, color=color)
    _unit_axes(plot)
    _legend(plot, "top_left")
    return plot


def errors(data: ReportData) -> Figure:
    """Histogram of prediction - label on the judged rows."""
    histogram = data.curves[data.judged].errors
    assert histogram is not None
    plot = _figure(f"Errors on {data.judged}", "prediction − label", "share of rows", height=340)
    _histogram(plot, histogram.edges, histogram.counts)
    plot.add_layout(Span(location=0, dimension="height", line_color=INK, line_dash=[4, 4]))
    return plot


def fit(data: ReportData) -> Figure:
    """Mean label by mean prediction, in equally heavy bins."""
    plot = _figure("Predicted and observed", "mean prediction of a bin", "mean label", height=340)
    pairs = [(use, curve.fit) for use, curve in data.curves.items() if curve.fit is not None]
    ends = [float(end(values)) for _, pair in pairs for values in pair for end in (np.min, np.max)]
    plot.line([min(ends), max(ends)], [min(ends), max(ends)], color=MUTED, line_dash=[3, 4], line_width=1)
    for use, (predicted, observed) in pairs:
        color = VALIDATION if use == "validation" else TRAIN
        _line(plot, predicted, observed, color, use)
        plot.scatter(predicted, observed, size=6, color=color)
    _legend(plot, "top_left")
    return plot


def queries(data: ReportData) -> Figure:
    """Histogram of the queries' NDCG on the judged rows."""
    histogram = data.curves[data.judged].queries
    assert histogram is not None
    plot = _figure(f"NDCG of the queries on {data.judged}", "NDCG", "share of queries", height=300)
    _histogram(plot, histogram.edges, histogram.counts)
    return plot


def timeline(data: ReportData, colors: Mapping[str, str]) -> Figure:
    """Each worker's activity over time."""
    bars = report_data.merged_bars(data.timeline)
    workers = list(dict.fromkeys(bar.worker for bar in bars))[::-1]
    place = {worker: index for index, worker in enumerate(workers)}
    source = ColumnDataSource(
        {
            "y": [place[bar.worker] for bar in bars],
            "left": [bar.start for bar in bars],
            "right": [bar.stop for bar in bars],
            "seconds": [bar.stop - bar.start for bar in bars],
            "stage": [plain(bar.stage) for bar in bars],
            "worker": [plain(bar.worker) for bar in bars],
            "color": [colors[bar.stage] for bar in bars],
        }
    )
    plot = _figure("", "seconds since the start", "", height=90 + 30 * len(workers))
    drawn = plot.hbar(y="y", left="left", right="right", height=0.62, source=source, color="color", line_color=None)
    tips = [("", "@worker"), ("", "@stage"), ("seconds", "@seconds{0.00}"), ("from", "@left{0.00}")]
    plot.add_tools(HoverTool(renderers=[drawn], tooltips=tips))
    for seconds, _ in data.incidents:  # a list below the chart describes them
        plot.add_layout(
            Span(location=seconds, dimension="height", line_color=INCIDENT, line_dash="dashed", line_width=1.5)
        )
    plot.yaxis.ticker = list(place.values())
    plot.yaxis.major_label_overrides = {index: plain(worker, 26) for worker, index in place.items()}
    plot.y_range.start, plot.y_range.end = -0.6, len(workers) - 0.4
    plot.x_range.start = 0
    plot.ygrid.visible = False
    return plot


def stage_colors(data: ReportData) -> dict[str, str]:
    """One color for each stage of the client and of the workers."""
    names = dict.fromkeys([*data.stages, *(bar.stage for bar in data.timeline)])
    return {name: STAGES[index % len(STAGES)] for index, name in enumerate(names)}


def _curves(data: ReportData) -> list[tuple[str, str, ClassCurves]]:
    """(label, color, curves) for the classification charts."""
    if data.target.kind == "binary":
        found = [(use, data.curves[use]) for use in ("train", "validation") if use in data.curves]
        colors = {"train": TRAIN, "validation": VALIDATION}
        return [(use, colors[use], curve) for use, kept in found for curve in kept.classes]
    kept = data.curves.get(data.judged, Curves()).classes
    names = data.target.classes
    return [(plain(names[curve.index], 18), CLASSES[i % len(CLASSES)], curve) for i, curve in enumerate(kept)]


def _figure(title: str, x: str, y: str, height: int) -> Figure:
    """An empty chart in the page's style, as wide as its container."""
    heading = Title(text=title[:1].upper() + title[1:], visible=False)  # shown by the page, where it can wrap
    plot = figure(
        title=heading, x_axis_label=x or None, y_axis_label=y or None, height=height, min_width=200,
        sizing_mode="stretch_width", tools="", toolbar_location=None, background_fill_color=None,
        border_fill_color=None, outline_line_color=None, min_border_right=16,
    )  # fmt: skip
    plot.grid.grid_line_color = RULE
    for axis in plot.axis:
        axis.axis_label_text_font = axis.major_label_text_font = FONT
        axis.axis_label_text_font_style = "normal"
        axis.axis_label_text_font_size = axis.major_label_text_font_size = "12px"
        axis.axis_label_text_color = axis.major_label_text_color = MUTED
        axis.axis_line_color = axis.major_tick_line_color = RULE
        axis.minor_tick_line_color = None
    return plot


def _legend(plot: Figure, place: str, title: str = "") -> None:
    for legend in plot.legend:
        legend.location, legend.title = place, title or None
        legend.label_text_font = legend.title_text_font = FONT
        legend.label_text_font_size = legend.title_text_font_size = "12px"
        legend.title_text_font_style = "normal"
        legend.label_text_color = legend.title_text_color = INK
        legend.background_fill_alpha, legend.border_line_color = 0.85, None
        legend.spacing, legend.padding = 0, 6


def _line(plot: Figure, x: np.ndarray, y: np.ndarray, color: str, label: str) -> None:
    line = plot.line(x, y, color=color, line_width=2.2, legend_label=label)
    plot.add_tools(
        HoverTool(
            renderers=[line],
            tooltips=[(str(plot.xaxis.axis_label), "$x{0.000}"), (str(plot.yaxis.axis_label), "$y{0.000}")],
        )
    )


def _histogram(plot: Figure, edges: np.ndarray, counts: np.ndarray) -> None:
    shares = counts / max(counts.sum(), 1e-300)
    source = ColumnDataSource({"left": edges[:-1], "right": edges[1:], "top": shares})
    bars = plot.quad(
        left="left", right="right", top="top", bottom=0, source=source, color=VALIDATION, line_color="white", alpha=0.85
    )
    plot.add_tools(
        HoverTool(
            renderers=[bars], tooltips=[("from", "@left{0.000}"), ("to", "@right{0.000}"), ("share", "@top{0.00%}")]
        )
    )
    plot.yaxis.formatter = NumeralTickFormatter(format="0.0 %" if shares.max() < 0.1 else "0 %")
    plot.y_range.start = 0


def _unit_axes(plot: Figure) -> None:
    plot.x_range.start, plot.x_range.end = -0.02, 1.02
    plot.y_range.start, plot.y_range.end = -0.02, 1.02
