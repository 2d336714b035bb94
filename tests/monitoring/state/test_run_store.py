"""What the board makes of events: in any order, more than once, and of very many."""

import random
from collections.abc import Iterable
from typing import Any

import pytest

from pipeline.events.types import (
    KINDS,
    Evaluated,
    Event,
    Failed,
    FragmentDone,
    Note,
    Restarted,
    RoundDone,
    Saved,
    Started,
    WorkerLost,
    WorkerRounds,
)
from pipeline.monitoring.state import bounds
from pipeline.monitoring.state import run_store as module
from pipeline.monitoring.state.run_state import RunState
from pipeline.monitoring.state.run_store import RunStore
from tests.dashboard import recorded


def filled(said: Iterable[tuple[str, Event]]) -> RunStore:
    board = RunStore()
    for run, event in said:
        board.apply(run, event)
    return board


def round_done(number: int, time: float, rounds: int = 1_000, **fields: Any) -> RoundDone:
    given = {"metrics": {"validation.auc": 0.5}, "best_round": number, "rows_per_second": 1e6} | fields
    return RoundDone(time=time, round=number, rounds=rounds, **given)


def worker_rounds(worker: str, number: int, time: float, **fields: Any) -> WorkerRounds:
    given = {"seconds": 1.0, "cpu_seconds": 0.8, "runqueue_seconds": 0.0, "bytes_sent": 10, "memory_nbytes": 100}
    return WorkerRounds(time=time, worker=worker, first=number, round=number, **(given | fields))  # type: ignore[arg-type]


def common(run: RunState) -> tuple[Any, ...]:
    """What is the same in whatever order the events came."""
    return (
        run.verb, run.state, run.started, run.ended, run.round, run.rounds, run.curve, list(run.curve), run.pace.marks, run.best_round,
        run.best, run.stages, run.places, run.incidents, run.notes, run.restarts, run.metrics, run.path, run.asked,
        {name: (worker.round, worker.lost, worker.away, worker.memory_nbytes) for name, worker in run.workers.items()},
    )  # fmt: skip


def test_a_recorded_run_is_understood() -> None:
    (run,) = filled(recorded.binary()).runs.values()
    assert (run.verb, run.state, run.round, run.rounds) == ("train", "finished", 300, 300)
    assert list(run.stages) == ["statistics", "blocks", "matrix", "rounds", "evaluate"]
    assert all(stage.ended for stage in run.stages.values())
    assert run.stages["blocks"][:2] == (32, 32)
    assert (
        run.best
        == run.curve[run.best_round]["validation.auc"]
        == max(at["validation.auc"] for at in run.curve.values())
    )
    assert [one.kind for one in run.incidents] == ["WorkerLost", "Waiting", "WorkerJoined", "Restarted"]
    assert (run.workers["1"].lost, run.workers["0"].lost, run.workers["1"].away) == (1, 0, False)
    assert run.workers["0"].sums.rounds == 307  # 131 to 137 were boosted twice
    assert run.metrics["validation.auc"] == 0.9057
    assert run.path == "models/flights"


@pytest.mark.parametrize("killed", [True, False])
def test_order_and_repetition_do_not_matter(killed: bool) -> None:
    said = list(recorded.binary(killed=killed))
    expected = common(filled(said).runs["flights-3f2a"])
    mixed = said * 2
    random.Random(7).shuffle(mixed)
    assert common(filled(mixed).runs["flights-3f2a"]) == expected


def test_sums_of_workers_survive_a_little_disorder_and_repetition() -> None:
    said = list(recorded.binary())
    rng = random.Random(3)
    mixed = sorted([*said, *said], key=lambda one: one[1].time + rng.uniform(0, 2))
    ordered, disordered = filled(said).runs["flights-3f2a"], filled(mixed).runs["flights-3f2a"]
    for name, worker in ordered.workers.items():
        assert disordered.workers[name].sums.rounds == worker.sums.rounds
        assert disordered.workers[name].sums.cpu_seconds == pytest.approx(worker.sums.cpu_seconds)
        assert disordered.workers[name].window.rounds == worker.window.rounds


