"""Draws the report's main charts as PNGs, for use where the page cannot be shown."""

import io
from typing import Any

import numpy as np

from pipeline.config.metric_registry import title_of
from pipeline.reports.data import ReportData, metric_names, plain, thinned, top_features

INK, MUTED, RULE, VALIDATION, TRAIN, BEST = "#1c2430", "#667085", "#e4e7ec", "#2563eb", "#98a2b3", "#d9480f"
SIZE_INCHES = (6.4, 3.8)
DPI = 120


def pictures(data: ReportData) -> dict[str, bytes]:
    """PNG by name: learning, importance, and quality (ROC; predicted and observed; NDCG of the queries).

    Matplotlib is imported only here, and its global state is not changed.
    """
    made = {}
    if metric_names(data.history):
        made["learning"] = _draw(data, _learning)
    if data.gain:
        made["importance"] = _draw(data, _importance)
    judged = data.curves.get(data.judged)
    if judged is not None and (judged.classes or judged.fit is not None or judged.queries is not None):
        made["quality"] = _draw(data, _quality)
    return made


def _draw(data: ReportData, draw: Any) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=SIZE_INCHES, dpi=DPI, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    title = draw(axes, data)
    axes.grid(color=RULE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=MUTED, length=0, labelsize=9)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_title(title[:1].upper() + title[1:], loc="left", color=INK, fontweight="bold", fontsize=11)
    content = io.BytesIO()
    figure.savefig(content, format="png", metadata={"Software": None})
    return content.getvalue()


def _learning(axes: Any, data: ReportData) -> str:
    metric = metric_names(data.history, data.best_round)[0]
    for use, color in (("train", TRAIN), ("validation", VALIDATION)):
        values = data.history.get(f"{use}.{metric}", ())
        if len(values):
            axes.plot(*thinned(values), color=color, label=use)
    if data.best_round:
        axes.axvline(
            data.best_round,
            color=BEST,
            linestyle=(0, (4, 4)),
            linewidth=1,
            label=f"{data.kept} round, {data.best_round:,}",
        )
    axes.set_xlabel("round", color=MUTED)
    axes.legend(frameon=False, fontsize=9)
    return title_of(metric)


def _importance(axes: Any, data: ReportData) -> str:
    names = top_features(data.gain, data.permutation)[:15][::-1]
    total = sum(data.gain.values()) or 1.0
    axes.barh(range(len(names)), [100 * data.gain[name] / total for name in names], color=VALIDATION, height=0.7)
    axes.set_yticks(range(len(names)), [_literal(plain(name, 28)) for name in names])
    return "share of the gain of all splits, %"


def _quality(axes: Any, data: ReportData) -> str:
    judged = data.curves[data.judged]
    if judged.classes:
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=(0, (2, 4)))
        for curve in judged.classes:
            label = (
                _literal(plain(data.target.classes[curve.index], 24))
                if data.target.kind == "multiclass"
                else data.judged
            )
            axes.plot(curve.false_positive_rate, curve.recall, label=f"{label}, AUC {curve.auc:.4f}")
        axes.set_xlabel("false positive rate", color=MUTED)
        axes.legend(frameon=False, fontsize=9)
        return f"ROC curve, {data.judged}"
    elif judged.fit is not None:
        predicted, observed = judged.fit
        ends = [min(predicted.min(), observed.min()), max(predicted.max(), observed.max())]
        axes.plot(ends, ends, color=MUTED, linewidth=1, linestyle=(0, (2, 4)))
        axes.plot(predicted, observed, color=VALIDATION, marker="o", markersize=4)
        return f"mean label by mean prediction, {data.judged}"
    else:
        assert judged.queries is not None
        edges, counts = judged.queries.edges, judged.queries.counts
        axes.bar(edges[:-1], 100 * counts / counts.sum(), width=np.diff(edges), align="edge", color=VALIDATION)
        return f"NDCG of the queries on {data.judged}, % of queries"


def _literal(text: str) -> str:
    """The text as Matplotlib shows it literally: a pair of dollars would be mathematics."""
    return text.replace("$", r"\$")
