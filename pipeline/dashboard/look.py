"""How the pages look: colours, text, tables, figures; in light and in dark, at any width.

Text is HTML in a `Div`, every string in it escaped.  The drawing area follows the reader's colour scheme through CSS
variables that Bokeh reads (`--bk-...`).  Colours are those of Okabe and Ito ("Color Universal Design", 2008), which
colour-blind people can tell apart.
"""

import html
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from bokeh.models import ColumnDataSource, DataRange1d, FactorRange, HoverTool, NumeralTickFormatter
from bokeh.models.ui import UIElement
from bokeh.models.widgets import Div
from bokeh.plotting import figure
from bokeh.themes import Theme

from pipeline.dashboard.board import Run

BLUE, SKY, GREEN, ORANGE, VERMILION, PURPLE, GREY = (
    "#0072B2", "#56B4E9", "#009E73", "#E69F00", "#D55E00", "#CC79A7", "#8A919C",
)  # fmt: skip

# Inside Dask's pages: they are light only, so their frame is told the dark colours too.  Their navigation floats above
# the page and would hide its top where there are more links than one line has room for.
FRAME = """
:root { color-scheme: light dark; --ink: #1c2430; --muted: #5b6472; --rule: #d9dde3; --card: #ffffff; --ground: #fafafa;
  --bk-major-label-text-color: #5b6472; --bk-axis-label-text-color: #5b6472; --bk-axis-line-color: #b4bac4;
  --bk-major-tick-line-color: #b4bac4; --bk-grid-line-color: #e4e7ec; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ee; --muted: #a3acb9; --rule: #3a414c; --card: #1e232b; --ground: #14181e;
    --bk-major-label-text-color: #a3acb9; --bk-axis-label-text-color: #a3acb9; --bk-axis-line-color: #56606e;
    --bk-major-tick-line-color: #56606e; --bk-grid-line-color: #2b323c; }
  html, body { background: var(--ground) !important; color: var(--ink); }
  .navbar ul, .dropdown-content { background-color: #262c35 !important; }
  .navbar li a { color: #e6e9ee !important; }
  .navbar li.active { background-color: #7a5427 !important; }
}
html, body { background: var(--ground); overflow-x: clip; }
body:has(.navbar) { padding-top: 0; } .navbar { position: sticky; margin: 0 -10px 6px; }
"""
TEXT = """
:host { color: var(--ink, #1c2430); font: 14px/1.45 Helvetica, Arial, sans-serif; }
.bk-clearfix { width: 100%; }
* { box-sizing: border-box; }
h2 { font-size: 17px; margin: 2px 0 2px; overflow-wrap: anywhere; } h3 { font-size: 14px; margin: 12px 0 4px; overflow-wrap: anywhere; }
p { margin: 2px 0 6px; overflow-wrap: anywhere; } .sub { color: var(--muted); }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(168px, 1fr)); gap: 8px; margin: 8px 0; }
.card { background: var(--card); border: 1px solid var(--rule); border-radius: 6px; padding: 8px 12px; min-width: 0; }
.card span { color: var(--muted); font-size: 12.5px; display: block; }
.card b { font-size: 21px; line-height: 1.25; font-weight: 600; display: block; font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
.card small { color: var(--muted); font-size: 12.5px; line-height: 1.35; display: block; overflow-wrap: anywhere; }
.card.bad { box-shadow: inset 4px 0 0 #D55E00; } .card.warn { box-shadow: inset 4px 0 0 #E69F00; } .card.good { box-shadow: inset 4px 0 0 #009E73; }
.bar { height: 6px; border-radius: 3px; background: var(--rule); margin: 5px 0 3px; overflow: hidden; }
.bar i { display: block; height: 100%; background: #0072B2; }
.strip { display: flex; flex-wrap: wrap; gap: 6px; margin: 4px 0 8px; }
.stage { flex: 1 1 120px; min-width: 0; border: 1px solid var(--rule); border-radius: 6px; background: var(--card); padding: 5px 9px 4px; }
.stage b { display: block; font-size: 13px; } .stage small { color: var(--muted); font-size: 12px; font-variant-numeric: tabular-nums; display: block; }
.stage.now { border-color: #0072B2; box-shadow: inset 0 2px 0 #0072B2; } .stage.later { opacity: .6; }
.stage.done .bar i { background: #009E73; }
.scroll { overflow-x: auto; max-width: 100%; max-height: 460px; overflow-y: auto; }
table { border-collapse: collapse; font-size: 13px; width: 100%; }
th { text-align: left; font-weight: 600; color: var(--muted); white-space: nowrap; }
th, td { padding: 3px 12px 3px 0; border-bottom: 1px solid var(--rule); vertical-align: top; }
td { overflow-wrap: break-word; } .n { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
.two { padding-top: 12px; } .two h3 { margin-top: 0; }
.two { columns: 380px; column-gap: 28px; } .two > div { break-inside: avoid; padding-bottom: 8px; }
.when td:first-child { white-space: nowrap; width: 1%; }
.key { display: inline-flex; align-items: center; vertical-align: middle; height: 16px; gap: 5px; margin-right: 14px; white-space: nowrap; font-size: 13px; }
.key i { width: 12px; height: 12px; border-radius: 2px; display: inline-block; } .key i.line { height: 3px; } .key i.tick { width: 3px; height: 14px; }
.lost { color: #D55E00; font-weight: 600; }
.cards.six { grid-template-columns: repeat(6, minmax(0, 1fr)); }
@media (max-width: 1150px) { .cards.six { grid-template-columns: repeat(3, minmax(0, 1fr)); } }
@media (max-width: 480px) { .cards.six { grid-template-columns: repeat(2, minmax(0, 1fr)); } }
@media (max-width: 700px) { .when td:first-child { padding-right: 8px; } .card b { font-size: 18px; } .cards:not(.six) { grid-template-columns: repeat(auto-fit, minmax(140px, 1fr)); } }
"""
SHARE = 0.02  # of a core, for drawing one window
SELECT = """
:host { color: var(--ink); } .bk-input { background-color: var(--card); color: var(--ink); border-color: var(--rule); }
"""
THEME = Theme(
    json={
        "attrs": {
            "Plot": {"background_fill_color": None, "border_fill_color": None, "outline_line_color": None},
            "Toolbar": {"logo": None, "autohide": True},
            "Axis": {
                "axis_label_text_font_style": "normal", "axis_label_text_font_size": "12px",
                "major_label_text_font_size": "12px", "minor_tick_line_color": None,
            },
        }
    }
)  # fmt: skip


