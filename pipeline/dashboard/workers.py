"""/team: what each worker has to do, how far it is, whether its memory is safe, and what became of it.

Dask has a page /workers of its own, and its navigation has room for one short word more.
"""

import math
from collections.abc import Sequence
from typing import Any

from bokeh.layouts import column
from bokeh.models import ColumnDataSource

from pipeline.dashboard.bounds import INCIDENTS
from pipeline.dashboard.drawing import Lanes, div, hover, refresh
from pipeline.dashboard.look import BLUE, GREEN, GREY, ORANGE, PURPLE, VERMILION
from pipeline.dashboard.markup import count, duration, key, later, occurred, plain, table, text, time_unit, waiting
from pipeline.dashboard.run import Run
from pipeline.dashboard.window import Part
from pipeline.dashboard.worker_state import WorkerState
from pipeline.tables import nbytes

BARS = 24  # workers drawn; of more, the fullest
ROWS = 200  # of the table
TIGHT = 0.8  # of a worker's memory: from there on Dask pauses it
EMPTY = ("worker", "memory", "peak", "plan", "limit", "colour", "said")


class Table:
    """A row for each worker."""

    def __init__(self) -> None:
        self.root = div()

    def update(self, run: Run | None, now: float) -> None:
        if run is None:
            self.root.text = waiting()
            return
        title = f"<h2>{text(run.verb or 'run')} {text(run.name)}: {_here(run)}</h2>"
        workers = by_rank(run)
        if not workers:
            self.root.text = f"{title}<p class=sub>What each one has to do is {later(run)}.</p>"
            return
        gpu = any(worker.gpu_memory_nbytes is not None for worker in workers)
        head = ["worker", "state", "lost", "round", "memory", "of limit", "of plan", "peak"]
        head += ["GPU memory", "GPU busy"] if gpu else []
        head += ["rows", "share", "capability", "threads"]
        rows = [_row(worker, run, gpu=gpu) for worker in _noteworthy(workers)]
        more = (
            f"<p class=sub>{ROWS} of {len(workers):,} workers: those that were lost, then the fullest.</p>"
            if len(workers) > ROWS
            else ""
        )
        self.root.text = f"{title}{table(head, rows, len(head) - 2)}{more}"


class Memory:
    """Each worker's memory now and at its peak, beside what was planned and its limit."""

    def __init__(self) -> None:
        self._source = ColumnDataSource({name: [] for name in EMPTY})
        self._lanes = Lanes("gigabytes")
        self.figure = self._lanes.figure
        bars = self.figure.hbar(y="worker", right="memory", height=0.6, color="colour", source=self._source)
        for name, colour in (("peak", GREY), ("plan", PURPLE), ("limit", VERMILION)):
            self.figure.scatter(name, "worker", source=self._source, marker="dash", angle=1.5708, size=22, color=colour,
                                line_width=3)  # fmt: skip
        hover(self.figure, [bars], "@said")
        self._title = div()
        self.root = column(self._title, self.figure, sizing_mode="stretch_width")

    def update(self, run: Run | None, now: float) -> None:
        known = [] if run is None else [worker for worker in by_rank(run) if worker.memory_nbytes]
        drawn = known if len(known) <= BARS else sorted(known, key=_fullness)[-BARS:]
        self.root.visible = bool(drawn)
        if not drawn:
            return
        names = [plain(worker.name) for worker in drawn]
        self._lanes.show(names)
        refresh(self._source, _bars(drawn, names))
        some = f"<span class=sub>: the {len(drawn)} fullest of {len(known):,}</span>" if len(drawn) < len(known) else ""
        keys = key(BLUE, "now") + key(ORANGE, f"now, above {TIGHT:.0%} of the limit") + key(GREY, "peak", "tick")
        keys += key(PURPLE, "planned", "tick") + key(VERMILION, "limit", "tick")
        self._title.text = f"<h3>Memory of the processes{some}</h3><p>{keys}</p>"


class TimeLine:
    """When each worker took part, and when and why one was lost."""

    def __init__(self) -> None:
        self._bars = ColumnDataSource({"worker": [], "left": [], "right": []})
        self._marks = ColumnDataSource({"worker": [], "at": [], "colour": [], "marker": [], "said": []})
        self._lanes = Lanes("seconds since the start")
        self.figure = self._lanes.figure
        self.figure.hbar(y="worker", left="left", right="right", height=0.35, color=BLUE, alpha=0.75, source=self._bars)
        marks = self.figure.scatter("at", "worker", source=self._marks, marker="marker", color="colour", size=13,
                                    line_width=3)  # fmt: skip
        hover(self.figure, [marks], "@said")
        self._title = div()
        self.root = column(self._title, self.figure, sizing_mode="stretch_width")

    def update(self, run: Run | None, now: float) -> None:
        workers = [] if run is None else by_rank(run)
        workers = sorted(workers, key=lambda worker: -worker.lost)[:BARS] if len(workers) > BARS else workers
        self.root.visible = bool(workers)
        if run is None or not workers:
            return
        names = [plain(worker.name) for worker in workers]
        self._lanes.show(names)
        unit, size = time_unit((run.ended or now) - run.started)
        self.figure.xaxis.axis_label = f"{unit} since the start"
        spans = [
            (plain(worker.name), left / size, right / size)
            for worker in workers
            for left, right in presence(run, worker, now)
        ]
        refresh(self._bars, _columns(("worker", "left", "right"), spans))
        marks = [
            (plain(one.worker), (one.time - run.started) / size, VERMILION, "x", f"+{duration(one.time - run.started)}: {one.text}")
            for one in run.incidents
            if one.kind == "WorkerLost" and one.worker in {worker.name for worker in workers}
        ] + [
            (plain(worker.name), (begin - run.started) / size, GREEN, "triangle", f"+{duration(begin - run.started)}: takes part again")
            for worker in workers
            for begin in worker.begins
        ]  # fmt: skip
        refresh(self._marks, _columns(("worker", "at", "colour", "marker", "said"), marks))
        keys = key(BLUE, "takes part") + key(VERMILION, "lost", "✖") + key(GREEN, "takes part again", "▲")
        self._title.text = f"<h3>Who took part when</h3><p>{keys if marks else key(BLUE, 'takes part')}</p>"


