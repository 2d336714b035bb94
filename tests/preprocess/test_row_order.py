"""The order of a block's rows: a stable sort by a key of bits that a sample gives."""

from typing import Any

import numpy as np
import pytest

from pipeline.config.encoding import ENCODING
from pipeline.preprocess import row_order
from pipeline.preprocess.row_order import BITS, RowOrder, fit_row_order, sample_rows

ROWS = 4_000


def random_codes(features: int, rows: int = ROWS, below: int = 200, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, below, (rows, features), dtype=np.uint8)


def labels(values: np.ndarray) -> np.ndarray:
    return np.asarray(values, np.float32)


def explained(order: RowOrder, codes: np.ndarray, label: np.ndarray) -> float:
    """The share of the label's variance between keys."""
    keys = order.keys(codes)
    means = np.bincount(keys, label) / np.maximum(np.bincount(keys), 1)
    return float(1 - np.var(label - means[keys]) / np.var(label))


def test_rows_are_sorted_by_key_and_those_of_one_key_stay_in_order() -> None:
    codes = random_codes(3)
    order = fit_row_order(codes, labels(codes[:, 1] > 90), None, (None,) * 3)
    positions = order.positions(codes)
    assert sorted(positions.tolist()) == list(range(ROWS))
    keys = order.keys(codes)[positions].astype(int)
    assert (np.diff(keys) >= 0).all()
    assert (np.diff(positions)[np.diff(keys) == 0] > 0).all()


def test_a_key_is_made_of_the_bits_of_its_features() -> None:
    bits = np.zeros((2, 256), np.uint16)
    bits[0, 100:], bits[1, 50:] = 128, 64
    order = RowOrder((1, 0), bits)
    codes = np.array([[49, 99], [50, 99], [49, 100], [50, 100]], np.uint8)
    assert order.keys(codes).tolist() == [0, 64, 128, 192]


def test_the_feature_that_explains_the_label_is_asked_first() -> None:
    codes = random_codes(5)
    order = fit_row_order(codes, labels(codes[:, 3]), None, (None,) * 5)
    assert order.features[0] == 3
    assert explained(order, codes, labels(codes[:, 3])) > 0.9


def test_features_that_explain_the_label_only_together_are_found() -> None:
    codes = random_codes(4)
    label = labels((codes[:, 0] > 100) == (codes[:, 2] > 100))
    order = fit_row_order(codes, label, None, (None,) * 4)
    assert explained(order, codes, label) > 0.5


def test_categories_are_ordered_by_their_mean_label() -> None:
    codes = random_codes(3, below=40)
    effect = np.random.default_rng(1).permutation(40)
    label = labels(effect[codes[:, 1]] > 17)
    order = fit_row_order(codes, label, None, (None, 40, None))
    assert explained(order, codes, label) > 0.9


def test_classes_count_as_such() -> None:
    """Their numbers say nothing: the middle one is the one that differs."""
    codes = random_codes(2)
    label = labels(np.select([codes[:, 0] < 60, codes[:, 0] < 120], [0, 2], 1))
    order = fit_row_order(codes, label, None, (None, None), classes=3)
    assert explained(order, codes, labels(label == 1)) > 0.9
    assert explained(order, codes, labels(label == 2)) > 0.9


def test_missing_values_lie_together() -> None:
    codes = random_codes(2)
    codes[::4, 0] = ENCODING.missing
    label = labels(codes[:, 0] == ENCODING.missing)
    order = fit_row_order(codes, label, None, (None, None))
    assert explained(order, codes, label) == pytest.approx(1)


def test_rows_of_no_weight_count_for_nothing() -> None:
    codes = random_codes(2)
    label = labels(np.where(np.arange(ROWS) % 2, codes[:, 0], codes[:, 1]))
    weight = labels(np.arange(ROWS) % 2)
    weighted = fit_row_order(codes, label, weight, (None, None))
    taken = fit_row_order(codes[1::2], label[1::2], None, (None, None))
    assert weighted.features == taken.features
    assert (weighted.bits == taken.bits).all()


@pytest.mark.parametrize(
    ("codes", "label"),
    [
        (np.full((100, 2), 7, np.uint8), np.arange(100)),
        (np.full((100, 2), ENCODING.missing, np.uint8), np.arange(100)),
        (random_codes(2, rows=100), np.ones(100)),
        (random_codes(2, rows=1), np.ones(1)),
    ],
)
def test_where_nothing_explains_the_label_rows_stay_as_they_are(codes: np.ndarray, label: np.ndarray) -> None:
    order = fit_row_order(codes, labels(label), None, (None, None))
    assert order.features == ()
    assert (order.positions(codes) == np.arange(len(codes))).all()
    assert order.positions(codes[:0]).shape == (0,)


def test_without_weight_there_is_no_order() -> None:
    """As where few of very many rows weigh anything, and none of these was drawn."""
    codes = random_codes(2)
    for rows in (ROWS, 0):
        order = fit_row_order(codes[:rows], labels(codes[:rows, 0]), np.zeros(rows, np.float32), (None, None))
        assert order.features == ()


def test_many_features_take_fewer_rows_and_only_the_best_are_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [sample_rows(features) for features in (0, 28, 128, 10_000)] == [32_768, 32_768, 8_192, 2_048]
    codes = random_codes(200, rows=2_048)
    tried: list[int] = []

    def counted(keys: np.ndarray, *rest: Any) -> float:
        tried.append(len(keys))
        return explains(keys, *rest)

    explains = row_order._explained
    monkeypatch.setattr(row_order, "_explained", counted)
    order = fit_row_order(codes, labels(codes[:, 150]), None, (None,) * 200)
    assert order.features[0] == 150
    assert len(tried) == 200 + row_order.MOST_FEATURES * (BITS - 1)


def test_a_value_that_most_rows_have_does_not_hide_the_others() -> None:
    """Halves are by weight, within the part above: the second bit tells the rare values apart."""
    codes = random_codes(2)
    codes[: ROWS * 9 // 10, 1] = 0
    order = fit_row_order(codes, labels(codes[:, 1]), None, (None, None))
    assert order.features[0] == 1
    assert explained(order, codes, labels(codes[:, 1])) > 0.99