class Part(Protocol):
    """One piece of a page."""

    @property
    def root(self) -> UIElement:
        """What goes into the document."""

    def update(self, run: Run | None, now: float) -> None:
        """Shows the run as it is at `now`, seconds since the epoch; only what has changed is sent."""


def text(value: object) -> str:
    """The value as text of HTML: escaped."""
    return html.escape(str(value), quote=True)


def plain(value: str) -> str:
    """A string for a drawing, where Bokeh would take $$ for the sign of mathematics."""
    return value.replace("$$", "$ $").replace("\\", "/")


def div(**properties: Any) -> Div:
    """An empty block of HTML, as wide as the page."""
    return Div(text="", sizing_mode="stretch_width", disable_math=True, stylesheets=[TEXT], **properties)


def chart(label: str, below: str, *, height: int = 250, **properties: Any) -> figure:
    """An empty figure with labels at its axes."""
    made = figure(
        height=height, sizing_mode="stretch_width", tools="pan,xwheel_zoom,box_zoom,reset,save", active_scroll=None,
        x_axis_label=below, y_axis_label=label, min_border_right=18, **properties,
    )  # fmt: skip
    made.toolbar.autohide = True
    if not isinstance(properties.get("y_range"), FactorRange):
        made.xaxis.formatter = NumeralTickFormatter(format="0,0.[00]")
        made.yaxis.formatter = NumeralTickFormatter(format="0,0.[0000]")
    return made


class Lanes:
    """A figure with a lane for each of some names, one above the other."""

    def __init__(self, below: str) -> None:
        self._names = FactorRange()
        self.figure = chart("", below, height=130, y_range=self._names, x_range=DataRange1d(start=0))
        self.figure.ygrid.visible = False

    def show(self, names: Sequence[str]) -> None:
        """Has a lane for each of these, from the top."""
        upwards = list(reversed(names))
        if list(self._names.factors) != upwards:
            self._names.factors = upwards
            self.figure.height = 80 + 26 * max(2, len(names))


def hover(drawn: figure, renderers: Sequence[Any], tips: str | Sequence[tuple[str, str]]) -> None:
    """Says values under the pointer; Bokeh escapes what it fills in."""
    drawn.add_tools(HoverTool(renderers=list(renderers), tooltips=tips if isinstance(tips, str) else list(tips)))


def refresh(source: ColumnDataSource, columns: Mapping[str, Sequence[Any]]) -> None:
    """Gives the source its columns, of equal lengths: nothing is sent where nothing changed, only the new end where it grew."""
    new = {name: _array(values) for name, values in columns.items()}
    old = {name: np.asarray(values) for name, values in source.data.items()}
    if old.keys() == new.keys():
        length, longer = len(next(iter(old.values()), ())), len(next(iter(new.values()), ()))
        if 0 < length <= longer and all(_same(old[name], new[name][:length]) for name in new):
            if longer > length:
                source.stream({name: values[length:] for name, values in new.items()})
            return
        if not length and not longer:
            return
    source.data = new


def occurred(run: Run, limit: int) -> list[tuple[str, str]]:
    """The last incidents, newest first, with the time since the start of the run."""
    return [(f"+{duration(one.time - run.started)}", text(one.text)) for one in reversed(run.incidents[-limit:])]