class Happened:
    """What interrupted the run, in words."""

    def __init__(self) -> None:
        self.root = div()

    def update(self, run: Run | None, now: float) -> None:
        if run is None:
            self.root.text = ""
            return
        rows = occurred(run, INCIDENTS)
        said = table(("", ""), rows, kind="when") if rows else "<p class=sub>Nothing has gone wrong.</p>"
        self.root.text = f"<h3>Lost and restarted</h3>{said}"


def by_rank(run: Run) -> list[WorkerState]:
    """Those that have a place first, then the others that were heard of."""
    rank = {place.worker: i for i, place in enumerate(run.places)}
    return sorted(run.workers.values(), key=lambda worker: rank.get(worker.name, len(rank)))


def _noteworthy(workers: list[WorkerState]) -> list[WorkerState]:
    """All of them; of very many those that were lost, then the fullest."""
    if len(workers) <= ROWS:
        return workers
    return sorted(workers, key=lambda worker: (worker.away, worker.lost, _fullness(worker)), reverse=True)[:ROWS]


def presence(run: Run, worker: WorkerState, now: float) -> list[tuple[float, float]]:
    """Seconds since the start of the run between which the worker took part."""
    losses = [one.time for one in run.incidents if one.worker == worker.name and one.kind == "WorkerLost"]
    begins = [worker.since, *worker.begins]
    end = min(now, run.ended or now)
    spans = []
    for begin, following in zip(begins, [*begins[1:], math.inf], strict=True):
        lost = [moment for moment in losses if begin <= moment < following]
        spans.append((max(0.0, begin - run.started), max(begin, min(lost, default=end)) - run.started))
    return spans


def _here(run: Run) -> str:
    if not run.training:
        return "workers"
    away = [worker.name for worker in run.workers.values() if worker.away] if run.state == "running" else []
    gone = f', <span class="lost">{count(len(away), "other")} away</span>' if away else ""
    took = "take part" if run.state == "running" else "took part"
    return f"{count(len(run.training), 'worker')} {took if len(run.training) != 1 else took.replace('take ', 'takes ')}{gone}"


def _row(worker: WorkerState, run: Run, *, gpu: bool) -> list[str]:
    place, memory = worker.place, worker.memory_nbytes
    lost = f'<span class="lost">{count(worker.lost, "time")}</span>' if worker.lost else "no"
    cells = [text(worker.name), _state(worker, run), lost, f"{worker.round:,}" if worker.round else "–"]
    cells += [
        nbytes(memory) if memory else "–",
        _part(memory, place.memory_limit_nbytes if place else 0, TIGHT),
        _part(memory, place.planned_nbytes if place else 0),
        nbytes(worker.peak_memory_nbytes) if memory else "–",
    ]
    if gpu:
        cells.append("–" if worker.gpu_memory_nbytes is None else nbytes(worker.gpu_memory_nbytes))
        cells.append("–" if worker.gpu_utilisation is None else f"{worker.gpu_utilisation:.0%}")
    if place is None:
        return [*cells, *["–"] * 4]
    return [*cells, f"{place.rows:,}", f"{place.share:.1%}", f"{place.capability:.1%}", f"{place.threads:,}"]


def _state(worker: WorkerState, run: Run) -> str:
    if worker.away:
        return '<span class="lost">away</span>' if run.state == "running" else '<span class="lost">lost</span>'
    if run.state != "running":
        return "ended"
    if run.places and worker.name not in {place.worker for place in run.places}:
        return "left"
    return "training" if worker.round else "has its rows"


def _part(memory: int, whole: int, alarm: float = math.inf) -> str:
    if not memory or not whole:
        return "–"
    part = memory / whole
    return f'<span class="lost">{part:.0%}</span>' if part >= alarm else f"{part:.0%}"


def _fullness(worker: WorkerState) -> float:
    limit = worker.place.memory_limit_nbytes if worker.place else 0
    return worker.memory_nbytes / (limit or 1e15)


def _bars(workers: Sequence[WorkerState], names: Sequence[str]) -> dict[str, list[Any]]:
    nothing = float("nan")
    limits = [worker.place.memory_limit_nbytes / 1e9 if worker.place else 0.0 for worker in workers]
    plans = [worker.place.planned_nbytes / 1e9 if worker.place else 0.0 for worker in workers]
    now = [worker.memory_nbytes / 1e9 for worker in workers]
    said = [
        f"{worker.name}: {nbytes(worker.memory_nbytes)} now, {nbytes(worker.peak_memory_nbytes)} at its peak"
        for worker in workers
    ]
    return {
        "worker": list(names),
        "memory": now,
        "peak": [worker.peak_memory_nbytes / 1e9 for worker in workers],
        "plan": [plan or nothing for plan in plans],
        "limit": [limit or nothing for limit in limits],
        "colour": [
            ORANGE if limit and part >= TIGHT * limit else BLUE for part, limit in zip(now, limits, strict=True)
        ],
        "said": said,
    }


def _columns(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> dict[str, list[Any]]:
    return {name: [row[i] for row in rows] for i, name in enumerate(names)}


def parts() -> list[Part]:
    """The page from top to bottom."""
    return [Table(), Memory(), TimeLine(), Happened()]
