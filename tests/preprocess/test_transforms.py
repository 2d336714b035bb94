"""Elementary functions on every array namespace."""

import datetime as dt
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.preprocess import transforms
from pipeline.preprocess.transforms import PARTS

VALUES = np.array([-3.5, 0.0, np.nan, 1e-9, 7.0, 1e6])


def test_impute(space):
    got = transforms.impute(space.make(VALUES), 2.5, space.xp)
    np.testing.assert_array_equal(space.show(got), [-3.5, 0.0, 2.5, 1e-9, 7.0, 1e6])


def test_indicator(space):
    got = space.show(transforms.indicator(space.make(VALUES), space.xp))
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, [0, 0, 1, 0, 0, 0])


def test_clip_keeps_missing(space):
    got = transforms.clip(space.make(VALUES), -1.0, 5.0, space.xp)
    np.testing.assert_array_equal(space.show(got), [-1, 0, np.nan, 1e-9, 5, 5])


def test_log1p_is_odd(space):
    got = space.show(transforms.log1p(space.make(VALUES), space.xp))
    np.testing.assert_allclose(got, np.sign(VALUES) * np.log1p(np.abs(VALUES)), rtol=1e-12)
    np.testing.assert_array_equal(space.show(transforms.log1p(space.make(-VALUES), space.xp)), -got)


def test_standardise(space):
    got = transforms.standardise(space.make(VALUES), 2.0, 4.0, space.xp)
    np.testing.assert_allclose(space.show(got), (VALUES - 2.0) / 4.0)


def test_lookup(space):
    table = np.array([5, 6, np.nan], dtype=np.float32)
    got = space.show(transforms.lookup(space.make(np.array([2, 0, 1, 1])), space.make(table), space.xp))
    np.testing.assert_array_equal(got, np.array([np.nan, 5, 6, 6], dtype=np.float32))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_float_type_stays(space, dtype):
    x = space.make(VALUES.astype(dtype))
    for got in (
        transforms.impute(x, 0.1, space.xp),
        transforms.clip(x, -1.0, 1.0, space.xp),
        transforms.log1p(x, space.xp),
        transforms.standardise(x, 0.5, 2.0, space.xp),
    ):
        assert space.show(got).dtype == dtype


def test_inputs_stay_as_they_are(space):
    x = space.make(VALUES.copy())
    transforms.impute(x, 1.0, space.xp)
    transforms.log1p(x, space.xp)
    transforms.clip(x, 0.0, 1.0, space.xp)
    transforms.standardise(x, 1.0, 2.0, space.xp)
    np.testing.assert_array_equal(space.show(x), VALUES)


def _expected(moment: dt.datetime) -> dict[str, int]:
    day = moment.timetuple()
    return {
        "year": day.tm_year,
        "month": day.tm_mon,
        "day": day.tm_mday,
        "weekday": day.tm_wday,
        "hour": day.tm_hour,
        "minute": day.tm_min,
        "dayofyear": day.tm_yday,
    }


def _seconds(moment: dt.datetime) -> int:
    return math.floor((moment - dt.datetime(1970, 1, 1)).total_seconds())


def test_parts_of_times(space):
    moments = [
        dt.datetime(1969, 12, 31, 23, 59, 59),
        dt.datetime(1970, 1, 1),
        dt.datetime(2000, 2, 29, 12, 30),
        dt.datetime(2013, 12, 31, 6, 5),
        dt.datetime(1900, 3, 1, 1, 1, 1),
    ]
    seconds = space.make(np.array([_seconds(moment) for moment in moments]))
    got = transforms.time_parts(seconds, PARTS, 86_400, space.xp)
    for part in PARTS[:-1]:
        assert space.show(got[part]).tolist() == [_expected(moment)[part] for moment in moments], part
    np.testing.assert_allclose(space.show(got["epoch"]), (space.show(seconds) - 86_400) / 86_400)


@given(st.lists(st.datetimes(), min_size=1, max_size=20))
def test_parts_are_those_of_the_calendar(moments):
    seconds = np.array([_seconds(moment) for moment in moments])
    got = transforms.time_parts(seconds, PARTS[:-1], 0, np)
    for i, moment in enumerate(moments):
        assert {part: int(values[i]) for part, values in got.items()} == _expected(moment)


def test_days_between_the_ends_of_time():
    seconds = np.array([-(2**63), 2**63 - 1])
    (epoch,) = transforms.time_parts(seconds, ["epoch"], -(2**63) - 1_000, np).values()
    np.testing.assert_allclose(epoch, [0, 2.0**64 / 86_400], rtol=1e-12, atol=1)
