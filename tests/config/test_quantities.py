"""Durations and amounts of money as users write them."""

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config.quantities import LONGEST_SECONDS, parse_budget, parse_deadline, parse_duration

DURATIONS = {
    "90s": 90, "10m": 600, "2h": 7_200, "1h30m": 5_400, "1h 30m": 5_400, "1d2h3m4.5s": 93_784.5, "6h": 21_600,
    "30 min": 1_800, "1.5 h": 5_400, "1d": 86_400, "0s": 0, "45": 45, "1e3": 1_000, " 5m ": 300, 12: 12, 0.5: 0.5,
    "3650d": LONGEST_SECONDS,
}  # fmt: skip


@pytest.mark.parametrize("duration", DURATIONS)
def test_durations(duration: str | float) -> None:
    assert parse_duration(duration) == DURATIONS[duration]


NO_DURATIONS = [
    "", " ", "soon", "m", "10 m 1 h", "1h1h", "-5m", "5 m s", "1,5h", "5ms", "10M", "nan", -1, float("nan"), True, None,
    [5], "1" * 51, "٣m",
]  # fmt: skip


@pytest.mark.parametrize("duration", NO_DURATIONS)
def test_what_is_no_duration_is_refused_with_examples(duration: Any) -> None:
    with pytest.raises(ValueError, match=r"^expected a duration, e\.g\. 90s, 10m or 1h30m, or a number of seconds$"):
        parse_duration(duration)


@pytest.mark.parametrize("duration", ["3651d", "99999999999h", "inf", float("inf"), 10**400])
def test_a_duration_has_a_limit(duration: str | float) -> None:
    with pytest.raises(ValueError, match="expected at most 3650d"):
        parse_duration(duration)


@given(
    st.integers(0, 3_000), st.integers(0, 30), st.integers(0, 100), st.integers(0, 10**6), st.sampled_from(["", " "])
)
def test_the_parts_of_a_duration_add_up(days: int, hours: int, minutes: int, seconds: int, gap: str) -> None:
    text = gap.join([f"{days}d", f"{hours}h", f"{minutes}m", f"{seconds}s"])
    assert parse_duration(text) == ((days * 24 + hours) * 60 + minutes) * 60 + seconds


@given(st.text() | st.text("0123456789dhmins. ") | st.floats() | st.integers())
def test_any_text_or_number_is_a_duration_or_a_value_error(duration: Any) -> None:
    with contextlib.suppress(ValueError):
        assert 0 <= parse_duration(duration) <= LONGEST_SECONDS


def test_a_deadline_is_above_0() -> None:
    assert parse_deadline("10m") == 600
    with pytest.raises(ValueError, match="expected more than 0 seconds"):
        parse_deadline("0s")


def test_a_budget_is_a_plain_positive_number() -> None:
    assert [parse_budget(amount) for amount in ("5", "12.50", 3, 0.01)] == [5, 12.5, 3, 0.01]


@pytest.mark.parametrize("amount", ["", "0", 0, "-5", "nan", "5 EUR", "€5", "1,50", True, None])
def test_what_is_no_budget_is_refused_with_examples(amount: Any) -> None:
    with pytest.raises(ValueError, match=r"^expected an amount above 0, without its currency, e\.g\. 5 or 12\.50$"):
        parse_budget(amount)


@pytest.mark.parametrize("amount", ["inf", 1e13, 10**400])
def test_a_budget_has_a_limit(amount: str | float) -> None:
    with pytest.raises(ValueError, match=r"expected at most 1e\+12"):
        parse_budget(amount)
