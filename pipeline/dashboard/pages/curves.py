"""Draws the curves of /training: a chart for each metric with a line for each data set, and the speed of the rounds."""

import itertools
import math
from collections.abc import Sequence

import numpy as np
from bokeh.layouts import column
from bokeh.models import ColumnDataSource, DataRange1d, Row, Spacer
from bokeh.models.annotations import Span
from bokeh.models.ui import UIElement

from pipeline.dashboard.drawing import chart, div, flex, hover, put, refresh
from pipeline.dashboard.markup import key, text, time_unit, value
from pipeline.dashboard.theme import BLUE, GREEN, ORANGE, PURPLE, SKY, VERMILION
from pipeline.monitoring.state.naming import parted
from pipeline.monitoring.state.run_state import RunState

CHARTS = 4  # metrics that are drawn; the terminal shows the others
SETS = {"validation": BLUE, "train": ORANGE}  # drawn in this order
OTHER_SETS = (PURPLE, SKY, GREEN)
SPEED_POINTS, FEW_POINTS = 400, 20  # of a long run, and of a run of seconds


class CurvePlots:
    """A chart for each metric, with a line for each data set; the deciding metric comes first."""

    def __init__(self) -> None:
        self._charts: list[_Curve] = []
        self.root = Row(children=[Spacer(height=0)], sizing_mode="stretch_width", styles={"flex-wrap": "wrap"})

    def update(self, run: RunState | None, now: float) -> None:
        names = [] if run is None else metrics_of(run)
        while len(self._charts) < len(names):
            self._charts.append(_Curve())
        for one, name in zip(self._charts, names, strict=False):
            assert run is not None
            one.update(run, name)
        charts: list[UIElement] = [one.root for one in self._charts[: len(names)]]
        if charts and self.root.children != charts:
            self.root.children = charts
        self.root.visible = bool(charts)


class Speed:
    """Boosting rounds a second, over time."""

    def __init__(self) -> None:
        self._source = ColumnDataSource({"at": [], "rate": [], "round": []})
        self.figure = chart(
            "rounds per second", "", height=210, x_range=DataRange1d(start=0), y_range=DataRange1d(start=0)
        )
        step = self.figure.step("at", "rate", source=self._source, color=BLUE, line_width=2, mode="before")
        hover(self.figure, [step], [("round", "@round{0,0}"), ("rounds per second", "@rate{0.00}")])
        self._lost = ColumnDataSource({"at": [], "rate": [], "said": []})
        marks = self.figure.scatter("at", "rate", source=self._lost, marker="x", size=12, color=VERMILION, line_width=4)
        hover(self.figure, [marks], "@said")
        self._title = div()
        self.root = column(self._title, sizing_mode="stretch_width")

    def update(self, run: RunState | None, now: float) -> None:
        seconds, rates, rounds = ([], [], []) if run is None else _speed_of(run)
        self.root.visible = bool(rounds)
        if run is None or not rounds:
            return
        put(self.root, self._title, self.figure)
        unit, size = time_unit(seconds[-1])
        self.figure.xaxis.axis_label = f"{unit} since the start"
        lost = [one for one in run.incidents if one.kind == "WorkerLost"]
        refresh(self._source, {"at": [each / size for each in seconds], "rate": rates, "round": rounds})
        above = 0.06 * max((rate for rate in rates if rate > 0), default=1.0)  # keeps the axis visible
        at = [(one.time - run.started) / size for one in lost]
        refresh(self._lost, {"at": at, "rate": [above] * len(lost), "said": [one.text for one in lost]})
        keys = key(BLUE, "rounds per second", "line") + (key(VERMILION, "a worker was lost", "✖") if lost else "")
        self._title.text = f"<h3>Speed</h3><p>{keys}</p>"


