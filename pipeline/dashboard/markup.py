"""Renders the text of the pages: HTML, with every user string escaped."""

import html
import math
import time
from collections.abc import Collection, Iterable, Sequence

from pipeline.formatting import duration, for_terminal
from pipeline.monitoring.state.run_state import RunState

LOUD = {"WorkerLost": "lost", "Failed": "lost", "Note": "alarm"}  # coloured incidents, and their colours


def text(value: object) -> str:
    """The value as escaped HTML text."""
    return html.escape(for_terminal(str(value)), quote=True)


def plain(value: str) -> str:
    """A string for a plot, where Bokeh would interpret $$ as mathematics."""
    return value.replace("$$", "$ $").replace("\\", "/")


def card(label: str, value: str, about: str = "", kind: str = "", part: float | None = None) -> str:
    """A figure with its name, a line about it, and its progress; all three are HTML."""
    bar = "" if part is None else progress(part)
    return f'<div class="card {kind}"><span>{label}</span><b>{value}</b>{bar}<small>{about}</small></div>'


def progress(part: float) -> str:
    """A bar filled to this fraction (0 to 1)."""
    return f'<div class="bar"><i style="width:{100 * min(1.0, max(0.0, part)):.1f}%"></i></div>'


def table(
    head: Sequence[str], rows: Iterable[Sequence[str]], numbers: int = 0, kind: str = "", wide: Collection[str] = ()
) -> str:
    """A table of HTML cells; the last `numbers` columns are numbers, and the columns in `wide` are hidden in narrow
    windows.

    `kind` "when": the first column is a time; "facts": it is the name of the second.
    """
    first = len(head) - numbers
    classes = [f"{'n ' * (i >= first)}{'wide' * (name in wide)}".strip() for i, name in enumerate(head)]

    def line(cells: Sequence[str], tag: str) -> str:
        return "".join(
            f'<{tag} class="{one}">{cell}</{tag}>' if one else f"<{tag}>{cell}</{tag}>"
            for cell, one in zip(cells, classes, strict=True)
        )

    above = f"<thead><tr>{line(head, 'th')}</tr></thead>" if any(head) else ""
    body = "".join(f"<tr>{line(row, 'td')}</tr>" for row in rows)
    return f'<div class="scroll {kind}"><table>{above}<tbody>{body}</tbody></table></div>'


def key(colour: str, label: str, shape: str = "") -> str:
    """An entry of a legend; `shape`: "line", "tick", a marker's sign, or empty: an area."""
    if shape in ("", "line", "tick"):
        sign = f'<i class="{shape}" style="background:{colour}"></i>'
    else:
        sign = f'<b style="color:{colour}">{shape}</b>'
    return f'<span class="key">{sign}{text(label)}</span>'


def occurred(run: RunState, limit: int) -> list[tuple[str, str]]:
    """The latest incidents, newest first, with the time since the start of the run; alarms and losses are
    highlighted.
    """
    return [
        (f"+{duration(one.time - run.started)}", f'<span class="{LOUD.get(one.kind, "")}">{text(one.text)}</span>')
        for one in reversed(run.incidents[-limit:])
    ]


def title(run: RunState) -> str:
    """A run's readable name and its id."""
    known = known_by(run)
    about = f"{text(known)} <span class=sub>{text(run.name)}</span>" if known else text(run.name)
    return f"{text(run.verb or 'run')} {about}"


def known_by(run: RunState) -> str:
    """The target and the model folder's name; "" where neither is known."""
    target, model = run.asked.get("data.target", ""), run.asked.get("output.model", "").rstrip("/")
    return ", ".join(filter(None, (target, model.rpartition("/")[2])))


def waiting() -> str:
    """The text of a page before the first run."""
    return "<h2>No training yet</h2><p class=sub>This page fills as soon as one begins on this cluster.</p>"


def unknown(name: str) -> str:
    """The text of a page for a requested run that is unknown."""
    about = "It is shown as soon as its first event arrives; known runs can be chosen above."
    return f"<h2>Run {text(name)} is not known here (yet)</h2><p class=sub>{about}</p>"


def clock_time(moment: float) -> str:
    """The local time of day, to the second."""
    return time.strftime("%H:%M:%S", time.localtime(moment))


def later(run: RunState) -> str:
    """When the outcome of the rounds will be known."""
    if run.state != "running":
        return "not known: the rounds were not reached"
    return "known after some more rounds" if run.round or run.restarts else "known after the first rounds"


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
    """A unit suited to this duration, and its seconds.

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
