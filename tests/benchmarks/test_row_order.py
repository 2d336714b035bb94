"""The benchmarks of rounds at toy size: every order gives the same trees, and every way the same model."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.competitors.common import in_our_order
from benchmarks.named_rows import job_of, named_rows
from benchmarks.round_cost import summary, ways_of
from benchmarks.row_order import ORDERS, compare, table
from pipeline.errors import JobError


def test_every_order_gives_the_same_trees(tmp_path: Path) -> None:
    found = compare(named_rows("flights-3000", tmp_path), list(ORDERS), rounds=10, depth=4, threads=1)
    assert (found["rows"], found["equal_trees"], found["equal_files"]) == (found["rows"], True, True)
    assert found["orders"].keys() == ORDERS.keys()
    assert all(one["cpu_ratio"].keys() == {"10"} for one in found["orders"].values())
    assert "key" in table(found)


def test_every_way_to_boost_gives_the_same_trees(tmp_path: Path) -> None:
    ways = ways_of(named_rows("numeric-3000x8", tmp_path), rounds=3, depth=3, threads=1)
    samples = {way: [run()] for way, run in ways.items()}
    assert len({sample["sha256"] for (sample,) in samples.values()}) == 1
    assert summary(samples)["XGBoost"]["wall_ratio"] == 1


def test_an_unknown_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="numeric-ROWSxFEATURES"):
        job_of("magic", tmp_path)


def test_rows_in_our_order_keep_their_labels() -> None:
    values = np.random.default_rng(0).random((3_000, 4), dtype=np.float32)
    label = (values[:, 1] > 0.5).astype(np.float32)
    sorted_values, sorted_label = in_our_order(values.copy(), label.copy())
    assert (sorted_label == (sorted_values[:, 1] > 0.5)).all()
    assert np.abs(np.diff(sorted_label)).sum() < 0.1 * np.abs(np.diff(label)).sum()  # equal labels lie together
    assert (np.sort(sorted_values, axis=0) == np.sort(values, axis=0)).all()