def test_the_first_event_of_every_kind_is_taken() -> None:
    """A client may attach late: whatever comes first must do."""
    first = {type(event): event for _, event in recorded.everything()}
    assert first.keys() == set(KINDS.values())
    for event in first.values():
        board = RunStore()
        board.apply("late", event)
        assert board.runs["late"].started == event.time


def test_a_long_curve_is_thinned_and_keeps_the_best_and_the_last() -> None:
    board = RunStore()
    for number in range(1, 50_001):
        board.apply(
            "a", round_done(number, float(number), best_round=min(number, 4_321), metrics={"auc": number / 1e5})
        )
        assert len(board.runs["a"].curve) <= bounds.CURVE_POINTS
    curve = board.runs["a"].curve
    assert {4_321, 50_000} <= curve.keys()
    assert list(curve) == sorted(curve)
    assert len(curve) > bounds.CURVE_POINTS / 3
    gaps = [b - a for a, b in zip(list(curve), list(curve)[1:], strict=False)]
    assert max(gaps) <= 64
    assert len(board.runs["a"].pace.marks) <= bounds.CURVE_POINTS


def test_rounds_without_metrics_count() -> None:
    board = RunStore()
    board.apply("a", round_done(1, 1.0, metrics={"train.rmse": 3.0}))
    board.apply("a", round_done(2, 2.0, metrics={}))
    run = board.runs["a"]
    assert (run.round, list(run.curve), run.deciding) == (2, [1], "train.rmse")


def test_eta_of_an_even_pace() -> None:
    board = RunStore()
    for number in range(1, 101):
        board.apply("a", round_done(number, 10.0 + 0.5 * number, rounds=300))
    assert board.runs["a"].eta == pytest.approx((100.0, 100.0, 100.0))
    assert board.runs["a"].rounds_per_second == pytest.approx(2.0)


def test_eta_has_an_interval_and_forgets_what_was_before_a_restart() -> None:
    board, now, rng = RunStore(), 0.0, random.Random(1)
    for number in range(1, 101):
        now += rng.uniform(0.5, 1.5)
        board.apply("a", round_done(number, now, rounds=200))
    low, middle, high = board.runs["a"].eta or (0.0, 0.0, 0.0)
    assert 50 < low < middle < high < 150
    board.apply("a", Restarted(time=now + 60, round=90, workers=1))
    assert board.runs["a"].round == 90
    assert board.runs["a"].eta is None
    for number in range(91, 96):
        board.apply("a", round_done(number, now + 60 + 2 * (number - 90), rounds=200))
    assert board.runs["a"].eta == pytest.approx((210.0, 210.0, 210.0))


def test_rounds_to_be_boosted_again_leave_the_curve() -> None:
    said = [round_done(number, float(number)) for number in range(1, 21)]
    said += [Restarted(time=30.0, round=10, workers=1), round_done(11, 31.0)]  # type: ignore[list-item]
    for order in (said, said[::-1]):
        board = RunStore()
        for event in order:
            board.apply("a", event)
        assert list(board.runs["a"].curve) == list(range(1, 12))
        assert [number for _, number in board.runs["a"].pace.marks] == [*range(1, 21), 11]


def test_metrics_that_are_not_measured_in_every_round_are_known() -> None:
    board = RunStore()
    board.apply("a", round_done(1, 1.0, metrics={"train.auc": 0.6, "validation.auc": 0.5}))
    board.apply("a", round_done(2, 2.0, metrics={"validation.auc": 0.5}))
    assert board.runs["a"].metric_names == ["train.auc", "validation.auc"]
    assert board.runs["a"].deciding == "validation.auc"


