"""Cut points, bin codes, and what XGBoost makes of them."""

import array_api_strict
import numpy as np
import pytest
import xgboost
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pipeline.config.encoding import ENCODING
from pipeline.preprocess.bins import (
    MAX_TABLES,
    Cuts,
    decode,
    decode_table,
    encode,
    make_cuts,
    reference,
)

FLOATS = st.floats(width=32, allow_infinity=False, allow_nan=True)


def numeric(points: np.ndarray) -> Cuts:
    return Cuts(points=(points.astype(np.float32),), levels=(None,))


def naive(column: np.ndarray, points: np.ndarray) -> np.ndarray:
    codes = np.array([int((points <= value).sum()) for value in column], dtype=np.int64)
    return np.where(np.isnan(column), ENCODING.missing, codes).astype(np.uint8)


@settings(deadline=None)
@given(hnp.arrays(np.float32, st.integers(1, 60), elements=FLOATS), hnp.arrays(np.float32, 40, elements=FLOATS))
def test_codes_are_those_of_a_plain_search(sample: np.ndarray, column: np.ndarray) -> None:
    cuts = make_cuts(sample[:, None], [None])
    column = np.concatenate([column, sample, [np.inf, -np.inf, np.nan, 0.0, -0.0]]).astype(np.float32)
    expected = naive(column, cuts.points[0])
    np.testing.assert_array_equal(encode(column, 0, cuts), expected)
    strict = encode(array_api_strict.asarray(column), 0, cuts, array_api_strict)
    np.testing.assert_array_equal(np.asarray(strict), expected)


def test_many_cuts_in_one_bucket_are_searched() -> None:
    points = np.float32(1) + np.arange(100, dtype=np.float32) * np.float32(1e-6)
    column = np.linspace(0.9999, 1.0002, 5_000, dtype=np.float32)
    np.testing.assert_array_equal(encode(column, 0, numeric(points)), naive(column, points))


def test_very_many_features_are_searched_without_tables() -> None:
    column = np.array([-np.inf, -3.0, 0.0, 0.5, 2.0, np.inf, np.nan], np.float32)
    few = make_cuts([column], [None])
    many = Cuts(points=few.points * (MAX_TABLES + 1), levels=few.levels * (MAX_TABLES + 1))
    assert encode(column, 0, many).tolist() == encode(column, 0, few).tolist()


def test_read_only_and_strided_columns() -> None:
    column = np.random.default_rng(0).standard_normal((100, 2)).astype(np.float32)
    column.flags.writeable = False
    cuts = make_cuts(column, [None, None])
    np.testing.assert_array_equal(encode(column[:, 1], 1, cuts), naive(column[:, 1], cuts.points[1]))


def test_few_values_are_cut_at_exactly_those() -> None:
    cuts = make_cuts(np.array([[3], [1], [2], [2], [np.nan]], np.float32), [None])
    np.testing.assert_array_equal(cuts.points[0], [2, 3])


@pytest.mark.parametrize("weighted", [False, True])
def test_bins_share_the_weight(weighted: bool) -> None:
    rng = np.random.default_rng(0)
    column = rng.standard_normal(50_000).astype(np.float32)
    weights = rng.uniform(0, 2, len(column)).astype(np.float32) if weighted else None
    cuts = make_cuts(column[:, None], [None], weights=weights, max_bin=64)
    assert len(cuts.points[0]) == 63
    mass = np.bincount(encode(column, 0, cuts), weights=weights)
    assert mass.max() / mass.min() < 1.2


def test_a_heavy_value_has_a_bin_of_its_own_and_the_others_keep_theirs() -> None:
    rng = np.random.default_rng(0)
    column = np.where(rng.random(50_000) < 0.6, 0, rng.standard_normal(50_000)).astype(np.float32)
    cuts = make_cuts(column[:, None], [None])
    assert len(cuts.points[0]) > 0.95 * ENCODING.most_bins
    codes = encode(column, 0, cuts)
    zero = codes[column == 0][0]
    assert abs(column[codes == zero]).max() < 0.01


@pytest.mark.parametrize("max_bin", [2, 3, 16, 253, 255])
def test_never_more_bins_than_asked(max_bin: int) -> None:
    column = np.random.default_rng(0).pareto(0.3, 20_000).astype(np.float32)
    assert (
        1 <= len(make_cuts(column[:, None], [None], max_bin=max_bin).points[0]) <= min(max_bin, ENCODING.most_bins) - 1
    )


@pytest.mark.parametrize("column", [[np.nan, np.nan], [1, 1], [1, np.nan]])
def test_a_constant_sample_has_no_cuts(column: list[float]) -> None:
    cuts = make_cuts(np.array(column, np.float32)[:, None], [None])
    assert len(cuts.points[0]) == 0
    np.testing.assert_array_equal(encode(np.float32([0, np.nan, 9]), 0, cuts), [0, ENCODING.missing, 0])


def test_categories() -> None:
    cuts = Cuts(points=(np.empty(0, np.float32),), levels=(3,))
    column = np.array([0, 2, 3, -1, np.nan, 254], np.float32)
    np.testing.assert_array_equal(
        encode(column, 0, cuts), [0, 2, ENCODING.missing, ENCODING.missing, ENCODING.missing, ENCODING.missing]
    )
    np.testing.assert_array_equal(
        decode(np.array([[0], [2], [255]], np.uint8), decode_table(cuts)), [[0], [2], [np.nan]]
    )


def test_decoding_and_coding_again_changes_nothing() -> None:
    rng = np.random.default_rng(0)
    values = rng.standard_normal((40_000, 3)).astype(np.float32)
    values[rng.random(values.shape) < 0.1] = np.nan
    cuts = make_cuts(values, [None] * 3)
    codes = np.column_stack([encode(values[:, f], f, cuts) for f in range(3)])
    back = decode(codes, decode_table(cuts))
    np.testing.assert_array_equal(np.column_stack([encode(back[:, f], f, cuts) for f in range(3)]), codes)
    strict = array_api_strict.asarray
    again = decode(strict(codes), strict(decode_table(cuts)), array_api_strict)
    np.testing.assert_array_equal(np.asarray(again), back)


def test_xgboost_takes_exactly_these_cuts() -> None:
    points = np.unique(np.random.default_rng(0).standard_normal(252).astype(np.float32))
    cuts = Cuts(points=(points, np.empty(0, np.float32)), levels=(None, 5))
    rows, types = reference(cuts)
    matrix = xgboost.QuantileDMatrix(rows, feature_types=types, max_bin=256)
    starts, values = matrix.get_quantile_cut()
    np.testing.assert_array_equal(values[1 : len(points) + 1], points)
    assert starts[1] == len(points) + 3 == 255
    np.testing.assert_array_equal(values[int(starts[1]) :], range(5))
