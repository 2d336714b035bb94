"""The bound of the levels on one side of a split: by the feature of most levels and the training rows, at its borders."""

import numpy as np
import pyarrow as pa
import pytest

from benchmarks.local_preparation import prepare
from pipeline.config.job import Job
from pipeline.preprocess.category_splits import (
    FEW_LEVELS,
    LEAST_LEVELS,
    MANY_ROWS,
    MOST_LEVELS,
    PARAMETER,
    ROWS_PER_LEVEL,
    category_threshold,
    with_category_threshold,
)


@pytest.mark.parametrize(
    ("levels", "rows", "bound"),
    [
        ([], 100, MOST_LEVELS),
        ([None, None], 100, MOST_LEVELS),
        ([None, FEW_LEVELS], 1, MOST_LEVELS),
        ([FEW_LEVELS + 1], 1, LEAST_LEVELS),
        ([100], 100 * ROWS_PER_LEVEL * 5 - 1, LEAST_LEVELS),
        ([100], 100 * ROWS_PER_LEVEL * 5, 5),
        ([None, 40, 100, 2], 100 * ROWS_PER_LEVEL * 5, 5),
        ([254], 254 * MANY_ROWS - 1, MANY_ROWS // ROWS_PER_LEVEL - 1),
        ([254], 254 * MANY_ROWS, MOST_LEVELS),
        ([254], 10**12, MOST_LEVELS),
    ],
)
def test_the_bound(levels: list[int | None], rows: int, bound: int) -> None:
    assert category_threshold(levels, rows) == bound
    assert with_category_threshold({"eta": 0.1}, levels, rows).get(PARAMETER, MOST_LEVELS) == bound


def test_a_bound_that_the_job_gives_wins() -> None:
    for given in (2, MOST_LEVELS, 1_000):
        assert with_category_threshold({PARAMETER: given}, [100], 1_000) == {PARAMETER: given}


def test_parameters_without_a_bound_are_as_the_job_gives_them() -> None:
    assert with_category_threshold({"eta": 0.1}, [FEW_LEVELS], 1_000) == {"eta": 0.1}


def test_only_levels_that_are_split_count() -> None:
    """Encoded by their target they are a number; seen too rarely they are missing."""
    rng = np.random.default_rng(0)
    level = np.append(rng.integers(0, 40, 8_000), np.arange(40, 60))
    table = pa.table({"level": level.astype(str), "y": rng.normal(size=len(level))})

    def bound(**preprocess: object) -> int:
        job = Job.parse({"data": {"source": "rows", "target": "y"}, "preprocess": preprocess})
        fitted = prepare(job, table).fitted
        return category_threshold(fitted.recipe.levels, fitted.statistics.rows)

    assert bound() == 8_020 // 60 // ROWS_PER_LEVEL
    assert bound(min_count=2) == 8_020 // 40 // ROWS_PER_LEVEL
    assert bound(max_levels=59) == MOST_LEVELS
