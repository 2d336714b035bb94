"""Exact metrics against scikit-learn, with ties, weights and any order of rows."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from pipeline.errors import DataError
from pipeline.metrics import exact as metrics
from pipeline.metrics import ranking, thresholds
from pipeline.metrics.curves import curves

ROWS = 400


@st.composite
def cases(draw):
    """Seeded rows: scores with many ties or few, weights (also 0) or none."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    rows = draw(st.integers(20, ROWS))
    levels = draw(st.sampled_from([2, 7, 10_000]))
    score = (rng.integers(0, levels, rows) / levels).astype(np.float32)
    label = (rng.random(rows) < 0.2 + 0.6 * score).astype(np.float32)
    label[:2] = 0, 1
    weight = rng.choice([0, 0.5, 1, 3], rows).astype(np.float32) if draw(st.booleans()) else None
    if weight is not None:
        weight[:2] = 1
    return score, label, weight


@given(cases())
@settings(deadline=None, max_examples=80)
def test_binary_equals_scikit_learn(case):
    score, label, weight = case
    got = metrics.evaluate("binary", "binary:logistic", score, label, weight)
    assert got["auc"] == pytest.approx(reference.roc_auc_score(label, score, sample_weight=weight), abs=1e-12)
    expected = reference.average_precision_score(label, score, sample_weight=weight)
    assert got["average_precision"] == pytest.approx(expected, abs=1e-12)
    assert got["accuracy"] == pytest.approx(
        reference.accuracy_score(label, score > 0.5, sample_weight=weight), abs=1e-12
    )
    assert got["brier"] == pytest.approx(np.average((score.astype(float) - label) ** 2, weights=weight), abs=1e-12)
    assert np.allclose(got["confusion"], reference.confusion_matrix(label, score > 0.5, sample_weight=weight))
    inner = np.clip(score.astype(np.float64), 1e-6, 1 - 1e-6)
    inside = metrics.evaluate_binary(label, inner, weight)["logloss"]
    assert inside == pytest.approx(reference.log_loss(label, inner, sample_weight=weight), rel=1e-9)


