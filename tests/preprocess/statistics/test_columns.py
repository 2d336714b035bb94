"""Arrow columns as arrays: the same for any width, chunking and way of writing."""

import datetime as dt
import decimal

import numpy as np
import pyarrow as pa
import pytest

from pipeline.preprocess.statistics.columns import ConversionError, numbers, seconds, texts


def _words(column):
    codes, words = texts(column)
    return [*words.to_pylist(), None], codes


def _texts(column):
    words, codes = _words(column)
    return [words[code] for code in codes]


def test_float32_is_not_copied():
    column = pa.chunked_array([pa.array([1.5, 2.5], pa.float32())])
    got = numbers(column)
    assert got.dtype == np.float32
    assert np.shares_memory(got, column.chunk(0).to_numpy())
    assert not got.flags.writeable


@pytest.mark.parametrize(
    "column",
    [
        pa.array([1, None, 3], pa.int8()),
        pa.array([1, None, 3], pa.int64()),
        pa.array([1, None, 3], pa.uint64()),
        pa.array([1.0, None, 3.0], pa.float32()),
        pa.array([1.0, None, 3.0], pa.float64()),
        pa.array([1.0, np.nan, 3.0], pa.float64()),
        pa.array([np.float16(1), None, np.float16(3)], pa.float16()),
        pa.array([decimal.Decimal("1.00"), None, decimal.Decimal("3.00")], pa.decimal128(10, 2)),
        pa.array(["1", None, "3.0"]),
        pa.array([1, None, 3]).dictionary_encode(),
        pa.chunked_array([[1], [None, 3]]),
        pa.chunked_array([[9, 1], [None], [3]]).slice(1),
        pa.array([dt.time(0, 0, 1), None, dt.time(0, 0, 3)]),
        pa.array([1_000, None, 3_000], pa.duration("ms")),
    ],
    ids=lambda column: str(column.type),
)
def test_numbers_of_any_type(column):
    for dtype in (np.float32, np.float64):
        got = numbers(column, dtype)
        assert got.dtype == dtype
        np.testing.assert_array_equal(got, np.array([1, np.nan, 3], dtype=dtype))


def test_booleans_and_nulls():
    np.testing.assert_array_equal(numbers(pa.array([True, None, False])), [1, np.nan, 0])
    np.testing.assert_array_equal(numbers(pa.nulls(2)), [np.nan, np.nan])


def test_integers_round_once():
    exact = 2**24 + 1
    near = 2**53 + 2**29 + 1  # by way of float64 it would be rounded down
    got = numbers(pa.array([exact, near, None], pa.int64()))
    np.testing.assert_array_equal(got[:2], np.array([exact, near]).astype(np.float32))


def test_float64_beyond_float32_is_infinite():
    np.testing.assert_array_equal(numbers(pa.array([1e300, -1e300])), [np.inf, -np.inf])


def test_errors_hold_no_values():
    with pytest.raises(ConversionError, match="cannot be read as numbers") as error:
        numbers(pa.array(["1", "secret"]))
    assert "secret" not in str(error.value)
    with pytest.raises(ConversionError, match="timestamp"):
        numbers(pa.array([dt.datetime(2020, 1, 1)]))
    with pytest.raises(ConversionError, match="cannot be read as times") as error:
        seconds(pa.array(["secret"]))
    assert "secret" not in str(error.value)
    with pytest.raises(ConversionError, match="int64"):
        seconds(pa.array([1]))


@pytest.mark.parametrize(
    "column",
    [
        pa.array(["b", None, "a", "b"]),
        pa.array(["b", None, "a", "b"], pa.large_string()),
        pa.array(["b", None, "a", "b"], pa.string_view()),
        pa.array(["b", None, "a", "b"]).dictionary_encode(),
        pa.chunked_array([["b", None], ["a", "b"]]),
        pa.chunked_array([pa.array(["b", None]).dictionary_encode(), pa.array(["a", "b"]).dictionary_encode()]),
        pa.DictionaryArray.from_arrays(pa.array([1, 3, 0, 2], pa.int8()), pa.array(["a", "b", "b", None])),
    ],
    ids=lambda column: str(column.type),
)
def test_texts_of_any_type(column):
    assert _texts(column) == ["b", None, "a", "b"]
    words, _ = _words(column)
    assert len(set(words)) == len(words)


@pytest.mark.parametrize(
    "column",
    [
        pa.array([5, None, -7], pa.int8()),
        pa.array([5.0, None, -7.0]),
        pa.array([5.0, np.nan, -7.0], pa.float32()),
        pa.array([decimal.Decimal("5.00"), None, decimal.Decimal("-7.00")]),
        pa.array([5, None, -7]).dictionary_encode(),
    ],
    ids=lambda column: str(column.type),
)
def test_numbers_are_written_alike(column):
    assert _texts(column) == ["5", None, "-7"]


def test_other_values_are_written():
    assert _texts(pa.array([True, None, False])) == ["true", None, "false"]
    assert _texts(pa.array([0.1, 1e11, 123456789012.0])) == ["0.1", "100000000000", "123456789012"]
    assert _texts(pa.array([np.float32(0.1)], pa.float32())) == ["0.1"]
    assert _texts(pa.nulls(2)) == [None, None]
    moments = [dt.datetime(2020, 1, 2, 3)]
    written = _texts(pa.array(moments, pa.timestamp("s")))
    assert written == _texts(pa.array(moments, pa.timestamp("ns")))
    assert written == _texts(pa.array(moments, pa.timestamp("ms", "UTC")))
    assert _texts(pa.array([dt.date(2020, 1, 2)])) == ["2020-01-02"]


def test_a_dictionary_that_joins():
    column = pa.DictionaryArray.from_arrays(pa.array([0, 1, 2]), pa.array([0.5, 0.25, 0.5]))
    words, codes = _words(column)
    assert words == ["0.5", "0.25", None]
    assert codes.tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    "column",
    [
        *[pa.array([-1_500, None, 86_400_000], pa.timestamp("ms")).cast(pa.timestamp(unit)) for unit in ("us", "ns")],
        pa.array([-1_500, None, 86_400_000], pa.timestamp("ms")),
        pa.array([-1_500, None, 86_400_000], pa.timestamp("ms", "Asia/Tokyo")),
        pa.array(["1969-12-31 23:59:58.5", None, "1970-01-02"]),
        pa.array(["1969-12-31T23:59:58.5", None, "1970-01-02"]).dictionary_encode(),
    ],
    ids=lambda column: str(column.type),
)
def test_times_of_any_type(column):
    got, missing = seconds(column)
    assert got[[0, 2]].tolist() == [-2, 86_400]
    assert missing.tolist() == [False, True, False]


def test_dates():
    days = pa.array([-1, 0, 18_000], pa.date32())
    got, missing = seconds(days)
    assert missing is None
    assert got.tolist() == [-86_400, 0, 18_000 * 86_400]
    assert seconds(days.cast(pa.date64()))[0].tolist() == got.tolist()


def test_times_that_microseconds_cannot_hold_stay_distinct():
    ticks = pa.array([2**63 - 1, 2**63 - 2, -(2**62), 0, None], pa.int64())
    codes, words = texts(ticks.cast(pa.timestamp("s")))
    assert len(words) == 4
    assert codes.tolist() == [0, 1, 2, 3, 4]
    assert words[3].as_py() == texts(pa.array([0], pa.timestamp("ns")))[1][0].as_py()
