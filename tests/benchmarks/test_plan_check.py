"""The benchmarks of plans: the fit finds costs, the check finds misses."""

import math

import numpy as np
import pytest

from benchmarks.plan_check import after_audits, choices, misses
from benchmarks.plan_fit import Run, fit, fit_costs, residuals
from pipeline.planning.forecast import default_costs, forecast
from pipeline.planning.job_size import JobSize
from pipeline.planning.stage_memory import MemoryFacts
from pipeline.planning.work import Layout

FACTS = MemoryFacts(50 << 20, missing=False)


def test_costs_are_found_in_what_they_make() -> None:
    rng = np.random.default_rng(5)
    amounts = [
        {"run": 1.0, "row": float(rows), "value": float(rows * columns)}
        for rows, columns in rng.integers(1, 9_999, (40, 2))
    ]
    measured = [0.5 + 2e-4 * one["row"] + 1e-7 * one["value"] for one in amounts]
    found = fit(amounts, measured, 1e-9)
    assert found == {
        "run": pytest.approx(0.5, rel=1e-3),
        "row": pytest.approx(2e-4, rel=1e-3),
        "value": pytest.approx(1e-7, rel=1e-3),
    }


def test_no_cost_is_negative() -> None:
    assert set(fit([{"a": 1.0, "b": 2.0}, {"a": 2.0, "b": 1.0}], [0.0, 3.0], 1e-9)) == {"a"}


def run_of(name: str, rows: int, layout: Layout, slower: float = 1.0) -> Run:
    """A run that takes what the package's costs say, times a factor."""
    size = JobSize(
        rows=rows, validation_rows=0, numeric_columns=10, text_columns=0, features=10, bins=2_550, files=1, fragment_nbytes=(rows * 10,) * 4,
        text_nbytes=0, rounds=20, trees=1, depth=6, report=False,
    )  # fmt: skip
    made = forecast(size, layout, FACTS)
    rss = {stage: made.memory.of(stage) for stage in made.memory.terms}
    return Run(
        name, size, layout, FACTS, {stage: slower * spent for stage, spent in made.cpu.items()},
        {stage: slower * spent for stage, spent in made.wall.items()}, rss, 40.0,
    )  # fmt: skip


def test_runs_as_predicted_have_no_residual() -> None:
    found = residuals(run_of("a", 100_000, Layout(1, 2)), default_costs())
    assert all(abs(one) < 1e-6 for kind in found.values() for one in kind.values())
    doubled = residuals(run_of("a", 100_000, Layout(1, 2), slower=2.0), default_costs())
    assert doubled["cpu"]["total"] == pytest.approx(math.log(2))


def test_a_fit_predicts_the_runs_that_it_is_made_of() -> None:
    runs = [
        run_of(name, rows, layout)
        for name, rows in (("a", 50_000), ("b", 400_000), ("c", 2_000_000))
        for layout in (Layout(1, 1), Layout(2, 1))
    ]
    costs = fit_costs(runs, default_costs())
    assert all(abs(residuals(one, costs)["cpu"]["total"]) < 0.3 for one in runs)


def test_audits_learn() -> None:
    runs = [
        run_of("a", rows, Layout(1, 2), slower=1.5) for rows in (100_000, 200_000, 300_000, 400_000, 500_000, 600_000)
    ]
    found = after_audits(runs)
    assert found["first"] == pytest.approx(math.log(1.5), rel=0.01)
    assert found["after_5"] < 0.6 * found["first"]


def test_a_choice_is_compared_with_the_best() -> None:
    found = choices([run_of("a", 50_000, Layout(1, 2)), run_of("a", 50_000, Layout(2, 1))])
    assert found == {"a 50000": {"chosen": "1x2", "slower_than_best": 0.0}}


def test_targets_that_are_missed_are_named() -> None:
    good = {
        "by_set": {"a": {"rss_predicted_over_measured": [0.9, 1.2]}}, "coverage": {"share": 0.8}, "choice": {},
        "audits": {"first": 0.3, "after_5": 0.1},
    }  # fmt: skip
    assert misses(good) == []
    bad = {
        "by_set": {"a": {"rss_predicted_over_measured": [0.5, 1.2]}}, "coverage": {"share": 0.95},
        "choice": {"a 1": {"chosen": "2x1", "slower_than_best": 0.2}}, "audits": {"first": 0.3, "after_5": 0.25},
        "probes": {"a": {"measured_wall": 10.0, "probe": {"cpu": 1.5, "wall": 1.0, "seconds": 20.0}, "metadata": {"cpu": 1.1, "wall": 1.1, "seconds": 1.0}}},
        "limits": [{"set": "a", "share": 0.7, "lives": True}, {"set": "a", "share": 1.3, "lives": True}],
    }  # fmt: skip
    assert len(misses(bad)) == 7
