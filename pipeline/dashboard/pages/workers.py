"""Shows /team: each worker's load, progress, memory and losses.

Dask has its own page /workers, and its navigation bar has room for one more short word.
"""

import math
from collections.abc import Sequence, Set
from typing import Any

from bokeh.layouts import column
from bokeh.models import ColumnDataSource

from pipeline.dashboard.drawing import Lanes, div, hover, put, refresh
from pipeline.dashboard.markup import (
    count,
    key,
    later,
    occurred,
    plain,
    table,
    text,
    time_unit,
    title,
    waiting,
)
from pipeline.dashboard.theme import BLUE, GREEN, GREY, ORANGE, PURPLE, VERMILION
from pipeline.dashboard.window import Component
from pipeline.formatting import duration, nbytes
from pipeline.monitoring.state.bounds import INCIDENTS
from pipeline.monitoring.state.naming import natural
from pipeline.monitoring.state.run_state import RunState
from pipeline.monitoring.state.worker_state import TIGHT, WorkerState

BARS = 24  # workers drawn; of more workers the fullest
ROWS = 200  # of the table
FAR = 2.0  # times the used or planned memory, from which a limit is not drawn
WIDE = ("lost", "of plan", "peak", "capability", "threads", "GPU busy")  # columns that are hidden in narrow windows
EMPTY = ("worker", "memory", "peak", "plan", "limit", "colour", "said")


class WorkerTable:
    """A row for each worker."""

    def __init__(self) -> None:
        self.root = div()

    def update(self, run: RunState | None, now: float) -> None:
        if run is None:
            self.root.text = waiting()
            return
        above = f"<h2>{title(run)}: {_here(run)}</h2>"
        workers = _by_name(run)
        if not workers:
            self.root.text = f"{above}<p class=sub>The work of each worker is {later(run)}.</p>"
            return
        gpu = any(worker.gpu_memory_nbytes is not None for worker in workers)
        head = ["worker", "state", "lost", "round", "memory", "of limit", "of plan", "peak"]
        head += ["GPU memory", "GPU busy"] if gpu else []
        head += ["rows", "share", "capability", "threads"]
        here = _taking_part(run)
        rows = [_row(worker, run, gpu=gpu, here=worker.name in here) for worker in _noteworthy(workers)]
        more = (
            f"<p class=sub>{ROWS} of {len(workers):,} workers: those that were lost, then the fullest.</p>"
            if len(workers) > ROWS
            else ""
        )
        self.root.text = f"{above}{table(head, rows, len(head) - 2, wide=WIDE)}{more}"


class Memory:
    """Each worker's current and peak memory, next to the plan and its limit."""

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
        self.root = column(self._title, sizing_mode="stretch_width")

    def update(self, run: RunState | None, now: float) -> None:
        known = [] if run is None else [worker for worker in _by_name(run) if worker.memory_nbytes]
        drawn = known if len(known) <= BARS else sorted(known, key=_fullness)[-BARS:]
        self.root.visible = bool(drawn)
        if run is None or not drawn:
            return
        names = [plain(worker.name) for worker in drawn]
        self._lanes.show(names)
        columns, beyond = _bars(drawn, names, _taking_part(run))
        refresh(self._source, columns)
        put(self.root, self._title, self.figure)
        some = f"<span class=sub>: the {len(drawn)} fullest of {len(known):,}</span>" if len(drawn) < len(known) else ""
        keys = key(BLUE, "now") + key(ORANGE, f"now, above {TIGHT:.0%} of the limit") + key(GREY, "peak", "tick")
        keys += key(PURPLE, "planned", "tick") + ("" if beyond else key(VERMILION, "limit", "tick"))
        keys += f"<span class=sub>{beyond}</span>"
        self._title.text = f"<h3>Memory of the processes{some}</h3><p>{keys}</p>"


