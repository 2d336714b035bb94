"""/training: how far, how good, how long still, and what happened on the way."""

import itertools
import math
from collections.abc import Sequence

import numpy as np
from bokeh.layouts import column
from bokeh.models import ColumnDataSource, DataRange1d, Row, Spacer
from bokeh.models.annotations import Span
from bokeh.models.ui import UIElement

from pipeline.dashboard.board import Run
from pipeline.dashboard.efficiency import CROWDED, GOOD, without_core
from pipeline.dashboard.live import figures_of
from pipeline.dashboard.look import (
    BLUE,
    GREEN,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    Part,
    card,
    chart,
    count,
    div,
    duration,
    flex,
    hover,
    key,
    large,
    occurred,
    progress,
    refresh,
    table,
    text,
    time_unit,
    value,
    waiting,
)
from pipeline.tables import nbytes

CHARTS = 4  # metrics that are drawn; the others are left to the terminal
SETS = {"validation": BLUE, "train": ORANGE}  # drawn in this order
OTHER_SETS = (PURPLE, SKY, GREEN)
SILENT_SECONDS = 30.0  # without a word, after which the page says so
USUAL = {"train": ("statistics", "blocks", "matrix", "rounds", "evaluate")}  # stages a verb goes through
TIGHT, FULL = 0.8, 0.95  # of a worker's memory: Dask pauses it from the first on, and ends it at the second
SPEED_POINTS = 400
MANY_INCIDENTS = 12  # shown


class Progress:
    """The run in a line, what a person asks first, and how far each stage is."""

    def __init__(self) -> None:
        self.root = div()

    def update(self, run: Run | None, now: float) -> None:
        if run is None:
            self.root.text = waiting()
        else:
            self.root.text = f'{_state(run, now)}{_cards(run, now)}<div class="strip">{"".join(_strip(run))}</div>'


class Curves:
    """A chart for each metric, with a line for each data set; the deciding metric comes first."""

    def __init__(self) -> None:
        self._charts: list[_Curve] = []
        self.root = Row(children=[Spacer(height=0)], sizing_mode="stretch_width", styles={"flex-wrap": "wrap"})

    def update(self, run: Run | None, now: float) -> None:
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
    """Boosting rounds a second, as they went."""

    def __init__(self) -> None:
        self._source = ColumnDataSource({"at": [], "rate": [], "round": []})
        self.figure = chart("rounds per second", "", height=210, y_range=DataRange1d(start=0))
        step = self.figure.step("at", "rate", source=self._source, color=BLUE, line_width=2, mode="before")
        hover(self.figure, [step], [("round", "@round{0,0}"), ("rounds per second", "@rate{0.00}")])
        self._lost = ColumnDataSource({"at": [], "rate": [], "said": []})
        marks = self.figure.scatter("at", "rate", source=self._lost, marker="x", size=12, color=VERMILION, line_width=4)
        hover(self.figure, [marks], "@said")
        self._title = div()
        self.root = column(self._title, self.figure, sizing_mode="stretch_width")

    def update(self, run: Run | None, now: float) -> None:
        seconds, rates, rounds = ([], [], []) if run is None else speed_of(run)
        self.root.visible = bool(rounds)
        if run is None or not rounds:
            return
        unit, size = time_unit(seconds[-1])
        self.figure.xaxis.axis_label = f"{unit} since the start"
        lost = [one for one in run.incidents if one.kind == "WorkerLost"]
        refresh(self._source, {"at": [each / size for each in seconds], "rate": rates, "round": rounds})
        refresh(
            self._lost,
            {
                "at": [(one.time - run.started) / size for one in lost],
                "rate": [0.06 * max((rate for rate in rates if rate > 0), default=1.0)]
                * len(lost),  # above the axis, to be seen
                "said": [one.text for one in lost],
            },
        )
        keys = key(BLUE, "rounds per second", "line") + (key(VERMILION, "a worker was lost") if lost else "")
        self._title.text = f"<h3>Speed</h3><p>{keys}</p>"


