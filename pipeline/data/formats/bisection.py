"""Finds the first of many values that Arrow cannot convert, without converting them one by one."""

from collections.abc import Callable

import pyarrow as pa


def first_misfit(count: int, convert: Callable[[int, int], object]) -> int:
    """The place of the first of `count` values that cannot be converted; at least one cannot.

    `convert(start, stop)` converts those from `start` up to `stop`; ArrowInvalid where one of them is wrong.

    >>> first_misfit(5, lambda start, stop: pa.array(["1", "2", "x", "4", "y"][start:stop]).cast(pa.int64()))
    2
    """
    low, high = 0, count  # none before `low` fails, at least one before `high` does
    while high - low > 1:
        middle = (low + high) // 2
        try:
            convert(low, middle)
            low = middle
        except pa.ArrowInvalid:
            high = middle
    return low
