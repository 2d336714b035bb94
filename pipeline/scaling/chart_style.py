"""Styles the pictures of a scaling run: colour-blind-safe colours, axes, and the canvas."""

import io
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

from pipeline.efficiency.machine import Machine
from pipeline.efficiency.records import Result

INK, MUTED, RULE = "#1c2430", "#667085", "#e4e7ec"
COLORS = {"strong": "#0072b2", "weak": "#d55e00"}  # of Okabe and Ito's palette, like all the others
MARKERS = {"strong": "o", "weak": "s"}
PARTS = {  # part of the split -> its label, its colour
    "useful": ("useful", "#009e73"),
    "transfer": ("transfer", "#0072b2"),
    "wait": ("waiting", "#e69f00"),
    "other": ("other", "#98a2b3"),
}
GOOD, GOOD_COLOR = 0.8, "#009e73"  # an efficiency from this value on is good
DASHED, DOTTED = (0, (4, 2.5)), (0, (1.5, 2))
SIZE_INCHES, DPI = (5.4, 3.3), 130
LETTERS = 64  # of a legend, including its marks, that fit in one row
MARK_LETTERS = 6
CROWDED = "more threads than cores"
STYLE: dict[Any, Any] = {
    "font.family": "sans-serif", "font.size": 9, "svg.fonttype": "none", "axes.labelcolor": MUTED, "axes.labelsize": 9,
    "axes.spines.left": False, "axes.spines.right": False, "axes.spines.top": False, "axes.spines.bottom": False,
    "axes.grid": True, "axes.axisbelow": True, "grid.color": RULE, "grid.linewidth": 0.8, "legend.frameon": False,
    "legend.fontsize": 8.5, "text.color": INK, "xtick.color": MUTED, "ytick.color": MUTED,
    "xtick.major.size": 0, "ytick.major.size": 0, "xtick.minor.size": 0, "ytick.minor.size": 0,
}  # fmt: skip

Format = Literal["png", "svg"]


@dataclass(frozen=True)
class PictureText:
    """The title of a chart and its caption, a sentence or two."""

    title: str
    caption: str


@dataclass(frozen=True)
class Picture(PictureText):
    """A drawn chart."""

    content: bytes


Draw = Callable[[Any, Result, Machine | None], PictureText]  # onto a figure


def drawn(draw: Draw, result: Result, machine: Machine | None, kind: Format) -> Picture:
    """The picture; a PNG contains its title, an SVG gets it from the page.

    Matplotlib is imported only here, and its global state is not changed.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE | {"svg.hashsalt": draw.__name__}):
        figure = Figure(figsize=SIZE_INCHES, dpi=DPI, layout="constrained", facecolor="white")
        FigureCanvasAgg(figure)
        words = draw(figure, result, machine)
        if kind == "png":
            figure.suptitle(words.title, x=0.012, ha="left", fontsize=10.5, fontweight="bold")
        content = io.BytesIO()
        figure.savefig(
            content, format=kind, metadata=dict.fromkeys(["Software"] if kind == "png" else ["Date", "Creator"])
        )
    made = content.getvalue()
    return Picture(words.title, words.caption, made if kind == "png" else _for_a_page(made.decode()).encode())


def _for_a_page(picture: str) -> str:
    """The SVG as part of a page: without prologue, in the page's font, without unused ids."""
    inner = picture[picture.index("<svg") :]
    inner = re.sub(r"font: ([^;\"]*?)'?sans-serif'?", r"font: \1system-ui, sans-serif", inner)
    used = set(re.findall(r"(?:url\(#|href=\"#)([^)\"]+)", inner))
    return re.sub(r' id="([^"]+)"', lambda found: found[0] if found[1] in used else "", inner)


def legend_below(figure: Any, axes: Any) -> None:
    """Places the legend below the axes, where no line crosses it."""
    handles, labels = axes.get_legend_handles_labels()
    lengths = [len(label) + MARK_LETTERS for label in labels]
    columns = len(labels) if sum(lengths) <= LETTERS else max(1, LETTERS // max(lengths))
    figure.legend(handles, labels, loc="outside lower left", ncols=max(1, columns))


def workers_axis(axes: Any, counts: Iterable[int]) -> None:
    """A logarithmic axis of worker counts, with ticks at doublings."""
    places = sorted(set(counts))
    axes.set_xscale("log", base=2)
    axes.set_xticks(places, [f"{count:,}" for count in places])
    axes.minorticks_off()
    if len(places) == 1:
        axes.set_xlim(places[0] / 2, places[0] * 2)
    axes.set_xlabel("workers")


def log_axis(axes: Any, which: Literal["x", "y"], least: float = 2.0) -> None:
    """A logarithmic axis over the drawn data, whose high end is at least `least` times its low end, with round tick
    labels.
    """
    axis = axes.yaxis if which == "y" else axes.xaxis
    (axes.set_yscale if which == "y" else axes.set_xscale)("log")
    low, high = axes.get_ylim() if which == "y" else axes.get_xlim()
    if high / low < least:
        middle = math.sqrt(low * high)
        low, high = middle / math.sqrt(least), middle * math.sqrt(least)
    digits = (1,) if high / low > 2000 else (1, 2, 5) if high / low > 12 else (1, 1.5, 2, 3, 4, 5, 6, 8)
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [tick for exponent in exponents for digit in digits if low <= (tick := digit * 10.0**exponent) <= high]
    axis.set_ticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.set_ticks([], minor=True)
    (axes.set_ylim if which == "y" else axes.set_xlim)(low, high)
