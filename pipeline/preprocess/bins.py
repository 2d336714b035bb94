"""Computes global cut points: once, from a sample, the same for every worker.

A feature with cuts `c[0] < c[1] < ...` has the bins `(-inf, c[0]), [c[0], c[1]), ...`; a bin's number is its code.
Rows are held as codes, of the type that config/encoding.py defines, until XGBoost has its own matrix.
XGBoost takes the cuts from a small reference matrix whose rows are the cut points.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import ModuleType
from typing import Any

import numpy as np

from pipeline.config.encoding import ENCODING

LOWEST, HIGHEST = np.finfo(np.float32).min, np.finfo(np.float32).max  # reference rows, see `reference`
CHUNK_ROWS = 16_384  # rows coded or decoded at a time, so that the intermediate arrays stay in the cache
MAX_STEPS = 3  # cuts in one bucket of `_Buckets` up to which it is faster than a binary search
MAX_TABLES = (
    1_024  # features with tables of their own: each takes 66 kB and 1.7 ms to make, too much for few rows of many
)


@dataclass(frozen=True)
class Cuts:
    """The cut points of every feature."""

    points: tuple[np.ndarray, ...]  # per feature: (cuts,) float32, sorted, distinct; empty for categories
    levels: tuple[int | None, ...]  # per feature: number of codes of a categorical feature, None for a numeric one

    def __len__(self) -> int:
        return len(self.levels)


def make_cuts(
    columns: Iterable[np.ndarray] | np.ndarray,
    levels: Sequence[int | None],
    weights: np.ndarray | None = None,
    max_bin: int = ENCODING.max_bin,
) -> Cuts:
    """Cuts at the quantiles of a sample.

    `columns`: float32 (rows,) per feature, or (rows, features); NaN is missing.  `weights`: (rows,) or None.
    A feature with at most `max_bin` distinct values is cut at exactly those.
    """
    columns = columns.T if isinstance(columns, np.ndarray) else columns
    bins = min(max_bin, ENCODING.most_bins)
    points = tuple(
        np.empty(0, np.float32) if count is not None else _quantiles(column, weights, bins)
        for column, count in zip(columns, levels, strict=True)
    )
    return Cuts(points=points, levels=tuple(levels))


def _quantiles(column: np.ndarray, weights: np.ndarray | None, bins: int) -> np.ndarray:
    """At most `bins - 1` cuts that divide the weight evenly.

    A value heavier than an even share opens a bin, which it may share with the next higher values; it counts as one
    share, so that the others keep their bins.
    """
    present = np.isfinite(column)
    values, mass = _distinct(column[present], None if weights is None else weights[present])
    if len(values) <= bins:
        return values[1:]
    heavy = np.zeros(len(values), dtype=bool)
    while True:
        share = mass[~heavy].sum() / (bins - heavy.sum())
        more = ~heavy & (mass > share)
        if not more.any():
            break
        heavy |= more
    before = np.cumsum(np.where(heavy, share, mass))
    before -= before[0]  # the lowest value opens the first bin
    number = np.minimum(before / share, bins - 1).astype(np.int64)
    return values[1:][np.diff(number) > 0]


def _distinct(values: np.ndarray, weights: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Distinct values (float32, sorted; -0.0 is 0.0) and the weight of each (float64)."""
    values = values.astype(np.float32) + np.float32(0)
    order = None if weights is None else np.argsort(values, kind="stable")
    ranked = np.sort(values) if order is None else values[order]
    if not len(ranked):
        return ranked, np.empty(0)
    starts = np.flatnonzero(np.append(True, ranked[1:] != ranked[:-1]))
    if order is None or weights is None:
        return ranked[starts], np.diff(np.append(starts, len(ranked))).astype(np.float64)
    return ranked[starts], np.add.reduceat(weights[order].astype(np.float64), starts)


def encode(column: Any, feature: int, cuts: Cuts, xp: ModuleType = np) -> Any:
    """The bin codes (rows,) of one feature's float32 column; NaN, and an unknown category, become the code for missing."""
    missing, dtype = ENCODING.missing, getattr(xp, ENCODING.dtype)
    levels = cuts.levels[feature]
    if levels is not None:
        known = (column >= 0) & (column < levels)
        return xp.astype(xp.where(known, column, xp.asarray(missing, dtype=column.dtype)), dtype)
    points = cuts.points[feature]
    if isinstance(column, np.ndarray) and xp is np and len(cuts) <= MAX_TABLES:
        buckets = _buckets(points.tobytes())
        if buckets.steps <= MAX_STEPS:
            return buckets.encode(np.ascontiguousarray(column, dtype=np.float32))
    codes = xp.searchsorted(xp.asarray(points), column, side="right")
    return xp.astype(xp.where(xp.isnan(column), xp.asarray(missing, dtype=codes.dtype), codes), dtype)


