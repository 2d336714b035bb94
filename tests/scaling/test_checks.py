"""Every check finds what it is there for."""

import dataclasses
from typing import Any

import pytest

from pipeline.efficiency.records import Point, Result
from pipeline.scaling.checks import Check, checks
from tests.scaling.examples import configuration, point, result


def found(made: Result, words: str) -> Check:
    (check,) = [check for check in checks(made) if words in check.name]
    return check


def altered(made: Point, sample: dict[str, Any] | None = None, **worker: Any) -> Point:
    """The same with other values in every sample, or in every worker of it."""
    samples = tuple(
        dataclasses.replace(
            each, **(sample or {}), workers=tuple(dataclasses.replace(one, **worker) for one in each.workers)
        )
        for each in made.samples
    )
    return dataclasses.replace(made, samples=samples)


ROWS = 400_000  # rounds of 20 ms and more
TWO = point(configuration(2, rows=ROWS))
ONE = point(configuration(1, rows=ROWS))


def test_a_sound_result_passes_all() -> None:
    verdicts = {check.name: check.good for check in checks(result(ONE, TWO))}
    assert False not in verdicts.values(), verdicts
    assert sum(good is True for good in verdicts.values()) == 7


@pytest.mark.parametrize(
    ("words", "worker", "said"),
    [
        ("add up", {"closure": 0.05}, "5.00%"),
        ("bytes", {"bytes_sent": 999}, "10 of 10 differ"),
        ("measuring costs", {"meter_share": 0.02}, "2.00%"),
        ("system reports", {"missing": ("run queue",)}, "run queue"),
    ],
)
def test_what_a_worker_shows(words: str, worker: dict[str, Any], said: str) -> None:
    check = found(result(altered(TWO, **worker)), words)
    assert check.good is False
    assert said in check.value


@pytest.mark.parametrize(
    ("words", "worker"), [("add up", {"closure": None}), ("bytes", {"bytes_sent": None, "bytes_expected": None})]
)
def test_what_was_not_measured_is_not_judged(words: str, worker: dict[str, Any]) -> None:
    assert found(result(altered(TWO, **worker)), words).good is None


def test_what_measuring_costs_counts_for_long_rounds() -> None:
    brief = altered(point(configuration(2, rows=20_000)), meter_share=0.02)
    check = found(result(brief), "measuring costs")
    assert check.good is None
    assert "shorter than 20 ms" in check.value


def test_one_worker_exchanges_nothing() -> None:
    assert found(result(ONE), "bytes").good is None


def test_predictions_after_the_run_are_none() -> None:
    late = altered(TWO, sample={"time": "2026-11-20T23:59:59+00:00"})
    assert found(result(late), "before").good is False
    assert found(result(dataclasses.replace(TWO, predicted=None)), "before").good is None


def test_rounds_outside_their_band() -> None:
    assert found(result(point(configuration(2), slower=2.0)), "as predicted").value == "0 of 1 points lie in their band"


def test_oversubscribed_points_say_nothing_about_the_model() -> None:
    crowded = point(configuration(4), slower=9.0)
    where = dataclasses.replace(crowded.configuration, oversubscribed=True)
    made = result(TWO, dataclasses.replace(crowded, configuration=where))
    assert found(made, "as predicted").good is True
    assert found(made, "has a core").value == "oversubscribed: strong 4"


def test_threads_in_each_others_way() -> None:
    check = found(result(ONE, TWO, single_seconds=0.5), "gains from all its threads")
    assert check.good is False
    assert "times as slow as one worker with 1" in check.value


def test_repetitions_that_scatter_or_were_made_again() -> None:
    few = dataclasses.replace(TWO, samples=TWO.samples[:1])
    assert found(result(few), "repetitions agree").good is None
    wide = altered(TWO, sample={})
    seconds = [dataclasses.replace(sample, seconds=0.01 * (1 + i)) for i, sample in enumerate(wide.samples)]
    assert found(result(dataclasses.replace(wide, samples=tuple(seconds))), "repetitions agree").good is False
    assert found(result(altered(TWO, sample={"retried": True})), "was lost").value.startswith("5 repetitions")


def test_nothing_measured_nothing_checked() -> None:
    assert checks(dataclasses.replace(result(), points=())) == ()
