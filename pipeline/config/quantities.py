"""Parses the durations and amounts of money that a user writes."""

import re

LONGEST_SECONDS = 315_360_000  # 10 years
LARGEST_AMOUNT = 1e12  # of money, in any currency
_LONGEST_TEXT = 50  # characters of a duration
_DURATION_FORM = "expected a duration, e.g. 90s, 10m or 1h30m, or a number of seconds"
_NUMBER = r"([0-9]+(?:\.[0-9]+)?)\s*"
_DURATION = re.compile(rf"(?:{_NUMBER}d)?\s*(?:{_NUMBER}h)?\s*(?:{_NUMBER}m(?:in)?)?\s*(?:{_NUMBER}s)?")
_UNITS_SECONDS = (86_400, 3_600, 60, 1)  # of the pattern's groups


def parse_duration(duration: str | float) -> float:
    """The seconds of a duration: a number of seconds, or numbers with d, h, m (min) and s; ValueError says what is allowed.

    >>> [parse_duration(text) for text in ("90s", "10m", "1h30m", "1.5 h", "30 min", "0s", "2", 2)]
    [90.0, 600.0, 5400.0, 5400.0, 1800.0, 0.0, 2.0, 2.0]
    """
    seconds = _seconds(duration) if isinstance(duration, str) else _plain_number(duration, _DURATION_FORM)
    if not seconds >= 0:  # also not a number
        raise ValueError(_DURATION_FORM)
    if seconds > LONGEST_SECONDS:
        raise ValueError(f"expected at most {LONGEST_SECONDS // 86_400}d")
    return float(seconds)


def parse_deadline(duration: str | float) -> float:
    """The seconds of a duration above 0; ValueError says what is allowed."""
    seconds = parse_duration(duration)
    if seconds == 0:
        raise ValueError("expected more than 0 seconds")
    return seconds


def parse_budget(amount: str | float) -> float:
    """An amount of money above 0, without its currency; ValueError says what is allowed.

    >>> parse_budget("12.50")
    12.5
    """
    wanted = "expected an amount above 0, without its currency, e.g. 5 or 12.50"
    value = _plain_number(amount, wanted)
    if not value > 0:  # also not a number
        raise ValueError(wanted)
    if value > LARGEST_AMOUNT:
        raise ValueError(f"expected at most {LARGEST_AMOUNT:g}")
    return float(value)


def _seconds(text: str) -> float:
    """The seconds of a duration written as text, of any size."""
    if len(text) > _LONGEST_TEXT:
        raise ValueError(_DURATION_FORM)
    found = _DURATION.fullmatch(text.strip())
    if found is None or not any(found.groups()):
        return _plain_number(text, _DURATION_FORM)
    return sum(
        float(number) * unit for number, unit in zip(found.groups(), _UNITS_SECONDS, strict=True) if number is not None
    )


def _plain_number(value: str | float, wanted: str) -> float:
    """A number or its text, of any size; ValueError with what is wanted for anything else."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise ValueError(wanted)
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        raise ValueError(wanted) from None
