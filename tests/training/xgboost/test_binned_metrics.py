"""Per-round metrics and early stopping."""

import math

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from pipeline.training.xgboost.binned_metrics import KEYS, EarlyStopping, ScoreCounts, binned_auc, binned_aucpr, rounded


def scores(rows: int = 20_000) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    label = (rng.random(rows) < 0.3).astype(np.float32)
    margin = (rng.standard_normal(rows) + label).astype(np.float32)
    return margin, label, rng.uniform(0.1, 3, rows).astype(np.float32)


@pytest.mark.parametrize("weighted", [False, True])
def test_binned_areas_are_close_to_the_exact_ones(weighted: bool) -> None:
    margin, label, weight = scores()
    counts = ScoreCounts(label, weight if weighted else None).count(margin)
    sample_weight = weight if weighted else None
    assert binned_auc(counts) == pytest.approx(roc_auc_score(label, margin, sample_weight=sample_weight), abs=1e-4)
    exact = average_precision_score(label, margin, sample_weight=sample_weight)
    assert binned_aucpr(counts) == pytest.approx(exact, abs=1e-3)


def test_counts_add_up_whatever_the_layout() -> None:
    margin, label, _ = scores()
    whole = ScoreCounts(label, None).count(margin)
    parts = sum(ScoreCounts(label[i::3], None).count(margin[i::3]) for i in range(3))
    np.testing.assert_array_equal(whole, parts)
    assert whole.shape == (2, KEYS)
    assert whole.sum() == len(label)


def test_buckets_keep_the_order_of_scores() -> None:
    values = np.array([-np.inf, -3e38, -1.5, -1e-30, -0.0, 0.0, 1e-30, 0.5, 2.0, np.inf], np.float32)
    places = [int(ScoreCounts(np.zeros(1), None).count(value[None])[0].argmax()) for value in values]
    assert places == sorted(places)


@pytest.mark.parametrize("metric", ["logloss", "auc"])
def test_nan_is_never_the_best(metric: str) -> None:
    stopping = EarlyStopping(2, metric)
    assert [stopping.observe(number, math.nan) for number in (1, 2, 3)] == [False] * 3
    assert stopping.best_round == 0
    assert not stopping.observe(4, 0.5)
    assert not stopping.observe(5, math.nan)
    assert (stopping.best_round, stopping.best) == (4, 0.5)
    assert stopping.observe(6, math.nan)


def test_one_class_has_no_auc() -> None:
    counts = ScoreCounts(np.zeros(3), None).count(np.ones(3, np.float32))
    assert math.isnan(binned_auc(counts))
    assert math.isnan(binned_aucpr(counts))


@pytest.mark.parametrize(("metric", "values"), [("logloss", [3, 2, 1, 1, 2]), ("auc", [0.1, 0.2, 0.3, 0.3, 0.2])])
def test_stops_when_patience_ends(metric: str, values: list[float]) -> None:
    stopping = EarlyStopping(patience=2, metric=metric)
    assert [stopping.observe(i, value) for i, value in enumerate(values, 1)] == [False, False, False, False, True]
    assert stopping.best_round == 3


def test_without_patience_the_best_round_is_the_last() -> None:
    stopping = EarlyStopping(patience=0, metric="rmse")
    assert not any(stopping.observe(i, value) for i, value in enumerate([1, 2, 3, 4], 1))
    assert stopping.best_round == 4


def test_nan_is_never_better() -> None:
    stopping = EarlyStopping(patience=3, metric="rmse")
    for number, value in enumerate([math.nan, 2.0, math.nan], 1):
        stopping.observe(number, value)
    assert (stopping.best_round, stopping.best) == (2, 2.0)


def test_rounding_forgets_the_order_of_a_sum() -> None:
    assert rounded(0.1 + 0.2) == rounded(0.3)
    assert math.isinf(rounded(math.inf))
