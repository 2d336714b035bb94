"""Intervals of predictions: conformal, from how far earlier predictions were off.

The 80 % interval of a prediction p is [p / f, p * f], where log f is the 80 % quantile of |log(measured / predicted)| of
earlier runs: split conformal prediction (Vovk, Gammerman and Shafer, Algorithmic Learning in a Random World, 2005), with
the finite-sample rank ceil((n + 1) * 0.8).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

COVERAGE = 0.8
LEAST_RUNS = 10  # with fewer, the residuals that come with the package count


@dataclass(frozen=True)
class Interval:
    """A prediction with its interval."""

    low: float
    middle: float
    high: float

    @classmethod
    def around(cls, middle: float, factor: float) -> "Interval":
        return cls(middle / factor, middle, middle * factor)

    def to_dict(self) -> dict[str, Any]:
        return {"low": self.low, "middle": self.middle, "high": self.high}


def factor(residuals: Sequence[float], coverage: float = COVERAGE) -> float:
    """The factor f of an interval; `residuals`: log(measured / predicted) of earlier runs.

    Infinite where there are too few of them for the coverage.

    >>> round(factor([0.1, -0.1, 0.05, 0.2]), 3)
    1.221
    """
    rank = math.ceil((len(residuals) + 1) * coverage)
    if rank > len(residuals):
        return math.inf
    return math.exp(sorted(map(abs, residuals))[rank - 1])


def factor_of(default: Sequence[float], measured: Sequence[float]) -> float:
    """The factor from the residuals measured here, from LEAST_RUNS on; before that from the package's."""
    return factor(measured if len(measured) >= LEAST_RUNS else default)
