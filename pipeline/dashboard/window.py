"""Shows the runs in one browser window: the parts of a page, redrawn when the run has changed."""

import math
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from bokeh.layouts import column
from bokeh.models import Column, GlobalInlineStyleSheet, Row
from bokeh.models.ui import UIElement
from bokeh.models.widgets import Select
from bokeh.plotting import figure

from pipeline.dashboard.connection import tell_state
from pipeline.dashboard.drawing import div, put
from pipeline.dashboard.markup import clock_time, known_by, later, unknown, waiting
from pipeline.dashboard.theme import FRAME, SELECT
from pipeline.monitoring.state.run_state import RunState
from pipeline.monitoring.state.run_store import RunStore

NEWEST = ""  # the selector's value that follows the newest run
SHARE = 0.02  # of a core, for drawing one window

GetRunStore = Callable[[], RunStore]
Clock = Callable[[], float]  # seconds since the epoch


class Component(Protocol):
    """One piece of a page."""

    @property
    def root(self) -> UIElement:
        """The model to put into the document."""

    def update(self, run: RunState | None, now: float) -> None:
        """Shows the run's state at `now`, seconds since the epoch; only changes are sent."""


class RedrawThrottle:
    """The parts of one page in one browser window.

    They are redrawn when the run has changed or a second of it has passed; less often where that is slow, with very
    many
    workers: a window may cost the scheduler at most `SHARE` of a core.  The end of a run is drawn at
    once, because its scheduler may end with it.
    """

    def __init__(self, parts: Sequence[Component], clock: Callable[[], float] = time.perf_counter) -> None:
        self._parts, self._clock = parts, clock
        self._drawn: tuple[object, ...] = ()
        self._next = -math.inf

    def update(self, run: RunState | None, now: float) -> None:
        """Draws the run's state at `now`, seconds since the epoch, if a redraw is due."""
        which: tuple[object, ...] = (None,) if run is None else (run.name, run.state)
        state = which if run is None else (*which, run.changes, int(now) if run.state == "running" else 0)
        begin = self._clock()
        same = self._drawn[: len(which)] == which
        if state == self._drawn or (same and begin < self._next):
            return
        for part in self._parts:
            part.update(run, now)
        if same:  # the duration of the first drawing is not typical
            self._next = begin + (self._clock() - begin) / SHARE
        self._drawn = state


class SinglePlot:
    """A part that fills its window, or a text why it is empty."""

    def __init__(self, part: Component) -> None:
        self._part = part
        self._why = div()
        self.root = column(self._why, part.root, sizing_mode="stretch_both")

    def update(self, run: RunState | None, now: float) -> None:
        self._part.update(run, now)
        self._why.visible = not self._part.root.visible
        self._why.text = waiting() if run is None else f"<p class=sub>Nothing to draw: it is {later(run)}.</p>"
        for model in self._part.root.references():  # some models are created when needed
            if isinstance(model, (figure, Column, Row)):
                model.sizing_mode = "stretch_both"


class RunSelector:
    """The contents of one browser window: a selector, if there are several runs, and the parts of the page.

    A requested run that is unknown is waited for: the newest run could be mistaken for it.
    """

    def __init__(
        self, parts: Sequence[Component], board: GetRunStore, clock: Clock, *, asked: str = NEWEST, fill: bool = False
    ) -> None:
        """`asked`: the id of the run to start with."""
        self._board, self._clock, self._shown, self._asked = board, clock, RedrawThrottle(parts), asked
        self._parts, self._unknown = [part.root for part in parts], div()
        self._unknown.text = unknown(asked)
        self.select = Select(
            title="Run", value=asked, visible=False, sizing_mode="stretch_width",
            max_width=560,
            stylesheets=[SELECT],
        )  # fmt: skip
        self.select.on_change("value", self._chosen)
        self.root = column(
            self.select,
            *self._parts,
            sizing_mode="stretch_both" if fill else "stretch_width",
            stylesheets=[GlobalInlineStyleSheet(css=FRAME)],  # one model for each document
        )

    def tick(self) -> None:
        """Shows the changes."""
        store = self._board()
        runs = sorted(store.runs.values(), key=lambda run: -run.started)
        options: list[str | tuple[Any, str]] = [
            (NEWEST, "the newest, whichever it is"),
            *((run.name, _label(run)) for run in runs),
        ]
        if self._asked not in (NEWEST, *store.runs):
            options.append((self._asked, f"{self._asked}, not known here"))
        if self.select.options != options:
            self.select.options = options
        if self.select.value not in (self._asked, *store.runs):
            self.select.value = NEWEST
        waits = self.select.value not in (NEWEST, *store.runs)
        self.select.visible = len(runs) > 1 or waits
        put(self.root, self.select, *([self._unknown] if waits else self._parts))
        if waits:
            run = None
        else:
            run = store.runs.get(self.select.value) or store.newest()
            self._shown.update(run, self._clock())
        tell_state(self.root, run)

    def _chosen(self, attr: str, old: str, new: str) -> None:
        self.tick()


def _label(run: RunState) -> str:
    """A run's entry in the selector."""
    known = known_by(run)
    name, last = (known, f", {run.name}") if known else (run.name, "")
    return f"{run.verb or 'run'} {name}, {clock_time(run.started)}, {run.state}{last}"