@given(cases(), st.integers(0, 2**32))
@settings(deadline=None, max_examples=30)
def test_the_order_of_rows_does_not_matter(case, seed):
    score, label, weight = case
    order = np.random.default_rng(seed).permutation(len(label))
    group = (np.arange(len(label)) // 7)[order]
    for kind, objective in (
        ("binary", "binary:logistic"),
        ("regression", "reg:squarederror"),
        ("ranking", "rank:ndcg"),
    ):
        keys = {"group": np.arange(len(label)) // 7} if kind == "ranking" else {}
        first = metrics.evaluate(kind, objective, score, label, weight, **keys)
        keys = {"group": group} if kind == "ranking" else {}
        moved = None if weight is None else weight[order]
        second = metrics.evaluate(kind, objective, score[order], label[order], moved, **keys)
        assert first.keys() == second.keys()
        for name, value in first.items():
            assert np.allclose(value, second[name], rtol=1e-9, atol=1e-12, equal_nan=True), name


@given(cases())
@settings(deadline=None, max_examples=30)
def test_scores_of_any_sign_and_chunks_of_any_size(case):
    score, label, weight = case
    whole = thresholds.rank(score, label > 0, weight)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(thresholds, "CHUNK_ROWS", 13)
        patch.setattr(metrics, "CHUNK_ROWS", 13)
        shifted = thresholds.rank(score - 1, label > 0, weight)
        by_chunk = metrics.evaluate_binary(label, score, weight)
    assert by_chunk["auc"] == pytest.approx(whole.auc, abs=1e-12)
    assert by_chunk["logloss"] == pytest.approx(metrics.evaluate_binary(label, score, weight)["logloss"], rel=1e-12)
    expected = reference.roc_auc_score(label, score - 1, sample_weight=weight)  # float32: the shift may make new ties
    assert shifted.auc == pytest.approx(expected, abs=1e-12)


def test_equal_zeros_tie_and_points_are_few():
    label = np.array([0, 1], dtype=np.float32)
    assert thresholds.rank(np.array([0.0, -0.0], dtype=np.float32), label > 0).auc == 0.5
    rng = np.random.default_rng(0)
    score = rng.random(50_000).astype(np.float32)
    found = thresholds.rank(score, rng.random(50_000) < score)
    assert len(found.points) <= 2 * thresholds.CURVE_STEPS + 2
    true, false = found.points.T / found.points[-1][:, None]
    assert np.trapezoid(true, false) == pytest.approx(found.auc, abs=1e-3)


@pytest.mark.parametrize("weighted", [False, True])
def test_multiclass_equals_scikit_learn(weighted):
    rng = np.random.default_rng(1)
    label = rng.integers(0, 4, 3_000).astype(np.float32)
    raw = rng.random((3_000, 4)) + np.eye(4)[label.astype(int)]
    probability = (raw / raw.sum(axis=1, keepdims=True)).astype(np.float32)
    weight = rng.random(3_000).astype(np.float32) if weighted else None
    got = metrics.evaluate("multiclass", "multi:softprob", probability, label, weight)
    exact = probability.astype(np.float64)
    exact /= exact.sum(axis=1, keepdims=True)
    guess = exact.argmax(axis=1)
    assert got["logloss"] == pytest.approx(reference.log_loss(label, exact, sample_weight=weight), rel=1e-6)
    assert got["accuracy"] == pytest.approx(reference.accuracy_score(label, guess, sample_weight=weight))
    assert np.allclose(got["confusion"], reference.confusion_matrix(label, guess, sample_weight=weight))
    by_class = [reference.roc_auc_score(label == k, probability[:, k], sample_weight=weight) for k in range(4)]
    assert got["auc"] == pytest.approx(np.mean(by_class), abs=1e-12)
    squares = np.square(exact - np.eye(4)[label.astype(int)]).sum(axis=1)
    assert got["brier"] == pytest.approx(np.average(squares, weights=weight), rel=1e-6)
    crisp = metrics.evaluate("multiclass", "multi:softmax", guess.astype(np.float32), label, weight)
    assert crisp["accuracy"] == pytest.approx(got["accuracy"])
    assert np.allclose(crisp["confusion"], got["confusion"])


@pytest.mark.parametrize("weighted", [False, True])
def test_regression_equals_scikit_learn(weighted):
    rng = np.random.default_rng(2)
    label = rng.normal(50, 9, 5_000).astype(np.float32)
    prediction = (label + rng.normal(0, 3, 5_000)).astype(np.float32)
    weight = rng.random(5_000).astype(np.float32) if weighted else None
    got = metrics.evaluate("regression", "reg:squarederror", prediction, label, weight)
    assert got["rmse"] ** 2 == pytest.approx(
        reference.mean_squared_error(label, prediction, sample_weight=weight), rel=1e-6
    )
    assert got["mae"] == pytest.approx(reference.mean_absolute_error(label, prediction, sample_weight=weight), rel=1e-6)
    assert got["r2"] == pytest.approx(reference.r2_score(label, prediction, sample_weight=weight), rel=1e-6)
    expected = np.quantile(prediction - label, 0.95, method="inverted_cdf", weights=weight)
    assert got["error_p95"] == pytest.approx(float(expected), rel=1e-6)


def test_quantiles_have_their_pinball_loss_and_coverage():
    rng = np.random.default_rng(3)
    label = rng.normal(0, 1, 20_000).astype(np.float32)
    prediction = np.tile(np.array([-1.2816, 0.0, 1.2816], dtype=np.float32), (20_000, 1))
    got = metrics.evaluate("regression", "reg:quantileerror", prediction, label, quantiles=[0.1, 0.5, 0.9])
    for i, q in enumerate((0.1, 0.5, 0.9)):
        assert got[f"pinball_{q:g}"] == pytest.approx(reference.mean_pinball_loss(label, prediction[:, i], alpha=q))
        assert got[f"below_{q:g}"] == pytest.approx(q, abs=0.01)
    assert got["mae"] == pytest.approx(float(np.abs(label).mean()), rel=1e-6)  # of the median


def test_ranking_equals_scikit_learn_query_by_query():
    rng = np.random.default_rng(4)
    sizes = rng.integers(2, 30, 200)
    group = np.repeat(rng.permutation(200), sizes)
    label = rng.integers(0, 5, len(group)).astype(np.float32)
    label[group == 3] = 0  # nothing relevant: counts as 1
    score = np.round(rng.random(len(group)) + 0.1 * label, 1).astype(np.float32)
    got = metrics.evaluate("ranking", "rank:ndcg", score, label, group=group)
    ndcg, precision = [], []
    for query in range(200):
        rows = group == query
        gains = np.exp2(label[rows]) - 1
        ndcg.append(reference.ndcg_score([gains], [score[rows]], k=5) if gains.any() else 1.0)
        precision.append(reference.average_precision_score(label[rows] > 0, score[rows]) if gains.any() else 1.0)
    assert got["ndcg@5"] == pytest.approx(np.mean(ndcg), abs=1e-9)
    assert got["map"] == pytest.approx(np.mean(precision), abs=1e-9)


def test_queries_weigh_as_their_rows_do():
    label = np.array([1, 0, 0, 1], dtype=np.float32)
    score = np.array([1, 0, 1, 0], dtype=np.float32)
    group = np.array([5, 5, 9, 9])
    weight = np.array([3, 3, 1, 1], dtype=np.float32)
    first = ranking.evaluate_ranking(label[:2], score[:2], group[:2])["ndcg"]
    second = ranking.evaluate_ranking(label[2:], score[2:], group[2:])["ndcg"]
    both = ranking.evaluate_ranking(label, score, group, weight)["ndcg"]
    assert both == pytest.approx((3 * first + second) / 4)
    assert ranking.evaluate_ranking(label * 1_000, score, group)["ndcg"] > 0  # linear gain, no overflow


def test_what_the_rows_do_not_define_is_left_out():
    ones = np.ones(5, dtype=np.float32)
    assert "auc" not in metrics.evaluate("binary", "binary:logistic", ones / 2, ones)
    assert "r2" not in metrics.evaluate("regression", "reg:squarederror", ones / 2, ones)
    assert metrics.evaluate("binary", "binary:logistic", ones, ones, 0 * ones) == {}
    assert metrics.evaluate("binary", "binary:logistic", ones[:0], ones[:0]) == {}
    crisp = metrics.evaluate("binary", "binary:hinge", ones, ones)
    assert "logloss" not in crisp
    assert crisp["accuracy"] == 1


def test_margins_become_probabilities_and_diverged_ones_are_refused():
    label = np.array([0, 1, 1], dtype=np.float32)
    margin = np.array([-2, 0.5, 900], dtype=np.float32)
    got = metrics.evaluate("binary", "binary:logitraw", margin, label)
    assert got["accuracy"] == 1
    assert got["logloss"] == pytest.approx(np.log1p(np.exp([-2, -0.5])).sum() / 3, rel=1e-6)
    with pytest.raises(DataError, match="diverged"):
        metrics.evaluate("regression", "count:poisson", margin * np.float32(np.inf), label)


def test_curves_are_small_and_agree_with_the_metrics():
    rng = np.random.default_rng(5)
    score = rng.random(30_000).astype(np.float32)
    label = (rng.random(30_000) < score).astype(np.float32)
    (curve,) = curves("binary", "binary:logistic", score, label).classes
    assert curve.auc == pytest.approx(reference.roc_auc_score(label, score))
    assert np.abs(curve.predicted - curve.observed).max() < 0.06  # labels were drawn from the scores
    assert len(curve.recall) <= 202
    assert (np.diff(curve.recall) >= 0).all()
    many = curves("multiclass", "multi:softprob", np.column_stack([1 - score, score]), label)
    assert [found.index for found in many.classes] == [0, 1]
    numbers = curves("regression", "reg:squarederror", score, label)
    assert numbers.errors.counts.sum() == pytest.approx(30_000, rel=0.02)
    queries = curves("ranking", "rank:ndcg", score, label, group=np.arange(30_000) // 10)
    assert queries.queries.counts.sum() == 3_000
    assert curves("binary", "binary:logistic", score[:0], label[:0]).classes == ()
