"""Measures how far a column of whole numbers counts its rows: in order from row to row, and distinct.

A row number, or an id given in the order of the rows, gives a model the position of a row in the files.  If the files
are sorted by something correlated with the target, it explains the target in the training rows and nothing anywhere
else.

`Order` is collected by fragment and merged in the order of the fragments.  It depends on the rows alone, not on which
worker read them: neighbours are counted across the borders of fragments too, and distinct values by those with the
smallest hashes (k minimum values; Bar-Yossef and others, "Counting distinct elements in a data stream", 2002).
"""

import datetime
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.config.job import Column
from pipeline.data.keys import mix, seed_for

LEAST_ROWS = 1_000
LEAST_SHARE = 0.99  # of the values that are distinct, and of the adjacent pairs that are in order
CANDIDATE_SHARE = 0.9  # of adjacent pairs in order: a column with fewer is no candidate, once a few pairs are known
PROBE_ROWS = 1_024  # of a fragment, tested first
FEW = 10  # this few adjacent pairs out of order decide nothing yet
KEPT_HASHES = 2_048
CLOCK_STEP = 3  # a number that grows by more from row to row, and that reads as a time, is a clock
_SEED = seed_for(0, "distinct")

Kind = Literal["row_number", "clock"]


@dataclass(frozen=True)
class Distinct:
    """The values with the smallest hashes, and how many rows have each: a share of distinct values in bounded memory."""

    hashes: npt.NDArray[np.uint64] = field(default_factory=lambda: np.zeros(0, np.uint64), compare=False)  # sorted
    rows: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64), compare=False)

    @classmethod
    def of(cls, values: npt.NDArray[np.int64]) -> "Distinct":
        hashes, rows = np.unique(mix(values.view(np.uint64), _SEED), return_counts=True)
        return cls(hashes[:KEPT_HASHES].copy(), rows[:KEPT_HASHES].astype(np.int64))

    def merge(self, right: Self) -> "Distinct":
        hashes, places = np.unique(np.concatenate([self.hashes, right.hashes]), return_inverse=True)
        rows = np.bincount(places, weights=np.concatenate([self.rows, right.rows]), minlength=len(hashes))
        return Distinct(hashes[:KEPT_HASHES], rows[:KEPT_HASHES].astype(np.int64))

    @property
    def share(self) -> float:
        """The share of distinct values among the rows."""
        return len(self.hashes) / max(1, int(self.rows.sum()))


@dataclass(frozen=True)
class Order:
    """The order of a column's whole numbers, missing values left out, in row order."""

    values: int = 0
    rising: int = 0  # adjacent pairs of which the second value is larger
    falling: int = 0
    first: int = 0
    last: int = 0
    low: int = 0
    high: int = 0
    distinct: Distinct = field(default_factory=Distinct)

    def merge(self, right: Self) -> "Order":
        if not self.values or not right.values:
            return self if self.values else right
        return Order(
            values=self.values + right.values,
            rising=self.rising + right.rising + (right.first > self.last),
            falling=self.falling + right.falling + (right.first < self.last),
            first=self.first,
            last=right.last,
            low=min(self.low, right.low),
            high=max(self.high, right.high),
            distinct=self.distinct.merge(right.distinct),
        )

    @property
    def in_order(self) -> float:
        """The share of adjacent pairs that are in the prevailing order."""
        return max(self.rising, self.falling) / max(1, self.values - 1)

    @property
    def candidate(self) -> bool:
        """Whether the column may still prove to be in order."""
        outside = self.values - 1 - max(self.rising, self.falling)
        return outside <= FEW or self.in_order >= CANDIDATE_SHARE

    @property
    def kind(self) -> Kind | None:
        """What the column counts; None where it is an ordinary number."""
        if self.values < LEAST_ROWS or self.in_order < LEAST_SHARE or self.distinct.share < LEAST_SHARE:
            return None
        return "clock" if self._is_clock else "row_number"

    @property
    def _is_clock(self) -> bool:
        """Whether the numbers read as times: Unix times of 1990 to 2100, or dates such as 20261129, more than 3 apart."""
        if (self.high - self.low) / (self.values - 1) <= CLOCK_STEP:
            return False
        unix = any(_FIRST <= self.low // unit and self.high // unit < _LAST for unit in _UNITS)
        return unix or (_is_date(self.low) and _is_date(self.high))


_FIRST, _LAST = 631_152_000, 4_102_444_800  # the years 1990 and 2100, in seconds since 1970
_UNITS = (1, 10**3, 10**6, 10**9)  # per second


def _is_date(number: int) -> bool:
    try:
        return 1900 <= datetime.datetime.strptime(f"{number:08d}", "%Y%m%d").replace(tzinfo=datetime.UTC).year < 2100
    except ValueError:
        return False


def merge_orders(left: Order | None, right: Order | None) -> Order | None:
    """Both together, the fragments of `left` first; None where there is no order."""
    if left is None or right is None:
        return None
    merged = left.merge(right)
    return merged if merged.candidate else None


def collect_order(column: pa.ChunkedArray, setting: Column) -> Order | None:
    """The order of a column that may be a row number; None where it cannot be.

    Integers, and floats whose values are all whole: with one value missing, pandas writes a row number as
    float64.  A column whose kind the job names is never a row number.
    """
    dtype = column.type
    if setting.kind != "auto" or not (pa.types.is_integer(dtype) or pa.types.is_floating(dtype)):
        return None
    probe = _whole(column.slice(0, PROBE_ROWS))
    if probe is None:
        return None
    found = _ordered(probe)
    if not found.candidate:
        return None
    if len(column) > PROBE_ROWS:
        values = _whole(column)
        if values is None:
            return None
        probe, found = values, _ordered(values)
        if not found.candidate:
            return None
    return replace(found, distinct=Distinct.of(probe)) if found.values else found


def _ordered(values: npt.NDArray[np.int64]) -> Order:
    """The order without the distinct values."""
    if not len(values):
        return Order()
    return Order(
        values=len(values),
        rising=int(np.count_nonzero(values[1:] > values[:-1])),
        falling=int(np.count_nonzero(values[1:] < values[:-1])),
        first=int(values[0]),
        last=int(values[-1]),
        low=int(values.min()),
        high=int(values.max()),
    )


def _whole(column: pa.ChunkedArray) -> npt.NDArray[np.int64] | None:
    """The values that are present as int64, exactly; None where a value is not a whole number within int64."""
    array = column.drop_null() if column.null_count else column
    values: npt.NDArray[Any] = array.to_numpy()
    if values.dtype.kind == "u":
        return values.astype(np.int64) if values.dtype.itemsize < 8 or not (values >> np.uint64(63)).any() else None
    if values.dtype.kind == "i":
        return values.astype(np.int64, copy=False)
    if values.dtype == np.float16:
        values = values.astype(np.float32)
    values = values[~np.isnan(values)]
    with np.errstate(invalid="ignore"):
        if not (np.abs(values) < 2.0**53).all() or (np.rint(values) != values).any():
            return None
    return values.astype(np.int64)