class Words:
    """What was asked and planned, what happened, and what the run has to say."""

    def __init__(self) -> None:
        self.root = div()

    def update(self, run: Run | None, now: float) -> None:
        self.root.text = "" if run is None else _words(run)


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

    def update(self, run: Run, name: str) -> None:
        if name != self._name:  # another run
            self._name = name
            for source in self._sources.values():
                source.data = {"round": np.zeros(0), "value": np.zeros(0)}
        lines = lines_of(run, name)
        for data_set, (rounds, values) in lines.items():
            refresh(self._source(data_set), {"round": rounds, "value": values})
        for data_set in self._sources.keys() - lines.keys():
            refresh(self._sources[data_set], {"round": [], "value": []})
        self._best.visible = bool(run.best_round)
        self._best.location = run.best_round
        self._title.text = _curve_title(run, name, list(lines))

    def _source(self, data_set: str) -> ColumnDataSource:
        if data_set not in self._sources:
            made = self._sources[data_set] = ColumnDataSource({"round": [], "value": []})
            colour = colour_of(data_set, [*self._sources])
            line = self._figure.line("round", "value", source=made, color=colour, line_width=2)
            hover(self._figure, [line], [("round", "@round{0,0}"), (data_set or "value", "@value{0,0.[00000]}")])
        return self._sources[data_set]


def metrics_of(run: Run) -> list[str]:
    """Names of the metrics without their data sets, the deciding one first."""
    names = dict.fromkeys(name.rpartition(".")[2] for name in run.metric_names)
    deciding = run.deciding.rpartition(".")[2]
    return sorted(names, key=lambda name: name != deciding)[:CHARTS]


def lines_of(run: Run, metric: str) -> dict[str, tuple[list[int], list[float]]]:
    """Rounds and values by data set; a data set may be measured less often than others."""
    found = {name.rpartition(".")[0]: name for name in run.metric_names if name.rpartition(".")[2] == metric}
    ordered = sorted(found, key=lambda data_set: list(SETS).index(data_set) if data_set in SETS else len(SETS))
    lines: dict[str, tuple[list[int], list[float]]] = {}
    for data_set in ordered:
        name = found[data_set]
        points = [(number, float(point[name])) for number, point in run.curve.items() if name in point]
        lines[data_set] = ([number for number, _ in points], [at for _, at in points])
    return lines


def colour_of(data_set: str, known: Sequence[str]) -> str:
    """A data set's colour; `known`: those that have one, itself among them."""
    others = [name for name in known if name not in SETS]
    return SETS[data_set] if data_set in SETS else OTHER_SETS[others.index(data_set) % len(OTHER_SETS)]


