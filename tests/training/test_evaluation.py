"""Scores of all workers, in the order of row ids: metrics do not depend on where, or in which order, rows lay."""

import numpy as np
import pytest

from pipeline.training.evaluation import in_order
from pipeline.training.trainer import Scores


def scores(ids: list[int], weighted: bool = False) -> Scores:
    row_ids = np.array(ids, np.uint64)
    value = row_ids.astype(np.float32)
    return Scores(row_ids, value, value, value if weighted else None, None)


@pytest.mark.parametrize(
    "parts",
    [
        [[0, 1, 2, 3]],
        [[2, 0, 3, 1]],  # one worker, whose rows are ordered by a key
        [[2, 0], [], [3, 1]],
    ],
)
@pytest.mark.parametrize("weighted", [False, True])
def test_rows_are_in_the_order_of_their_ids(parts: list[list[int]], weighted: bool) -> None:
    found = in_order([None, *(scores(part, weighted) for part in parts)])
    assert found is not None
    for array in (found.row_ids, found.prediction, found.label, *([found.weight] if weighted else [])):
        assert array is not None
        assert array.tolist() == [0, 1, 2, 3]
    assert (found.weight is None) == (not weighted)


def test_a_side_without_rows_has_no_scores() -> None:
    assert in_order([None, scores([])]) is None
