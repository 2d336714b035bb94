"""Computes medians with their uncertainty, by bootstrap."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 10_000
LEVEL = 0.95  # of the intervals (Hoefler and Belli, SC'15, rule 5)


@dataclass(frozen=True)
class Interval:
    """A median, and the interval that holds it with a probability of `LEVEL`."""

    low: float
    median: float
    high: float

    @property
    def relative(self) -> float:
        """Half of its width, relative to the median."""
        return (self.high - self.low) / 2 / self.median if self.median else 0.0


def median_interval(values: Sequence[float], seed: int = 0) -> Interval:
    """The median of the values and its percentile bootstrap interval; of one value, that value.

    With five values the ends are the smallest and the largest of them: few repetitions do not allow more.

    >>> median_interval([3.0, 1.0, 2.0]).median
    2.0
    >>> median_interval([4.0])
    Interval(low=4.0, median=4.0, high=4.0)
    """
    sample = np.asarray(values, dtype=np.float64)
    if not len(sample):
        raise ValueError("a median needs a value")
    rng = np.random.default_rng(seed)
    medians = np.median(sample[rng.integers(0, len(sample), (RESAMPLES, len(sample)))], axis=1)
    low, high = np.quantile(medians, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], method="nearest")
    return Interval(float(low), float(np.median(sample)), float(high))
