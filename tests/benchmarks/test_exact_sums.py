"""The benchmark of gradients on a grid, at toy size."""

from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

import numpy as np
import pytest

from benchmarks import exact_sums
from benchmarks.grid_gradients import GridGradients


def test_runs_and_the_grid_makes_the_file_independent_of_order(capsys: pytest.CaptureFixture[str]) -> None:
    exact_sums.main(["--rows", "3000", "--rounds", "5", "--features", "4", "--depth", "4", "--record", ""])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert all("grid_file_same_in_another_order=True" in line for line in lines)


@pytest.mark.parametrize("objective", ["binary:logistic", "reg:squarederror"])
def test_sums_are_exact_and_close_to_the_real_ones(objective: str) -> None:
    rng = np.random.default_rng(0)
    margin = (30 * rng.standard_normal(40_000)).astype(np.float32)
    label = (rng.random(40_000) < 0.5).astype(np.float32)
    weight = rng.uniform(0.01, 5, 40_000).astype(np.float32)
    gradients = GridGradients(objective, label, weight, lambda value: value)
    with ThreadPoolExecutor(2) as pool:
        gradients.compute(margin, None, pool, 2)
    with np.errstate(over="ignore"):
        value = 1 / (1 + np.exp(-margin.astype(np.float64))) if objective == "binary:logistic" else margin
    real = (value - label) * weight
    np.testing.assert_allclose(gradients.first, real, atol=1e-6 * abs(real).max())
    for sums in (gradients.first, gradients.second):
        exact = sum(map(Fraction, sums.astype(float).tolist()))
        assert Fraction(float(sums.astype(np.float64).sum())) == exact