def card(label: str, value: str, about: str = "", kind: str = "", part: float | None = None) -> str:
    """A figure with its name, a line about it, and how much of it is done; all three are HTML."""
    bar = "" if part is None else progress(part)
    return f'<div class="card {kind}"><span>{label}</span><b>{value}</b>{bar}<small>{about}</small></div>'


def progress(part: float) -> str:
    """A bar that is filled by this part of 1."""
    return f'<div class="bar"><i style="width:{100 * min(1.0, max(0.0, part)):.1f}%"></i></div>'


def table(head: Sequence[str], rows: Iterable[Sequence[str]], numbers: int = 0, kind: str = "") -> str:
    """A table of HTML cells; the last `numbers` columns are numbers; `kind` "when": the first column is a time."""
    first = len(head) - numbers

    def line(cells: Sequence[str], tag: str) -> str:
        return "".join(
            f'<{tag}{" class=n" if i >= first else ""}>{cell}</{tag}>' for i, cell in enumerate(cells)
        )  # fmt: skip

    above = f"<thead><tr>{line(head, 'th')}</tr></thead>" if any(head) else ""
    body = "".join(f"<tr>{line(row, 'td')}</tr>" for row in rows)
    return f'<div class="scroll {kind}"><table>{above}<tbody>{body}</tbody></table></div>'


def key(colour: str, label: str, shape: str = "") -> str:
    """An entry of a legend."""
    return f'<span class="key"><i class="{shape}" style="background:{colour}"></i>{text(label)}</span>'


def duration(seconds: float) -> str:
    """
    >>> duration(0.25), duration(7.4), duration(133), duration(8000)
    ('0.2 s', '7 s', '2 min 13 s', '2 h 13 min')
    """
    if seconds < 1:
        return f"{seconds:.1f} s" if seconds > 0 else "0 s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def clock_time(moment: float) -> str:
    """The time of day here, to the second."""
    return time.strftime("%H:%M:%S", time.localtime(moment))


def flex() -> dict[str, str]:
    """How wide a chart is beside others: they stand in one column where there is no room."""
    return {"flex": "1 1 420px", "min-width": "min(100%, 320px)"}


def waiting() -> str:
    """What a page says before the first run."""
    return "<h2>No training yet</h2><p class=sub>This page fills as soon as one begins on this cluster.</p>"


def count(many: int, what: str) -> str:
    """
    >>> count(1, "worker"), count(1_200, "row")
    ('1 worker', '1,200 rows')
    """
    return f"{many:,} {what}{'' if many == 1 else 's'}"


def large(number: float) -> str:
    """
    >>> large(820), large(24_330_000), large(2e9)
    ('820', '24.3 million', '2 billion')
    """
    for size, name in ((1e9, "billion"), (1e6, "million")):
        if number >= size:
            return f"{number / size:,.3g} {name}"
    return f"{number:,.0f}"


def time_unit(seconds: float) -> tuple[str, float]:
    """What to count so much time in, and its seconds.

    >>> time_unit(90), time_unit(3000), time_unit(30_000)
    (('seconds', 1.0), ('minutes', 60.0), ('hours', 3600.0))
    """
    if seconds < 180:
        return "seconds", 1.0
    return ("minutes", 60.0) if seconds < 10_800 else ("hours", 3_600.0)


def value(number: float | None) -> str:
    """
    >>> value(0.905713), value(None), value(12345.6)
    ('0.90571', '–', '12,346')
    """
    if number is None or not math.isfinite(number):
        return "–" if number is None else str(number)
    return f"{number:,.0f}" if abs(number) >= 1_000 else f"{number:.5g}"


class Shown:
    """The parts of one page in one browser's window.

    They are drawn again when the run has changed or a second of it has passed; where that takes long, with very many
    workers, less often: a window is to cost the scheduler at most `SHARE` of a core.
    """

    def __init__(self, parts: Sequence[Part], clock: Callable[[], float] = time.perf_counter) -> None:
        self._parts, self._clock = parts, clock
        self._drawn: tuple[object, ...] = ()
        self._next = -math.inf

    def update(self, run: Run | None, now: float) -> None:
        """Draws the run as it is at `now`, seconds since the epoch, if it is time to."""
        name = None if run is None else run.name
        state = (name,) if run is None else (name, run.changes, int(now) if run.state == "running" else 0)
        begin = self._clock()
        if state == self._drawn or (self._drawn[:1] == (name,) and begin < self._next):
            return
        for part in self._parts:
            part.update(run, now)
        if self._drawn[:1] == (name,):  # the first time is not what it takes from now on
            self._next = begin + (self._clock() - begin) / SHARE
        self._drawn = state


def _array(values: Sequence[Any]) -> Any:
    array = np.asarray(values)
    return (
        array.astype("float64")
        if array.dtype.kind in "iub"
        else array
        if array.dtype.kind == "f"
        else np.array(values, dtype=object)
    )


def _same(old: Any, new: Any) -> bool:
    if old.dtype.kind == "f" and new.dtype.kind == "f":
        return bool(np.array_equal(old, new, equal_nan=True))
    return list(old) == list(new)
