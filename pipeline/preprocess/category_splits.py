"""Bounds how many levels a split of a category takes to one side, by the rows that there are for each level.

XGBoost sorts the levels by their gradients in a node, and cuts that order where the gain is largest.  With few rows for a
level the order is noise, and the more levels a side may take, the more of that noise a split fits.  With a bound, it
takes only levels from the ends of the order, and trees follow later what levels have in common; with many rows for a
level that only costs rounds, and accuracy where categories interact.  The numbers are those of `python -m benchmarks.categories`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

PARAMETER = "max_cat_threshold"
FEW_LEVELS = 32  # categories of no more levels are split as XGBoost does
MANY_ROWS = 400  # from so many rows for a level on, too
ROWS_PER_LEVEL = 25  # for each level that a side may take, so many rows for each level of the category
LEAST_LEVELS = 4  # of a side
MOST_LEVELS = 64  # XGBoost's default


def category_threshold(levels: Sequence[int | None], rows: int) -> int:
    """The most levels on one side of a split, for features of so many levels (None: a number) and so many training rows.

    One number for all features, as XGBoost has only one: by the feature with the most levels.

    >>> category_threshold([None, 12, 100], rows=20_000)
    8
    >>> category_threshold([None, 12, 100], rows=500), category_threshold([None, 12, 100], rows=50_000)
    (4, 64)
    """
    most = max((count for count in levels if count is not None), default=0)
    if most <= FEW_LEVELS or rows >= most * MANY_ROWS:
        return MOST_LEVELS
    return max(rows // (most * ROWS_PER_LEVEL), LEAST_LEVELS)


def with_category_threshold(params: Mapping[str, Any], levels: Sequence[int | None], rows: int) -> dict[str, Any]:
    """XGBoost's parameters with that bound, where they have none and it is not XGBoost's default."""
    bound = category_threshold(levels, rows)
    return {PARAMETER: bound, **params} if bound < MOST_LEVELS else dict(params)