class _Curve:
    """One metric's chart."""

    def __init__(self) -> None:
        self._name: str | None = None
        self._figure = chart("", "round", height=260)
        self._sources: dict[str, ColumnDataSource] = {}
        self._best = Span(dimension="height", line_color=GREEN, line_dash="dashed", line_width=2, visible=False)
        self._figure.add_layout(self._best)
        self._title = div()
        self.root = column(self._title, self._figure, sizing_mode="stretch_width", styles=flex())

    def update(self, run: RunState, name: str) -> None:
        if name != self._name:  # another run
            self._name = name
            for source in self._sources.values():
                source.data = {"round": np.zeros(0), "value": np.zeros(0)}
        lines = lines_of(run, name)
        for data_set, (rounds, values) in lines.items():
            refresh(self._source(data_set), {"round": rounds, "value": values})
        for data_set in self._sources.keys() - lines.keys():
            refresh(self._sources[data_set], {"round": [], "value": []})
        self._best.visible = bool(run.best_round) and run.stops_early
        self._best.location = run.best_round
        self._title.text = _curve_title(run, name, list(lines))

    def _source(self, data_set: str) -> ColumnDataSource:
        if data_set not in self._sources:
            made = self._sources[data_set] = ColumnDataSource({"round": [], "value": []})
            colour = _colour_of(data_set, [*self._sources])
            line = self._figure.line("round", "value", source=made, color=colour, line_width=2)
            hover(self._figure, [line], [("round", "@round{0,0}"), (data_set or "value", "@value{0,0.[00000]}")])
        return self._sources[data_set]


def metrics_of(run: RunState) -> list[str]:
    """Names of the metrics without their data sets, the deciding one first."""
    names = dict.fromkeys(parted(name)[1] for name in run.metric_names)
    deciding = parted(run.deciding)[1]
    return sorted(names, key=lambda name: name != deciding)[:CHARTS]


def lines_of(run: RunState, metric: str) -> dict[str, tuple[list[int], list[float]]]:
    """Rounds and values by data set; a data set may be measured less often than others."""
    found = {parted(name)[0]: name for name in run.metric_names if parted(name)[1] == metric}
    ordered = sorted(found, key=lambda data_set: list(SETS).index(data_set) if data_set in SETS else len(SETS))
    lines: dict[str, tuple[list[int], list[float]]] = {}
    for data_set in ordered:
        name = found[data_set]
        points = [(number, float(point[name])) for number, point in run.curve.items() if name in point]
        lines[data_set] = ([number for number, _ in points], [at for _, at in points])
    return lines


def _colour_of(data_set: str, known: Sequence[str]) -> str:
    """A data set's colour; `known`: the data sets that have a colour, itself among them."""
    others = [name for name in known if name not in SETS]
    return SETS[data_set] if data_set in SETS else OTHER_SETS[others.index(data_set) % len(OTHER_SETS)]


def _speed_of(run: RunState) -> tuple[list[float], list[float], list[float]]:
    """Seconds since the start, rounds per second and round, a few hundred at most; NaN where the run was interrupted."""
    marks = _apart(run.pace.marks)
    seconds, rates, rounds = [], [], []
    for (begin, first), (end, last) in itertools.pairwise(marks):
        if end > begin:
            seconds.append(end - run.started)
            rates.append((last - first) / (end - begin) if last > first else math.nan)
            rounds.append(float(last))
    return seconds, rates, rounds


def _apart(marks: Sequence[tuple[float, int]]) -> list[tuple[float, int]]:
    """Marks far enough apart to give a speed: events may arrive together that did not happen together."""
    if not marks:
        return []
    whole = marks[-1][0] - marks[0][0]
    seconds = max(whole / SPEED_POINTS, min(1.0, whole / FEW_POINTS))
    seconds = 2.0 ** math.ceil(math.log2(seconds)) if seconds else 0.0  # seldom changes: only new data are sent
    kept = [marks[0]]
    for before, mark in itertools.pairwise(marks):
        if mark[1] <= before[1]:  # the rounds restarted
            kept += [before, mark] if before != kept[-1] else [mark]
        elif mark[0] - kept[-1][0] >= seconds:
            kept.append(mark)
    return kept


def _curve_title(run: RunState, metric: str, data_sets: Sequence[str]) -> str:
    decides = parted(run.deciding)[1] == metric
    said = text(metric)
    if decides and run.stops_early and run.best is not None and math.isfinite(run.best):
        said += f"<span class=sub>: {text(run.deciding)} decides, best {value(run.best)}</span>"
    keys = "".join(key(_colour_of(name, data_sets), name or metric, "line") for name in data_sets)
    keys += key(GREEN, f"best round {run.best_round:,}", "tick") if run.best_round and run.stops_early else ""
    return f"<h3>{said}</h3><p>{keys}</p>"