def speed_of(run: Run) -> tuple[list[float], list[float], list[float]]:
    """Seconds since the start, rounds per second and round, a few hundred at most; NaN where the run was interrupted."""
    marks = run.pace[:: max(1, len(run.pace) // SPEED_POINTS)]
    seconds, rates, rounds = [], [], []
    for (begin, first), (end, last) in itertools.pairwise(marks):
        if end > begin:
            seconds.append(end - run.started)
            rates.append((last - first) / (end - begin) if last > first else math.nan)
            rounds.append(float(last))
    return seconds, rates, rounds


def _state(run: Run, now: float) -> str:
    silent = now - run.heard
    match run.state:
        case "finished":
            said = f"finished after {duration((run.ended or run.heard) - run.started)}"
        case "failed":
            said = f'<span class="lost">failed</span> after {duration((run.ended or run.heard) - run.started)}'
        case _ if silent > SILENT_SECONDS:
            said = f'<span class="lost">nothing heard for {duration(silent)}</span>'
        case _:
            said = f"running for {duration(max(0.0, now - run.started))}"
    about = f"<p class=lost>{text(run.message)}</p>" if run.state == "failed" else ""
    if run.path:
        about = f"<p class=sub>model: {text(run.path)}</p>"
    return f"<h2>{text(run.verb or 'run')} {text(run.name)}: {said}</h2>{about}"


def _cards(run: Run, now: float) -> str:
    cards = [_far(run), _long(run, now), _good(run), _busy(run), _safe(run), _died(run)]
    return f'<div class="cards six">{"".join(cards)}</div>'


def _far(run: Run) -> str:
    if run.rounds:
        early = run.rounds_ended and run.round < run.rounds and run.state == "finished"
        about = "stopped early: no better any more" if early else f"{run.round / run.rounds:.0%} of the rounds"
        return card("How far", f"round {run.round:,} of {run.rounds:,}", about, part=run.round / run.rounds)
    if not run.stages:
        return card("How far", "–", "it begins")
    name, stage = list(run.stages.items())[-1]
    if not stage.total:
        return card("How far", text(name), duration(stage.seconds))
    return card(
        "How far", text(name), f"{stage.done:,} of {count(stage.total, 'fragment')}", part=stage.done / stage.total
    )


def _long(run: Run, now: float) -> str:
    label = "How long still"
    if run.state != "running":
        return card("How long it took", duration((run.ended or run.heard) - run.started))
    if run.interrupted:
        left = f"then about {duration(run.eta[1])} of rounds" if run.eta else ""
        return card(label, "interrupted", f"it goes on when the workers are there; {left}".rstrip("; "), "warn")
    if run.rounds_ended:
        return card(label, "a moment", "the rounds are done; evaluating and saving")
    if run.eta is None:
        return card(label, "–", _long_before_rounds(run))
    low, middle, high = (max(0.0, seconds - max(0.0, now - run.round_at)) for seconds in run.eta)
    span = f"between {duration(low)} and {duration(high)}" if duration(low) != duration(high) else ""
    early = "less if it stops early" if any("early" in name for name in run.asked) else ""
    return card(label, f"about {duration(middle)}", "; ".join(filter(None, (span, early))))


def _long_before_rounds(run: Run) -> str:
    """What can be said of the stage that goes on."""
    name, stage = list(run.stages.items())[-1] if run.stages else ("", None)
    if stage is None or stage.ended or name == "rounds" or not 0 < stage.done < stage.total:
        return "known after the first rounds"
    left = stage.seconds * (stage.total - stage.done) / stage.done
    return f"about {duration(left)} of {text(name)}; all of it is known after the first rounds"


def _good(run: Run) -> str:
    if run.metrics and run.state == "finished":
        name = run.deciding if run.deciding in run.metrics else next(iter(run.metrics))
        return card(f"How good: {text(name)}", value(run.metrics[name]), f"exact, of the best round {run.best_round:,}")
    if not run.deciding:
        return card("How good", "–", "nothing is measured yet" if run.state == "running" else "nothing was measured")
    latest = run.measured[run.deciding]
    return card(
        f"How good: {text(run.deciding)}", value(run.best), f"best in round {run.best_round:,}; now {value(latest)}"
    )


def _busy(run: Run) -> str:
    label = "Every worker busy?"
    live = figures_of(run)
    speed = f"{run.rounds_per_second:.3g} rounds/s" if run.rounds_per_second else ""
    rows = f"{large(run.rows_per_second)} rows/s" if run.rows_per_second else ""
    about = ", ".join(filter(None, (speed, rows)))
    if live is None:
        return card(label, "–", about or _later(run))
    if live.PE is None:
        return card(label, count(len(live.workers), "worker"), f"{about}; on GPUs it is not measured")
    if (queued := without_core(live)) >= CROWDED:
        about = f"without a core for {queued:.0%}; {about}"
    elif live.straggler is not None:
        about = f"the others wait for worker {text(live.straggler)}; {about}"
    kind = "good" if live.PE >= GOOD else "warn"
    return card(label, f"{live.PE:.0%} of the time", about, kind if run.state == "running" else "")


def _safe(run: Run) -> str:
    label = "Memory safe?"
    full = [
        ((worker.memory_nbytes if run.state == "running" else worker.peak_memory_nbytes) / worker.place.memory_limit_nbytes, worker)
        for worker in run.training
        if worker.place is not None and worker.place.memory_limit_nbytes and worker.memory_nbytes
    ]  # fmt: skip
    if not full:
        known = max((worker.memory_nbytes for worker in run.training), default=0)
        return card(label, nbytes(known) if known else "–", "no limit is set" if known else _later(run))
    part, worker = max(full, key=lambda one: one[0])
    kind = "bad" if part >= FULL else "warn" if part >= TIGHT else "good"
    assert worker.place is not None
    about = f"worker {text(worker.name)}: {nbytes(part * worker.place.memory_limit_nbytes)} of {nbytes(worker.place.memory_limit_nbytes)}"
    return card(label, f"{part:.0%} at most", about, kind, part)


def _died(run: Run) -> str:
    lost = [one for one in run.incidents if one.kind == "WorkerLost"]
    away = [worker.name for worker in run.workers.values() if worker.away] if run.state == "running" else []
    many = len(run.training) or (run.planned.workers if run.planned else 0)
    here = count(many, "worker") if many else ""
    if not lost:
        return card("Did anything die?", "no", here, "good" if run.training else "")
    again = f"restarted {count(run.restarts, 'time')}" if run.restarts else "not restarted"
    gone = f"; away: {text(', '.join(away[:5]))}" if away else f"; {here} now" if run.state == "running" else ""
    return card("Did anything die?", f"{count(len(lost), 'worker')} lost", again + gone, "bad" if away else "warn")


def _later(run: Run) -> str:
    return "known after the first rounds" if run.state == "running" else "the rounds were not reached"


def _strip(run: Run) -> list[str]:
    known = run.stages
    order = USUAL.get(run.verb or ("train" if run.rounds else ""), ())  # whoever attaches late has not heard the verb
    names = [*known, *(name for name in order if name not in known and run.state == "running")]
    names.sort(key=lambda name: order.index(name) if name in order else -1)
    boxes = []
    for name in names:
        if name not in known:
            past = any(other in known for other in order[order.index(name) :])  # who attaches late has not heard of it
            said, kind = ("done", "done") if past else ("to come", "later")
            boxes.append(f'<div class="stage {kind}"><b>{text(name)}</b>{progress(past)}<small>{said}</small></div>')
            continue
        stage = known[name]
        unit = (
            ""
            if not stage.total
            else f"{stage.done:,}/{stage.total:,} {'rounds' if name == 'rounds' else 'fragments'}, "
        )
        part = stage.done / stage.total if stage.total and not stage.ended else float(stage.ended)
        kind = "done" if stage.ended else "now" if run.state == "running" else ""
        boxes.append(
            f'<div class="stage {kind}"><b>{text(name)}</b>{progress(part)}<small>{unit}{duration(stage.seconds)}</small></div>'
        )
    return boxes


def _curve_title(run: Run, metric: str, data_sets: Sequence[str]) -> str:
    decides = run.deciding.rpartition(".")[2] == metric
    said = text(metric)
    if decides and run.best is not None and math.isfinite(run.best):
        said += f"<span class=sub>: {text(run.deciding)} decides, best {value(run.best)}</span>"
    keys = "".join(key(colour_of(name, data_sets), name or metric, "line") for name in data_sets)
    keys += key(GREEN, f"best round {run.best_round:,}", "tick") if run.best_round else ""
    return f"<h3>{said}</h3><p>{keys}</p>"


def _words(run: Run) -> str:
    facts = [(text(name), text(setting)) for name, setting in run.asked.items()]
    asked = f"<div><h3>Asked</h3>{table(('', ''), facts)}</div>" if facts else ""
    planned = f"<div><h3>Planned</h3>{table(('', ''), _plan(run))}</div>" if run.planned else ""
    happened = occurred(run, MANY_INCIDENTS)
    told = [
        (f"+{duration(moment - run.started)}", text(said)) for moment, said in reversed(run.notes[-MANY_INCIDENTS:])
    ]
    incidents = f"<div><h3>Happened</h3>{table(('', ''), happened, kind='when')}</div>" if happened else ""
    notes = f"<div><h3>Notes</h3>{table(('', ''), told, kind='when')}</div>" if told else ""
    measured = [(text(name), value(number)) for name, number in run.metrics.items()]
    exact = f"<div><h3>Measured at the end, exactly</h3>{table(('', ''), measured, 1)}</div>" if measured else ""
    return f'<div class="two">{incidents}{notes}{exact}{asked}{planned}</div>'


def _plan(run: Run) -> list[tuple[str, str]]:
    plan = run.planned
    assert plan is not None
    facts = [
        ("rows", "not counted yet" if plan.rows is None else f"{plan.rows:,}"),
        ("features", f"{plan.features:,}"),
        ("fragments", f"{plan.fragments:,}"),
        ("workers", f"{plan.workers:,} x {count(plan.threads, 'thread')}"),
        ("memory, all together", f"about {nbytes(plan.nbytes)}"),
    ]
    if run.checkpoint is not None:
        facts.append(("latest checkpoint", f"round {run.checkpoint.round:,}: {text(run.checkpoint.path)}"))
    return [*facts, ("note", text(plan.note))] if plan.note else facts


def parts() -> list[Part]:
    """The page from top to bottom."""
    return [Progress(), Curves(), Speed(), Words()]
