"""Applies elementary functions to arrays of any namespace (NumPy, CuPy, array-api-strict).

`xp` is the namespace.  No function modifies its input; NaN is a missing value and stays NaN, except in `impute`.
"""

from collections.abc import Sequence
from typing import Any

DAY_SECONDS = 86_400
PARTS = ("year", "month", "day", "weekday", "hour", "minute", "dayofyear", "epoch")


def impute(x: Any, value: float, xp: Any) -> Any:
    """(rows,) floats: `value` where `x` is missing."""
    return xp.where(xp.isnan(x), xp.asarray(value, dtype=x.dtype), x)


def indicator(x: Any, xp: Any) -> Any:
    """(rows,) float32: 1 where `x` is missing, else 0."""
    return xp.asarray(xp.isnan(x), dtype=xp.float32)


def clip(x: Any, low: float, high: float, xp: Any) -> Any:
    """(rows,) floats: `x` kept within [low, high]."""
    return xp.clip(x, low, high)


def log1p(x: Any, xp: Any) -> Any:
    """(rows,) floats: sign(x) * log(1 + |x|)."""
    return xp.sign(x) * xp.log1p(xp.abs(x))


def standardise(x: Any, mean: float, deviation: float, xp: Any) -> Any:
    """(rows,) floats: (x - mean) / deviation."""
    del xp  # arithmetic alone: works on any array
    return (x - mean) / deviation


def lookup(codes: Any, table: Any, xp: Any) -> Any:
    """(rows,) of `table`'s type: table[codes], codes (rows,) int64."""
    return xp.take(table, codes, axis=0)


def time_parts(seconds: Any, parts: Sequence[str], origin_seconds: int, xp: Any) -> dict[str, Any]:
    """Each of `parts` (see PARTS) of seconds since 1970 (rows,) int64.

    All are int64 (weekday: Monday is 0) except `epoch`: float64 days since `origin_seconds`, which keep their precision
    in float32 (days since 1970 would be rounded to three minutes).
    """
    days = seconds // DAY_SECONDS
    within = seconds - days * DAY_SECONDS
    found: dict[str, Any] = {}
    if not {"year", "month", "day", "dayofyear"}.isdisjoint(parts):
        found |= _civil(days, xp)
    if "weekday" in parts:
        found["weekday"] = (days + 3) % 7  # 1970 began on a Thursday
    if "hour" in parts:
        found["hour"] = within // 3_600
    if "minute" in parts:
        found["minute"] = within // 60 % 60
    if "epoch" in parts:
        found["epoch"] = (xp.asarray(seconds, dtype=xp.float64) - float(origin_seconds)) / DAY_SECONDS
    return {part: found[part] for part in parts}


def _civil(days: Any, xp: Any) -> dict[str, Any]:
    """Year, month, day and day of the year of days since 1970, in the Gregorian calendar.

    Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", civil_from_days: eras of 400 years from 1 March.
    """
    shifted = days + 719_468
    era = shifted // 146_097
    of_era = shifted - era * 146_097
    year_of_era = (of_era - of_era // 1_460 + of_era // 36_524 - of_era // 146_096) // 365
    of_year = of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)  # from 1 March
    march_month = (5 * of_year + 2) // 153
    day = of_year - (153 * march_month + 2) // 5 + 1
    month = xp.where(march_month < 10, march_month + 3, march_month - 9)
    year = year_of_era + era * 400 + xp.asarray(month <= 2, dtype=xp.int64)
    before = year - 1
    new_year = 365 * before + before // 4 - before // 100 + before // 400 - 719_162  # days since 1970 of 1 January
    return {"year": year, "month": month, "day": day, "dayofyear": days - new_year + 1}
