"""Bounds the state kept of one run: a scheduler may see very long runs, with very many workers and very long names."""

from collections.abc import Mapping
from typing import Any, Protocol

CURVE_POINTS = 2_000  # of learning curves and of the pace
WINDOWS = 120  # messages of a worker
INCIDENTS = 200
NOTES = 200
WORKERS = 2_000  # including workers that have left
STAGES = 50
METRICS = 64  # of a round
SETTINGS = 50
LONGEST_TEXT = 400  # characters


class Ordered(Protocol):
    """Any sortable type."""

    def __gt__(self, other: Any, /) -> bool: ...

    def __lt__(self, other: Any, /) -> bool: ...


def keep[T: Ordered](things: list[T], thing: T, limit: int) -> None:
    """Inserts it in order; drops the oldest beyond the limit."""
    things.append(thing)
    if len(things) > 1 and things[-2] > thing:
        things.sort()
    del things[: max(0, len(things) - limit)]


def last_metrics(metrics: Mapping[str, float]) -> Mapping[str, float]:
    """The last of very many metrics: they include the deciding one."""
    return dict([*metrics.items()][-METRICS:])


def short(text: str) -> str:
    """The text, truncated if very long."""
    return text if len(text) <= LONGEST_TEXT else f"{text[: LONGEST_TEXT - 4]} ..."
