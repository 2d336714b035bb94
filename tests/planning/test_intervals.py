"""Conformal intervals."""

import math

import numpy as np
import pytest

from pipeline.planning.intervals import COVERAGE, LEAST_RUNS, Interval, factor, factor_of


def test_4_intervals_cover_what_they_promise() -> None:
    """Of exchangeable residuals the promised share falls into the interval."""
    rng = np.random.default_rng(7)
    inside = 0
    trials = 4_000
    for _ in range(trials):
        *earlier, new = np.exp(rng.standard_t(3, 31) * 0.2)
        found = Interval.around(1.0, factor([math.log(one) for one in earlier]))
        inside += found.low <= new <= found.high
    assert COVERAGE - 0.02 < inside / trials < COVERAGE + 0.05


def test_too_few_runs_promise_nothing() -> None:
    assert factor([0.1, 0.2, 0.3]) == math.inf
    assert factor([]) == math.inf


def test_own_runs_count_from_ten_on() -> None:
    package, own = [0.5] * 20, [0.01] * (LEAST_RUNS - 1)
    assert factor_of(package, own) == pytest.approx(math.exp(0.5))
    assert factor_of(package, [*own, 0.01]) == pytest.approx(math.exp(0.01))
