"""Draws the building blocks of the pages: empty figures, lanes, hover tips, data updates."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from bokeh.models import Column, ColumnDataSource, DataRange1d, FactorRange, HoverTool, NumeralTickFormatter
from bokeh.models.ui import UIElement
from bokeh.models.widgets import Div
from bokeh.plotting import figure

from pipeline.dashboard.theme import TEXT


def div(**properties: Any) -> Div:
    """An empty block of HTML, as wide as the page."""
    return Div(text="", sizing_mode="stretch_width", disable_math=True, stylesheets=[TEXT], **properties)


def chart(label: str, below: str, *, height: int = 250, **properties: Any) -> figure:
    """An empty figure with labels at its axes."""
    made = figure(
        height=height, min_height=130, sizing_mode="stretch_width", tools="pan,xwheel_zoom,box_zoom,reset,save", active_scroll=None,
        x_axis_label=below, y_axis_label=label, min_border_right=18, **properties,
    )  # fmt: skip
    made.toolbar.autohide = True
    if not isinstance(properties.get("y_range"), FactorRange):
        made.xaxis.formatter = NumeralTickFormatter(format="0,0.[00]")
        made.yaxis.formatter = NumeralTickFormatter(format="0,0.[0000]")
    return made


class Lanes:
    """A figure with a lane for each of several names, stacked vertically."""

    def __init__(self, below: str) -> None:
        self._names = FactorRange()
        self.figure = chart("worker", below, height=130, y_range=self._names, x_range=DataRange1d(start=0))
        self.figure.ygrid.visible = False

    def show(self, names: Sequence[str]) -> None:
        """Sets the lanes to these names, from the top."""
        upwards = list(reversed(names))
        if list(self._names.factors) != upwards:
            self._names.factors = upwards
            self.figure.height = 80 + 26 * max(2, len(names))
            self.figure.min_height = 80 + 12 * max(2, len(names))  # when it fills a window


def hover(drawn: figure, renderers: Sequence[Any], tips: str | Sequence[tuple[str, str]]) -> None:
    """Adds hover tips; Bokeh escapes the values."""
    drawn.add_tools(HoverTool(renderers=list(renderers), tooltips=tips if isinstance(tips, str) else list(tips)))


def refresh(source: ColumnDataSource, columns: Mapping[str, Sequence[Any]]) -> None:
    """Updates the source's columns, of equal lengths: sends nothing if nothing changed, only the new end if they
    grew.
    """
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


def put(root: Column, *children: UIElement) -> None:
    """Puts these into the column: figures only once they have data, because Bokeh warns about empty ones."""
    if root.children != [*children]:
        root.children = [*children]


def flex() -> dict[str, str]:
    """Layout of charts in a row: they wrap into one column where the page is narrow."""
    return {"flex": "1 1 420px", "min-width": "min(100%, 320px)"}


def _array(values: Sequence[Any]) -> Any:
    array = np.asarray(values)
    if array.dtype.kind in "iub":
        return array.astype("float64")
    return array if array.dtype.kind == "f" else np.array(values, dtype=object)


def _same(old: Any, new: Any) -> bool:
    if old.dtype.kind == "f" and new.dtype.kind == "f":
        return bool(np.array_equal(old, new, equal_nan=True))
    return list(old) == list(new)
