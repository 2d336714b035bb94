"""Shows progress in the notebook cell that calls a verb.  Imported only in notebooks."""

import contextlib
import functools
import html
import inspect
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from pipeline.cli.progress import deciding_metric, told
from pipeline.events.types import BlocksDone, Event, EventHandler, FragmentDone, MatrixDone, RoundDone, StatisticsDone

INTERVAL_SECONDS = 0.5  # between two redraws
WIDTH = 16  # of a bar, in characters
MOST_LINES = 200  # notes and incidents shown: the latest ones


def for_notebook(value: Any) -> Any:
    """A public name of the package for use in a notebook: verbs that emit progress show it in the cell."""
    shown = callable(value) and "listen" in getattr(value, "__annotations__", {})
    if inspect.isgeneratorfunction(inspect.unwrap(value) if callable(value) else value):  # `prepare`: a context
        shown = False
    return _with_progress(value) if shown else value


def _with_progress[**Arguments, Result](verb: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """The verb with progress shown in the cell, unless the caller passes its own `on_event`."""

    @functools.wraps(verb)
    def call(*arguments: Arguments.args, **options: Arguments.kwargs) -> Result:
        if options.get("listen") is not None:
            return verb(*arguments, **options)
        with _cell_progress() as on_event:
            options["listen"] = on_event
            return verb(*arguments, **options)

    return call


@contextlib.contextmanager
def _cell_progress() -> Iterator[EventHandler]:
    """An event handler that draws a run in the current cell, where the drawing stays."""
    display = sys.modules["IPython"].display.display
    handle = display(bundle(""), raw=True, display_id=True)
    cell = Cell(lambda text: handle.update(bundle(text), raw=True))
    try:
        yield cell
    finally:
        cell.draw()


def bundle(text: str) -> dict[str, str]:
    """The text by MIME type.

    >>> bundle("x < 1")["text/html"]
    '<pre style="white-space: pre-wrap">x &lt; 1</pre>'
    """
    return {"text/plain": text, "text/html": f'<pre style="white-space: pre-wrap">{html.escape(text)}</pre>'}


class Cell:
    """A bar for each pass over the fragments and one for the rounds, with the notes below them."""

    def __init__(self, show: Callable[[str], object], clock: Callable[[], float] = time.monotonic) -> None:
        """`show` gets the whole text each time."""
        self._show = show
        self._clock = clock
        self._lock = threading.Lock()  # events of workers arrive in the client's own thread
        self._bars: dict[str, str] = {}
        self._lines: list[str] = []
        self._drawn = -INTERVAL_SECONDS

    def __call__(self, event: Event) -> None:
        with self._lock:
            match event:
                case FragmentDone(stage=stage, done=done, total=total):
                    self._bars[stage] = _bar(stage, done, total)
                case RoundDone(round=round_, rounds=rounds):
                    self._bars["rounds"] = _bar("rounds", round_, rounds, deciding_metric(event))
                case StatisticsDone() | BlocksDone() | MatrixDone():
                    return  # the bar of the completed stage shows it
                case _:
                    line = told(event)
                    if line is None:
                        return
                    self._lines.append(line)
            if self._clock() - self._drawn < INTERVAL_SECONDS:
                return
            self._drawn = self._clock()
            text = self._text()
        self._show(text)

    def draw(self) -> None:
        """Draws the latest state, regardless of the time of the last drawing."""
        with self._lock:
            text = self._text()
        self._show(text)

    def _text(self) -> str:
        return "\n".join([*self._bars.values(), *self._lines[-MOST_LINES:]])


def _bar(stage: str, done: int, total: int, said: str = "") -> str:
    """The progress bar of a stage.

    >>> _bar("rounds", 5, 20, "validation.auc 0.75")
    'rounds     [####............] 5/20  validation.auc 0.75'
    """
    filled = WIDTH * done // max(1, total)
    return f"{stage:<10} [{'#' * filled}{'.' * (WIDTH - filled)}] {done:,}/{total:,}  {said}".rstrip()