class _Buckets:
    """Encodes by the upper 16 bits of a float32: a table gives the lowest code of the bucket, a few comparisons the
    rest.

    6 ns a value against 48 for a binary search.  A NaN whose upper mantissa bits are all 0, which no
    arithmetic produces, would be treated as an infinity.
    """

    def __init__(self, points: np.ndarray) -> None:
        upper = np.arange(65_536, dtype=np.uint32) << 16
        negative = upper >= 0x8000_0000
        toward_zero, away = upper.view(np.float32), (upper | 0xFFFF).view(np.float32)
        low = np.where(negative, away, toward_zero)
        high = np.where(negative, toward_zero, away)
        low[0xFF80], high[0x7F80] = -np.inf, np.inf  # infinity shares these buckets with NaNs
        lowest = np.searchsorted(points, low, side="right")
        highest = np.searchsorted(points, high, side="right")
        number = ~np.isnan(low) & ~np.isnan(high)
        self.steps = int((highest - lowest)[number].max(initial=0))
        self._lowest = np.where(number, lowest, ENCODING.missing).astype(ENCODING.dtype)
        # The cut above each code; NaN, which is never reached, after the last.
        self._next = np.full(ENCODING.codes, np.nan, np.float32)
        self._next[: len(points)] = points

    def encode(self, column: np.ndarray) -> np.ndarray:
        codes = np.empty(len(column), ENCODING.dtype)
        for start in range(0, len(column), CHUNK_ROWS):
            values = column[start : start + CHUNK_ROWS]
            part = codes[start : start + CHUNK_ROWS]
            self._lowest.take(values.view("<u2")[1::2], out=part, mode="clip")
            for _ in range(self.steps):
                part += values >= self._next.take(part, mode="clip")
        return codes


@lru_cache(maxsize=MAX_TABLES)
def _buckets(points: bytes) -> _Buckets:
    """The tables of a feature, cached per process: every fragment needs them."""
    return _Buckets(np.frombuffer(points, np.float32))


def decode_table(cuts: Cuts) -> np.ndarray:
    """The value of each code, (features, codes) float32: the lower edge of its bin; NaN for missing."""
    table = np.full((len(cuts), ENCODING.codes), np.nan, np.float32)
    for row, points, levels in zip(table, cuts.points, cuts.levels, strict=True):
        if levels is None:
            row[0] = LOWEST
            row[1 : len(points) + 1] = points
        else:
            row[:levels] = np.arange(levels)
    return table


def decode(codes: Any, table: Any, xp: ModuleType = np, out: Any = None) -> Any:
    """The values (rows, features) float32 of codes (rows, features), into `out` where given."""
    features = table.shape[0]
    offsets = xp.arange(features, dtype=xp.int64) * ENCODING.codes
    flat = xp.reshape(table, (-1,))
    if xp is not np:
        return xp.reshape(xp.take(flat, xp.reshape(xp.astype(codes, xp.int64) + offsets, (-1,)), axis=0), codes.shape)
    out = np.empty(codes.shape, np.float32) if out is None else out
    chunk = max(1, CHUNK_ROWS * 4 // max(1, features))
    for start in range(0, len(codes), chunk):
        np.take(flat, codes[start : start + chunk] + offsets, out=out[start : start + chunk], mode="clip")
    return out


def reference(cuts: Cuts) -> tuple[np.ndarray, list[str]]:
    """The rows (k, features) float32 of which XGBoost makes exactly these cuts, and XGBoost's feature types.

    Numeric columns start and end with the extremes of float32: XGBoost closes the last bin a little above the largest
    value it saw, and a larger value would train in that bin but a split between present and missing would send it
    elsewhere.
    """
    columns = [
        np.concatenate([[LOWEST], points, [HIGHEST]]) if levels is None else np.arange(levels)
        for points, levels in zip(cuts.points, cuts.levels, strict=True)
    ]
    rows = np.full((max(map(len, columns), default=0), len(cuts)), np.nan, np.float32)
    for feature, column in enumerate(columns):
        rows[: len(column), feature] = column
    return rows, ["q" if levels is None else "c" for levels in cuts.levels]
