"""Registers the pages: their titles, routes and parts, and how they are put into a Bokeh document.

`PAGES` are whole pages; `INDIVIDUAL` are single plots of them, which JupyterLab's Dask extension docks next to a
notebook.  The server gives the document a template, or none.
"""

import functools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bokeh.document import Document

from pipeline.dashboard import connection
from pipeline.dashboard.pages import curves, efficiency, training, workers
from pipeline.dashboard.theme import THEME
from pipeline.dashboard.window import NEWEST, Clock, Component, GetRunStore, RunSelector, SinglePlot
from pipeline.monitoring.state.bounds import short

INTERVAL_MILLISECONDS = 500


@dataclass(frozen=True)
class Page:
    """One page of the dashboard."""

    name: str  # in a navigation bar
    title: str
    route: str  # "/training"
    parts: Callable[[], Sequence[Component]]
    fill: bool = False  # whether it fills the window

    def make(self, doc: Document, board: GetRunStore, clock: Clock = time.time) -> None:
        """Fills the document, and updates it as long as its session lasts."""
        window = RunSelector(self.parts(), board, clock, asked=_asked(doc), fill=self.fill)
        window.tick()
        doc.title = self.title
        doc.theme = THEME
        connection.watch_over(doc, window.root)
        doc.add_root(window.root)
        doc.add_periodic_callback(window.tick, INTERVAL_MILLISECONDS)


def _asked(doc: Document) -> str:
    """The run in the page's address: /training?run=5a844a224206."""
    request = getattr(doc.session_context, "request", None)  # missing where the document has no session
    given: list[bytes] = request.arguments.get("run", []) if request else []
    return short(given[-1].decode(errors="replace").strip()) if given else NEWEST


def _alone(kind: Callable[[], Component]) -> Sequence[Component]:
    return [SinglePlot(kind())]


PAGES = (
    Page("Training", "Training", "/training", training.parts),
    Page("Efficiency", "Training: efficiency", "/efficiency", efficiency.parts),
    Page("Team", "Training: workers", "/team", workers.parts),
)
INDIVIDUAL = tuple(
    Page(title, title, f"/individual-{route}", functools.partial(_alone, kind), fill=True)
    for title, route, kind in (
        ("Training Progress", "training-progress", training.Progress),
        ("Training Curves", "training-curves", curves.CurvePlots),
        ("Training Speed", "training-speed", curves.Speed),
        ("Training Efficiency", "training-efficiency", efficiency.EfficiencyPanel),
        ("Training Memory", "training-memory", workers.Memory),
        ("Training Time Line", "training-time-line", workers.TimeLine),
    )
)
