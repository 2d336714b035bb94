"""The comparison with plain XGBoost at toy size: what a pair measures, and a record that continues."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from benchmarks.quality import FeatureRows, Settings, measure, unevenness
from benchmarks.quality_report import summary, table
from pipeline.errors import JobError

SETTINGS = Settings(rounds=3, depth=3, learning_rate=0.1, sample_rows=1_000, threads=1)


def test_a_stopped_comparison_continues_with_the_missing_pairs(tmp_path: Path) -> None:
    names = ("numeric-3000x8", "flights-3000")
    first = measure(names[:1], [(0, 0), (0, 1)], SETTINGS, "quality", tmp_path)
    pairs = measure(names, [(0, 0), (0, 1), (1, 0)], SETTINGS, "quality", tmp_path)
    assert pairs[:2] == first
    assert [(pair["data"], pair["data_seed"], pair["sample_seed"], pair["start"]) for pair in pairs] == [
        (names[0], 0, 0, 0), (names[0], 0, 1, 0), (names[0], 1, 0, 1),
        (names[1], 0, 0, 1), (names[1], 0, 1, 1), (names[1], 1, 0, 1),
    ]  # fmt: skip
    assert all(np.isfinite(list(pair["metrics"].values())).all() for pair in pairs)
    assert list(pairs[0]["metrics"]) == ["logloss", "auc"]
    assert list(pairs[3]["metrics"]) == ["rmse"]
    assert [line.split()[0] for line in table(pairs).splitlines()] == ["set", names[0], names[0], names[1]]


def test_a_record_of_other_settings_is_not_continued(tmp_path: Path) -> None:
    measure(["numeric-1500x8"], [(0, 0)], SETTINGS, "quality", tmp_path)
    with pytest.raises(JobError, match="choose another --name"):
        measure(["numeric-1500x8"], [(0, 0)], dataclasses.replace(SETTINGS, depth=4), "quality", tmp_path)


def test_where_every_value_is_a_cut_both_models_are_the_same(tmp_path: Path) -> None:
    (pair,) = measure(["numeric-250x8"], [(0, 0)], dataclasses.replace(SETTINGS, rounds=5), "quality", tmp_path)
    assert pair["rows"] < 253  # bins of a feature
    ours, plain = pair["metrics"]["logloss"]
    assert ours == pytest.approx(plain, abs=1e-6)


def test_the_error_is_over_seeds_of_the_data() -> None:
    differences = {0: (0.01, 0.03), 1: (0.02, 0.04)}  # means .02 and .03
    pairs = [
        {"data": "set", "data_seed": seed, "rows": 1, "metrics": {"auc": [0.5 + one, 0.5], "logloss": [0.5 + one, 0.5]}}
        for seed, ones in differences.items()
        for one in ones
    ]
    found = summary(pairs, "auc")
    assert (found["mean"], found["standard_error"]) == (pytest.approx(0.025), pytest.approx(0.005))
    assert (found["pairs"], found["spread"], found["verdict"]) == (4, 0, "not worse")
    assert summary(pairs, "logloss")["verdict"] == "worse"  # less is better
    assert summary(pairs[:2], "auc")["verdict"] == "open"


def test_bins_of_equal_rows_are_even() -> None:
    values = np.column_stack([np.arange(1_000), np.full(1_000, np.nan)]).astype(np.float32)
    even, odd, none = np.array([250, 500, 750]), np.array([-5, 100, 500]), np.empty(0)  # nothing is below -5
    counts = np.array([100, 400, 500])
    found = unevenness(values, [(even, none), (odd, none)])
    assert found == [0, pytest.approx(counts.std() / counts.mean())]
    assert unevenness(values[:256], [(even, none), (odd, none)]) is None  # no more values than bins


def test_queries_stay_whole_in_another_order() -> None:
    group = np.repeat([7, 3, 7, 5], [2, 3, 1, 4]).astype(
        np.int64
    )  # the two runs of 7 are two queries, as XGBoost sees it
    rows = FeatureRows(np.arange(10, dtype=np.float32)[:, None], np.arange(10, dtype=np.float32), None, group)
    found = rows.shuffled(np.random.default_rng(1))
    assert sorted(found.label) == list(range(10))
    assert (found.values[:, 0] == found.label).all()
    places = {int(label): place for place, label in enumerate(found.label)}
    assert all(places[row + 1] == places[row] + 1 for row in (0, 2, 3, 6, 7, 8))  # in a query, one after the other
