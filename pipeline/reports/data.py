"""Holds the contents of a report, independent of its layout."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pipeline.data.schema.target import Target
from pipeline.efficiency.account import Account
from pipeline.metrics.curves import Curves

MOST_POINTS = 600  # per line of a learning curve
MOST_FEATURES = 20  # bars of an importance chart
MOST_BARS = 1_500  # of a timeline
MOST_COLUMNS = 200  # rows of the data summary


@dataclass(frozen=True)
class ReportColumn:
    """A raw column as seen in training."""

    name: str
    type: str  # Arrow's name of it
    use: str  # "feature", "target", "left out: constant", ...
    missing: float | None = None  # share of the rows
    distinct: int | None = None
    low: str = ""  # smallest value, as text
    high: str = ""


@dataclass(frozen=True)
class Bar:
    """A worker's activity from `start` to `stop`, in seconds since the run began."""

    worker: str
    stage: str
    start: float
    stop: float


@dataclass(frozen=True)
class ReportData:
    """The contents of the page.  Empty parts are left out of it."""

    title: str
    created: str  # as displayed
    target: Target
    metrics: Mapping[str, Mapping[str, Any]]  # "train", "validation" -> the exact metrics
    history: Mapping[str, Sequence[float]] = field(default_factory=dict)  # "validation.logloss" -> value per round
    best_round: int = 0  # counted from 1; rounds of the model
    gain: Mapping[str, float] = field(default_factory=dict)  # feature -> summed gain of its splits
    permutation: Mapping[str, float] = field(default_factory=dict)  # feature -> loss added by shuffling it
    permutation_unit: str = "loss added by shuffling"
    curves: Mapping[str, Curves] = field(default_factory=dict)  # "train", "validation"
    facts: Mapping[str, str] = field(default_factory=dict)  # name -> text, e.g. "training rows" -> "261,000"
    columns: Sequence[ReportColumn] = ()
    stages: Mapping[str, float] = field(default_factory=dict)  # stage -> seconds, without the total
    timeline: Sequence[Bar] = ()
    incidents: Sequence[tuple[float, str]] = ()  # (seconds since the start, text)
    account: Account | None = None  # where the worker-seconds went
    planned: Mapping[str, Mapping[str, Mapping[str, float]]] = field(default_factory=dict)  # see `parts.planned`
    planned_totals: Mapping[str, Sequence[float]] = field(default_factory=dict)
    job: Mapping[str, Any] = field(default_factory=dict)  # nested, as in the manifest
    notes: Sequence[str] = ()
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def judged(self) -> str:
        """The use whose numbers are the headline: validation where it exists."""
        return "validation" if self.metrics.get("validation") else "train"

    @property
    def rounds(self) -> int:
        """How many rounds were trained."""
        return max((len(values) for values in self.history.values()), default=self.best_round)

    @property
    def kept(self) -> str:
        """The model's last round; without early stopping the last round is not called the best."""
        return "best" if self.best_round < self.rounds else "last"


def plain(text: object, longest: int = 200) -> str:
    """One line of a user's text that Bokeh does not interpret as mathematics, truncated to `longest` characters."""
    line = " ".join(str(text).split())
    line = "".join(letter if letter.isprintable() else "�" for letter in line)
    for mark in ("$$", "\\(", "\\["):
        line = line.replace(mark, f"{mark[0]}\u2060{mark[1]}")
    return line if len(line) <= longest else line[: longest - 1] + "…"


def number(value: float) -> str:
    """A readable number: four significant digits, thousands grouped."""
    if value == 0:
        return "0"
    if 1e-4 <= abs(value) < 1:
        return f"{value:.4f}"
    if abs(value) < 1e-4:
        return f"{value:.2e}"
    if abs(value) < 1e4:
        return f"{value:.4g}"
    return f"{value:,.0f}" if abs(value) < 1e12 else f"{value:.3e}"


def thinned(values: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """(rounds counted from 1, values) of the rounds that were measured, at most about MOST_POINTS, first and last kept."""
    array = np.asarray(values, dtype=np.float64)
    picked = np.flatnonzero(np.isfinite(array))
    if len(picked) > MOST_POINTS:
        picked = picked[np.unique(np.linspace(0, len(picked) - 1, MOST_POINTS).round().astype(np.int64))]
    return picked + 1, array[picked]


def metric_names(history: Mapping[str, Sequence[float]], best_round: int = 0) -> list[str]:
    """The metrics of a history; first those whose best value is in the best round: one of them decided."""
    names = list(dict.fromkeys(key.partition(".")[2] for key, values in history.items() if len(thinned(values)[0])))

    def decided(name: str) -> bool:
        rounds, values = thinned(history.get(f"validation.{name}", ()))
        return bool(len(rounds)) and best_round in (rounds[values.argmin()], rounds[values.argmax()])

    return sorted(names, key=lambda name: not decided(name))


def merged_bars(bars: Sequence[Bar]) -> list[Bar]:
    """The timeline with adjacent bars of one worker and stage merged, so that few enough remain to draw."""
    if not bars:
        return []
    span = max(bar.stop for bar in bars) - min(bar.start for bar in bars)
    gap = span / MOST_BARS
    open_bars: dict[tuple[str, str], Bar] = {}
    done: list[Bar] = []
    for bar in sorted(bars, key=lambda bar: bar.start):
        last = open_bars.get((bar.worker, bar.stage))
        if last is not None and bar.start - last.stop <= gap:
            bar = Bar(bar.worker, bar.stage, last.start, max(last.stop, bar.stop))
        elif last is not None:
            done.append(last)
        open_bars[bar.worker, bar.stage] = bar
    return sorted([*done, *open_bars.values()], key=lambda bar: (bar.worker, bar.start))


def top_features(gain: Mapping[str, float], permutation: Mapping[str, float]) -> list[str]:
    """The features worth a bar, most important first: by gain, or else by permutation."""
    order = gain or permutation
    return sorted(order, key=lambda name: (-order[name], name))[:MOST_FEATURES]
