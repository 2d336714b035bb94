"""How much is kept of one run: a scheduler may see very long ones, of very many workers, with very long names."""

from collections.abc import Mapping
from typing import Any, Protocol

CURVE_POINTS = 2_000  # of learning curves and of the pace
WINDOWS = 120  # messages of a worker
INCIDENTS = 200
NOTES = 200
WORKERS = 2_000  # those that have left among them
STAGES = 50
METRICS = 64  # of a round
SETTINGS = 50
LONGEST_TEXT = 400  # characters


class Ordered(Protocol):
    """What can be sorted."""

    def __gt__(self, other: Any, /) -> bool: ...

    def __lt__(self, other: Any, /) -> bool: ...


def keep[T: Ordered](things: list[T], thing: T, limit: int) -> None:
    """Adds it in order; the oldest goes where there are too many."""
    things.append(thing)
    if len(things) > 1 and things[-2] > thing:
        things.sort()
    del things[: max(0, len(things) - limit)]


def last_metrics(metrics: Mapping[str, float]) -> Mapping[str, float]:
    """The last of very many metrics: the deciding one is among them."""
    return dict([*metrics.items()][-METRICS:])


def short(text: str) -> str:
    """The text, or its beginning where it is very long."""
    return text if len(text) <= LONGEST_TEXT else f"{text[: LONGEST_TEXT - 4]} ..."
