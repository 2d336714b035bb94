"""Dates written as text: found among the levels of a column, which would make each date a category of its own."""

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

LEAST_LEVELS = 20  # fewer may be anything
LEAST_SHARE = 0.95  # of the levels that are looked at
MOST_LEVELS = 10_000  # that are looked at
_PROBE_LEVELS = 100  # the first ones: they spare most columns the rest
_CLOCK = r"[ T]\d{2}:\d{2}(:\d{2}(\.\d{1,6})?)?"
_ISO = rf"^\d{{4}}-\d{{2}}-\d{{2}}({_CLOCK})?$"  # what kind = "time" reads
_ZONED = rf"^\d{{4}}-\d{{2}}-\d{{2}}{_CLOCK}(Z|[+-]\d{{2}}:?\d{{2}})$"
# Whole dates, as four digits distinguish a year from a version or a price, with the format that strptime reads them by.
_DATES = {
    "%d.%m.%Y": r"\d{1,2}\.\d{1,2}\.\d{4}",
    "%d/%m/%Y": r"\d{1,2}/\d{1,2}/\d{4}",
    "%m/%d/%Y": r"\d{1,2}/\d{1,2}/\d{4}",
    "%d-%m-%Y": r"\d{1,2}-\d{1,2}-\d{4}",
    "%m-%d-%Y": r"\d{1,2}-\d{1,2}-\d{4}",
    "%Y/%m/%d": r"\d{4}/\d{1,2}/\d{1,2}",
    "%Y.%m.%d": r"\d{4}\.\d{1,2}\.\d{1,2}",
    "%d-%b-%Y": r"\d{1,2}-[A-Za-z]{3}-\d{4}",
    "%d %b %Y": r"\d{1,2} [A-Za-z]{3} \d{4}",
}
_CLOCKS = {"": "", " %H:%M": r" \d{1,2}:\d{2}", " %H:%M:%S": r" \d{1,2}:\d{2}:\d{2}"}


@dataclass(frozen=True)
class TextDates:
    """Levels that read as dates."""

    looked_at: int
    share: float  # of them that read as dates
    format: str | None  # of strptime; None: ISO 8601 without a zone
    all_read: bool  # whether kind = "time" reads every level


def text_dates(levels: pa.Array) -> TextDates | None:
    """What the levels show, if they are dates; None if they are anything else."""
    if len(levels) < LEAST_LEVELS:
        return None
    looked_at = levels.slice(0, MOST_LEVELS)
    for form, read in _forms():
        if _share(read(looked_at.slice(0, _PROBE_LEVELS))) < LEAST_SHARE - 0.1:
            continue
        share = _share(read(looked_at))
        if share >= LEAST_SHARE:
            return TextDates(len(looked_at), share, form, form is None and share == 1 and len(looked_at) == len(levels))
    return None


def _forms() -> "Iterator[tuple[str | None, _Reader]]":
    yield None, _Reader(_ISO, "%Y-%m-%d", date=True)
    yield "%Y-%m-%dT%H:%M:%S%z", _Reader(_ZONED, "%Y-%m-%d", date=True)
    for date, pattern in _DATES.items():
        for clock, more in _CLOCKS.items():
            yield date + clock, _Reader(f"^{pattern}{more}$", date + clock)


@dataclass(frozen=True)
class _Reader:
    pattern: str
    format: str
    date: bool = False  # only the first ten characters are parsed

    def __call__(self, levels: pa.Array) -> pa.Array:
        """(levels,) bool: those that are a date."""
        fits = pc.match_substring_regex(levels, self.pattern)
        if not pc.any(fits).as_py():
            return fits
        texts = pc.utf8_slice_codeunits(levels, 0, 10) if self.date else levels
        parsed = pc.strptime(pc.if_else(fits, texts, None), format=self.format, unit="s", error_is_null=True)
        return pc.is_valid(parsed)


def _share(found: pa.Array) -> float:
    return float(pc.mean(found.cast(pa.int8())).as_py() or 0)
