"""What is kept of runs that take long: every curve, the order of rounds when a clock is set, the latest of each metric."""

import dataclasses
import random

import pytest

from pipeline.dashboard.pages.curves import lines_of, metrics_of
from pipeline.events.types import RoundDone
from pipeline.monitoring.state import bounds, thinning
from pipeline.monitoring.state.run_state import RunState
from pipeline.monitoring.state.run_store import RunStore
from pipeline.monitoring.state.thinning import ThinnedSeries
from tests.dashboard import recorded
from tests.monitoring.state.test_run_store import filled, round_done

MEASURED = [unit * 10**power for power in range(6) for unit in (1, 2, 5)]  # rounds in which training rows are measured


def trained(rounds: int) -> RunState:
    board = RunStore()
    for number in range(1, rounds + 1):
        metrics = {"train.auc": 0.9} if number in MEASURED else {}
        metrics |= {"validation.auc": number / 1e6}
        board.apply("a", round_done(number, float(number), metrics=metrics, best_round=number, best=number / 1e6))
    return board.runs["a"]


@pytest.mark.parametrize("rounds", [1_999, 2_001, 4_500, 20_000])
def test_a_curve_of_few_points_stays_in_a_long_run(rounds: int) -> None:
    run = trained(rounds)
    at = lines_of(run, "auc")["train"][0]
    assert (
        len(at) >= len([number for number in MEASURED if number <= rounds]) - 5
    )  # of the first rounds, next to each other
    assert at[-1] == max(number for number in MEASURED if number <= rounds)
    assert len(run.curve) <= bounds.CURVE_POINTS
    assert len(lines_of(run, "auc")["validation"][0]) > bounds.CURVE_POINTS / 3


def test_rounds_that_all_measure_something_else_are_bounded() -> None:
    thinned = ThinnedSeries()
    for number in range(1, 5_000):
        thinned.put(number, float(number), {f"m{number}": 1.0}, number)
        assert len(thinned.kept) <= bounds.CURVE_POINTS
    assert len(thinned.kinds) == thinning.KINDS


def test_every_metric_has_its_latest_value() -> None:
    run = trained(30)
    assert run.measured == {"train.auc": 0.9, "validation.auc": 30 / 1e6}
    assert run.deciding == "validation.auc"


def test_a_metric_may_have_a_decimal_parameter() -> None:
    board = RunStore()
    for number in (1, 2):
        metrics = {
            f"{rows}.{name}": 0.5 for name in ("tweedie-nloglik@1.5", "error@0.3") for rows in ("train", "validation")
        }
        board.apply("a", round_done(number, float(number), metrics=metrics, best=0.5))
    run = board.runs["a"]
    assert metrics_of(run) == ["error@0.3", "tweedie-nloglik@1.5"]
    assert lines_of(run, "error@0.3") == {"validation": ([1, 2], [0.5, 0.5]), "train": ([1, 2], [0.5, 0.5])}


def test_a_recorded_file_continues_where_the_clock_was_set_back() -> None:
    said = [event for _, event in recorded.binary(killed=False)]
    at = next(i for i, event in enumerate(said) if isinstance(event, RoundDone) and event.round == 150)
    set_back = [*said[:at], *(dataclasses.replace(event, time=event.time - 3_600) for event in said[at:])]
    board, straight = RunStore(recorded=True), RunStore()
    for taken, other in zip(set_back, said, strict=True):
        board.apply("a", taken)
        straight.apply("a", other)
        if isinstance(taken, RoundDone) and taken.round == 250:
            run, expected = board.runs["a"], straight.runs["a"]
            assert run.round == 250
            assert run.rounds_per_second == pytest.approx(expected.rounds_per_second, rel=0.01)
            assert run.eta == pytest.approx(expected.eta, rel=0.01)
    run, expected = board.runs["a"], straight.runs["a"]
    assert (run.state, run.round, len(run.curve)) == ("finished", 300, 300)
    assert run.workers["0"].sums.rounds == expected.workers["0"].sums.rounds == 300
    assert run.workers["0"].window.rounds == expected.workers["0"].window.rounds
    assert (run.ended or 0) - run.started == pytest.approx((expected.ended or 0) - expected.started, abs=1)


def test_a_recorded_files_order_of_a_moment_is_kept() -> None:
    """Threads write at nearly the same time: that is no clock that was set back."""
    rng = random.Random(1)
    said = sorted(recorded.binary(), key=lambda one: one[1].time + rng.uniform(0, 1))
    board = RunStore(recorded=True)
    for run, event in said:
        board.apply(run, event)
    assert board.runs["flights-3f2a"].ended == filled(said).runs["flights-3f2a"].ended
