"""The registry of the pages: what is shown where, and how it is put into a Bokeh document.

`PAGES` are whole pages; `INDIVIDUAL` are single drawings of them, which JupyterLab's Dask extension docks beside a
notebook.  Whoever serves them gives the document a template, or none.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from bokeh.document import Document
from bokeh.layouts import column
from bokeh.models import GlobalInlineStyleSheet
from bokeh.models.widgets import Select
from bokeh.plotting import figure

from pipeline.dashboard import efficiency, training, workers
from pipeline.dashboard.board import Board, Run
from pipeline.dashboard.look import FRAME, SELECT, THEME, Part, Shown, clock_time

INTERVAL_MILLISECONDS = 500
NEWEST = ""  # the selector's value that follows whichever run began last

GetBoard = Callable[[], Board]
Clock = Callable[[], float]  # seconds since the epoch


@dataclass(frozen=True)
class Page:
    """One page of the dashboard."""

    name: str  # in a navigation
    title: str
    route: str  # "/training"
    parts: Callable[[], Sequence[Part]]

    def make(self, doc: Document, board: GetBoard, clock: Clock = time.time) -> None:
        """Fills the document, and keeps it up to date as long as its session lasts."""
        window = Window(self.parts(), board, clock)
        window.tick()
        doc.title = self.title
        doc.theme = THEME
        doc.add_root(window.root)
        doc.add_periodic_callback(window.tick, INTERVAL_MILLISECONDS)


class Window:
    """What one browser's window shows: a selector, where there are several runs, and the parts of the page."""

    def __init__(self, parts: Sequence[Part], board: GetBoard, clock: Clock) -> None:
        self._board, self._clock, self._shown = board, clock, Shown(parts)
        self.select = Select(
            title="Run", value=NEWEST, visible=False, sizing_mode="stretch_width",
            max_width=560,
            stylesheets=[SELECT],
        )  # fmt: skip
        self.select.on_change("value", self._chosen)
        self.root = column(
            self.select,
            *(part.root for part in parts),
            sizing_mode="stretch_width",
            stylesheets=[GlobalInlineStyleSheet(css=FRAME)],  # a model of each document
        )

    def tick(self) -> None:
        """Shows what has changed."""
        board = self._board()
        runs = sorted(board.runs.values(), key=lambda run: -run.started)
        options: list[str | tuple[Any, str]] = [
            (NEWEST, "the newest, whichever it is"),
            *((run.name, label(run)) for run in runs),
        ]
        if self.select.options != options:
            self.select.options = options
        if self.select.value not in board.runs:
            self.select.value = NEWEST
        self.select.visible = len(runs) > 1
        self._shown.update(board.runs.get(self.select.value) or board.newest(), self._clock())

    def _chosen(self, attr: str, old: str, new: str) -> None:
        self.tick()


def label(run: Run) -> str:
    """A run in the selector."""
    return f"{run.verb or 'run'} {run.name}, {clock_time(run.started)}, {run.state}"


def _alone(kind: Callable[[], Part]) -> Callable[[], Sequence[Part]]:
    """A part that fills its window."""

    def parts() -> list[Part]:
        part = kind()
        for model in part.root.references():
            if isinstance(model, figure):
                model.min_height = 160
        return [part]

    return parts


PAGES = (
    Page("Training", "Training", "/training", training.parts),
    Page("Efficiency", "Training: efficiency", "/efficiency", efficiency.parts),
    Page("Team", "Training: the team of workers", "/team", workers.parts),
)
INDIVIDUAL = tuple(
    Page(title, title, f"/individual-{route}", _alone(kind))
    for title, route, kind in (
        ("Training Progress", "training-progress", training.Progress),
        ("Training Curves", "training-curves", training.Curves),
        ("Training Speed", "training-speed", training.Speed),
        ("Training Efficiency", "training-efficiency", efficiency.Both),
        ("Training Memory", "training-memory", workers.Memory),
        ("Training Time Line", "training-time-line", workers.TimeLine),
    )
)
