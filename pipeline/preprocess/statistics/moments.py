"""Computes count, mean and variance of numbers, mergeable without loss of digits."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from pipeline.preprocess.statistics.columns import Float

FLOAT32_MAX = float(np.finfo(np.float32).max)
_STRIDE = 16_384  # values whose float64 copy stays in the core's cache


@dataclass(frozen=True)
class Moments:
    """Moments of finite values."""

    count: int = 0
    mean: float = 0.0
    m2: float = 0.0  # sum of squared differences from the mean

    @property
    def deviation(self) -> float:
        """Standard deviation of the population; 0 where there are no values."""
        return float(np.sqrt(self.m2 / self.count)) if self.count else 0.0

    def merge(self, right: Self) -> "Moments":
        """Both together, `self` first: Chan, Golub and LeVeque, "Updating Formulae", 1979."""
        if not self.count or not right.count:
            return self if self.count else right
        count = self.count + right.count
        delta = right.mean - self.mean
        share = right.count / count
        return Moments(count, self.mean + delta * share, self.m2 + right.m2 + delta * delta * self.count * share)


@dataclass(frozen=True)
class Summary:
    """One pass over a column of numbers."""

    moments: Moments
    low: float  # of finite values; +inf where there are none
    high: float  # of finite values; -inf where there are none
    missing: int
    infinite: tuple[int, int] | None  # how many values beyond float32, and the place of the first


def summarise(values: Float) -> Summary:
    """The summary of `values` (rows,); infinite means beyond float32's range.

    Block by block: the copy in float64 stays in cache, and the sums have few digits to lose.
    """
    starts = range(0, len(values), _STRIDE)
    parts = [_block(values[start : start + _STRIDE]) for start in starts]
    infinite = [
        (part.infinite[0], start + part.infinite[1]) for start, part in zip(starts, parts, strict=True) if part.infinite
    ]
    return Summary(
        moments=_merge_all([part.moments for part in parts if part.moments.count]),
        low=min((part.low for part in parts), default=np.inf),
        high=max((part.high for part in parts), default=-np.inf),
        missing=sum(part.missing for part in parts),
        infinite=(sum(count for count, _ in infinite), infinite[0][1]) if infinite else None,
    )


def _block(values: Float) -> Summary:
    low, high = float(values.min()), float(values.max())
    if low >= -FLOAT32_MAX and high <= FLOAT32_MAX:  # False if any value is NaN
        return Summary(_moments(values), low, high, 0, None)
    missing = np.isnan(values)
    infinite = np.abs(values) > FLOAT32_MAX
    finite = values[~(missing | infinite)]
    bad = (int(infinite.sum()), int(infinite.argmax())) if infinite.any() else None
    if not len(finite):
        return Summary(Moments(), np.inf, -np.inf, int(missing.sum()), bad)
    return Summary(_moments(finite), float(finite.min()), float(finite.max()), int(missing.sum()), bad)


def _moments(values: Float) -> Moments:
    """Moments of finite values, at least one."""
    mean = float(values.sum(dtype=np.float64)) / len(values)
    centred = np.subtract(values, mean, dtype=np.float64)
    return Moments(len(values), mean, float(np.einsum("i,i->", centred, centred)))


def _merge_all(parts: list[Moments]) -> Moments:
    """The result of merging the parts in sequence, computed at once."""
    if len(parts) < 2:
        return parts[0] if parts else Moments()
    counts = np.array([part.count for part in parts], dtype=np.float64)
    means = np.array([part.mean for part in parts])
    count = counts.sum()
    mean = float((counts * (means / count)).sum())
    m2 = sum(part.m2 for part in parts) + float((counts * (means - mean) ** 2).sum())
    return Moments(int(count), mean, m2)