def test_a_worker_that_comes_back_without_a_word_begins_then() -> None:
    board = RunStore()
    board.apply("a", worker_rounds("w", 1, 1.0))
    board.apply("a", WorkerLost(time=2.0, worker="w", stage="rounds", round=1, reason="killed"))
    for number in (1, 2, 3):
        board.apply("a", worker_rounds("w", number, 8.0 + number))
    assert board.runs["a"].workers["w"].begins == [9.0]


def test_no_eta_when_the_rounds_have_ended() -> None:
    board = RunStore()
    for number in range(1, 101):
        board.apply("a", round_done(number, float(number), rounds=300))
    board.apply("a", Evaluated(time=101.0, metrics={"validation.auc": 0.9}, seconds=1.0))
    assert board.runs["a"].eta is None
    assert board.runs["a"].stages["rounds"].ended


def test_a_worker_is_away_until_it_is_heard_of_again() -> None:
    board = RunStore()
    board.apply("a", worker_rounds("w", 1, 1.0))
    board.apply("a", WorkerLost(time=2.0, worker="w", stage="rounds", round=1, reason="frozen"))
    assert board.runs["a"].workers["w"].away
    assert board.runs["a"].training == []
    board.apply("a", worker_rounds("w", 1, 9.0))
    assert not board.runs["a"].workers["w"].away


def test_the_window_of_a_worker_ends_and_its_sums_do_not() -> None:
    board = RunStore()
    for number in range(1, 101):
        board.apply("a", worker_rounds("w", number, float(number)))
    worker = board.runs["a"].workers["w"]
    assert worker.sums.rounds == 100
    assert worker.window.rounds == 31
    assert worker.window.bytes_sent == 310


def test_verbs_that_save_nothing_end() -> None:
    said: list[tuple[str, Event]] = [
        ("e", Started(time=1.0, verb="evaluate", run="e")),
        ("e", FragmentDone(time=2.0, stage="evaluate", done=3, total=3, rows=9)),
        ("e", Evaluated(time=3.0, metrics={}, seconds=2.0)),
        ("p", Started(time=1.0, verb="predict", run="p")),
        ("p", FragmentDone(time=2.0, stage="predict", done=2, total=2, rows=9)),
        ("f", Started(time=1.0, verb="train", run="f")),
        ("f", Failed(time=2.0, message="no such column")),
    ]
    assert {name: run.state for name, run in filled(said).runs.items()} == {
        "e": "finished", "p": "finished", "f": "failed",
    }  # fmt: skip


def test_old_runs_are_forgotten_and_stay_so() -> None:
    board = RunStore()
    for i in range(20):
        board.apply(f"r{i}", Started(time=float(i), verb="train", run=f"r{i}"))
        board.apply(f"r{i}", Saved(time=i + 0.5, path="m", sha256=""))
    assert list(board.runs) == [f"r{i}" for i in range(12, 20)]
    board.apply("r0", Note(time=99.0, message="late"))
    assert "r0" not in board.runs
    for i in range(200):  # whose clients died without a word
        board.apply(f"open{i}", Started(time=100.0 + i, verb="train", run=f"open{i}"))
    assert len(board.runs) <= module.FINISHED_RUNS + module.OPEN_RUNS
    assert "open199" in board.runs


def test_what_is_kept_of_a_run_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "WORKERS", 10)
    board = RunStore()
    for i in range(500):
        board.apply("a", Note(time=float(i), message="x" * 10_000 + str(i)))
        board.apply("a", WorkerLost(time=float(i), worker=f"w{i}", stage="rounds", round=1, reason="x" * 10_000))
        board.apply("a", round_done(i, float(i), metrics={f"m{j}": 1.0 for j in range(300)}))
    run = board.runs["a"]
    assert len(run.notes) == bounds.NOTES
    assert len(run.incidents) == bounds.INCIDENTS
    assert run.incidents[-1].time == 499.0
    assert max(len(one.text) for one in run.incidents) <= bounds.LONGEST_TEXT
    assert len(run.workers) == 10
    assert len(run.measured) == bounds.METRICS