class TimeLine:
    """The time line of each worker's presence, with its losses and their causes."""

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
        self.root = column(self._title, sizing_mode="stretch_width")

    def update(self, run: RunState | None, now: float) -> None:
        workers = [] if run is None else _by_name(run)
        workers = sorted(workers, key=lambda worker: -worker.lost)[:BARS] if len(workers) > BARS else workers
        self.root.visible = bool(workers)
        if run is None or not workers:
            return
        names = [plain(worker.name) for worker in workers]
        self._lanes.show(names)
        put(self.root, self._title, self.figure)
        unit, size = time_unit((run.ended or now) - run.started)
        self.figure.xaxis.axis_label = f"{unit} since the start"
        spans = [
            (plain(worker.name), left / size, right / size)
            for worker in workers
            for left, right in _presence(run, worker, now)
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
        self._title.text = f"<h3>Presence of the workers</h3><p>{keys if marks else key(BLUE, 'takes part')}</p>"


class IncidentTable:
    """The incidents that interrupted the run, as text."""

    def __init__(self) -> None:
        self.root = div()

    def update(self, run: RunState | None, now: float) -> None:
        if run is None:
            self.root.text = ""
            return
        rows = occurred(run, INCIDENTS)
        said = table(("", ""), rows, kind="when") if rows else "<p class=sub>No incidents.</p>"
        self.root.text = f"<h3>Incidents</h3>{said}"


def _by_name(run: RunState) -> list[WorkerState]:
    """All known workers, in an order that does not change when workers come and go."""
    return sorted(run.workers.values(), key=lambda worker: natural(worker.name))


def _taking_part(run: RunState) -> set[str]:
    """Names of the workers that take part now, or did at the end: figures of the others are in the past."""
    return {worker.name for worker in run.training}


def _noteworthy(workers: list[WorkerState]) -> list[WorkerState]:
    """All workers; of very many those that were lost, then the fullest."""
    if len(workers) <= ROWS:
        return workers
    return sorted(workers, key=lambda worker: (worker.away, worker.lost, _fullness(worker)), reverse=True)[:ROWS]


def _presence(run: RunState, worker: WorkerState, now: float) -> list[tuple[float, float]]:
    """Seconds since the start of the run between which the worker took part."""
    losses = [one.time for one in run.incidents if one.worker == worker.name and one.kind == "WorkerLost"]
    begins = [worker.since, *worker.begins]
    end = min(now, run.ended or now)
    spans = []
    for begin, following in zip(begins, [*begins[1:], math.inf], strict=True):
        lost = [moment for moment in losses if begin <= moment < following]
        spans.append((max(0.0, begin - run.started), max(begin, min(lost, default=end)) - run.started))
    return spans


def _here(run: RunState) -> str:
    if not run.training:
        return "workers"
    gone = f', <span class="lost">{count(len(run.missing), "other")} away</span>' if run.missing else ""
    took = "take part" if run.state == "running" else "took part"
    return f"{count(len(run.training), 'worker')} {took if len(run.training) != 1 else took.replace('take ', 'takes ')}{gone}"


def _row(worker: WorkerState, run: RunState, *, gpu: bool, here: bool) -> list[str]:
    place, memory = (worker.place, worker.memory_nbytes) if here else (None, 0)
    lost = f'<span class="lost">{count(worker.lost, "time")}</span>' if worker.lost else "no"
    cells = [text(worker.name), _state(worker, run), lost, f"{worker.round:,}" if worker.round else "–"]
    cells += [
        nbytes(memory) if memory else "–",
        _part(memory, place.memory_limit_nbytes if place else 0, TIGHT),
        _part(memory, place.planned_nbytes if place else 0),
        nbytes(worker.peak_memory_nbytes) if worker.peak_memory_nbytes else "–",
    ]
    if gpu:
        cells.append("–" if worker.gpu_memory_nbytes is None or not here else nbytes(worker.gpu_memory_nbytes))
        cells.append("–" if worker.gpu_utilisation is None or not here else f"{worker.gpu_utilisation:.0%}")
    if place is None:
        return [*cells, *["–"] * 4]
    return [*cells, f"{place.rows:,}", f"{place.share:.1%}", f"{place.capability:.1%}", f"{place.threads:,}"]


def _state(worker: WorkerState, run: RunState) -> str:
    placed = worker.name in {place.worker for place in run.places}
    if worker.away:  # it may come back, unless another worker has its place
        still = run.state == "running" and (placed or worker.missing)
        return f'<span class="lost">{"away" if still else "lost"}</span>'
    if run.state != "running":
        return "ended"
    if run.places and not placed:
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


def _bars(workers: Sequence[WorkerState], names: Sequence[str], here: Set[str]) -> tuple[dict[str, list[Any]], str]:
    """The drawn bars, in gigabytes; and, as text, the limits too large to be drawn."""
    limits = [worker.place.memory_limit_nbytes if worker.place else 0 for worker in workers]
    plans = [worker.place.planned_nbytes if worker.place else 0 for worker in workers]
    now = [worker.memory_nbytes if worker.name in here else 0 for worker in workers]
    peaks = [worker.peak_memory_nbytes for worker in workers]
    far = min(filter(None, limits), default=0) > FAR * max(*peaks, *plans)
    beyond = ""
    if far:
        low, high = nbytes(min(filter(None, limits))), nbytes(max(limits))
        beyond = f"The limit is beyond the axis: {low if low == high else f'{low} to {high}'} for each."
    said = [
        f"{worker.name}: {f'{nbytes(taken)} now' if taken else 'away'}, {nbytes(worker.peak_memory_nbytes)} at its peak"
        for worker, taken in zip(workers, now, strict=True)
    ]
    tight = [limit and taken >= TIGHT * limit for taken, limit in zip(now, limits, strict=True)]
    columns: dict[str, list[Any]] = {
        "worker": list(names),
        "memory": _gigabytes(now),
        "peak": _gigabytes(peaks),
        "plan": _gigabytes(plans),
        "limit": _gigabytes([0] * len(limits) if far else limits),
        "colour": [ORANGE if one else BLUE for one in tight],
        "said": said,
    }
    return columns, beyond


def _gigabytes(sizes: Sequence[int]) -> list[float]:
    """Sizes in gigabytes; NaN, which is not drawn, for unknown ones."""
    return [size / 1e9 if size else math.nan for size in sizes]


def _columns(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> dict[str, list[Any]]:
    return {name: [row[i] for row in rows] for i, name in enumerate(names)}


def parts() -> list[Component]:
    """The page from top to bottom."""
    return [WorkerTable(), Memory(), TimeLine(), IncidentTable()]
