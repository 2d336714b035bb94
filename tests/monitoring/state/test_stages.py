"""The stages of a run: the current one, and what is repeated after a loss, from the events of real recoveries."""

from collections.abc import Iterable

import pytest

from pipeline.dashboard.pages.stage_strip import strip
from pipeline.events.types import (
    BlocksDone,
    Event,
    FragmentDone,
    MatrixDone,
    Placed,
    Restarted,
    RoundDone,
    Started,
    StatisticsDone,
    Waiting,
    WorkerLost,
)
from pipeline.monitoring.state.run_state import RunState
from pipeline.monitoring.state.run_store import RunStore
from pipeline.monitoring.state.stages import Again
from tests.dashboard import recorded
from tests.monitoring.state.test_run_store import round_done


def run_of(events: Iterable[Event]) -> RunState:
    board = RunStore()
    for event in events:
        board.apply("a", event)
    return board.runs["a"]


def counted(stage: str, time: float, done: int, total: int) -> FragmentDone:
    return FragmentDone(time=time, stage=stage, done=done, total=total, rows=0)


def ready(first: float = 0.0) -> list[Event]:
    """To the rounds, which begin ten seconds after that."""
    return [
        Started(time=first, verb="train", run="a"),
        counted("statistics", first + 1, 9, 18),
        counted("statistics", first + 2, 18, 18),
        StatisticsDone(time=first + 3, rows=9, seconds=2.5),
        counted("blocks", first + 4, 1, 18),
        counted("blocks", first + 5, 18, 18),
        BlocksDone(time=first + 6, rows=9, nbytes=9, seconds=2.9),
        MatrixDone(time=first + 9, nbytes=9, seconds=3.0),
        Placed(time=first + 10, workers=()),
    ]


def lost(time: float, stage: str = "rounds") -> list[Event]:
    return [
        WorkerLost(time=time, worker="1", stage=stage, round=40, reason="killed by signal 9"),
        Waiting(time=time + 0.1, workers=2, expected=3, seconds=30.0),
    ]


RECOVERED = [
    *ready(),
    round_done(40, 20.0, rounds=90),
    *lost(21.0),
    Restarted(time=23.0, round=30, workers=3),
    counted("blocks", 24.0, 3, 6),
    counted("blocks", 25.0, 6, 6),
    BlocksDone(time=25.5, rows=3, nbytes=3, seconds=2.4),
    MatrixDone(time=26.0, nbytes=3, seconds=0.5),
    Placed(time=26.1, workers=()),
    round_done(31, 27.0, rounds=90),
]


def test_each_stage_is_followed_by_the_next() -> None:
    events, seen = ready(), []
    for i in range(2, len(events) + 1):
        seen.append(run_of(events[:i]).current_stage)
    assert seen == [
        "statistics", "statistics", "blocks", "blocks", "blocks", "matrix", "rounds", "rounds",
    ]  # fmt: skip
    assert run_of([*events, round_done(90, 11.0, rounds=90)]).current_stage == "evaluate"
    (finished,) = [run_of(event for _, event in recorded.binary())]
    assert finished.current_stage == ""


def test_the_current_stage_in_a_recovery() -> None:
    seen = {}
    for i, event in enumerate(RECOVERED, start=1):
        run = run_of(RECOVERED[:i])
        seen[type(event).__name__, event.time] = (run.current_stage, run.interrupted, run.recovering)
    assert {key: seen[key] for key in seen if key[1] > 19} == {
        ("RoundDone", 20.0): ("rounds", False, False),
        ("WorkerLost", 21.0): ("", True, False),
        ("Waiting", 21.1): ("", True, False),
        ("Restarted", 23.0): ("blocks", False, True),
        ("FragmentDone", 24.0): ("blocks", False, True),
        ("FragmentDone", 25.0): ("blocks", False, True),
        ("BlocksDone", 25.5): ("matrix", False, True),
        ("MatrixDone", 26.0): ("rounds", False, False),
        ("Placed", 26.1): ("rounds", False, False),
        ("RoundDone", 27.0): ("rounds", False, False),
    }


def test_what_was_counted_stays_and_what_is_done_again_is_counted_apart() -> None:
    run = run_of(RECOVERED[:14])  # three of six fragments
    assert run.stages["blocks"] == (18, 18, 2.9, True, Again(3, 6, 1.0, ended=False))
    assert run.stages["matrix"].again is None
    run = run_of(RECOVERED)
    assert run.stages["statistics"][:4] == (18, 18, 2.5, True)
    assert run.stages["blocks"] == (18, 18, 2.9, True, Again(6, 6, 2.4, ended=True))
    assert run.stages["matrix"] == (0, 0, 3.0, True, Again(0, 0, 0.5, ended=True))
    assert run.stages["rounds"][:2] == (31, 90)
    assert [stage.again for name, stage in run.stages.items() if name in ("statistics", "rounds")] == [None, None]


def test_the_strip_says_it() -> None:
    said = strip(run_of(RECOVERED[:12]))
    assert '<span class="lost">interrupted</span>' in said
    assert "stage now" not in said
    said = strip(run_of(RECOVERED[:13]))
    assert "again, for what was lost" in said
    assert "resume when the matrix is rebuilt" in said
    said = strip(run_of(RECOVERED[:14]))
    assert "18 fragments, 3&nbsp;s" in said
    assert "again: 3 of 6 fragments" in said
    assert said.count("stage now") == 1
    assert "width:50.0%" in said
    said = strip(run_of(RECOVERED))
    assert "again: 6 fragments, 2&nbsp;s" in said
    assert "31 of 90 rounds" in said
    assert "interrupted" not in said


def test_a_second_loss_while_a_part_is_made_again() -> None:
    """The last restart counts: what was rebuilt before it is lost as well, or remains."""
    events = [
        *RECOVERED[:14],
        *lost(24.5, "blocks"),
        Restarted(time=28.0, round=30, workers=3),
        counted("blocks", 29.0, 1, 13),
    ]
    assert run_of(events[:16]).interrupted
    run = run_of(events)
    assert (run.current_stage, run.stages["blocks"].again) == ("blocks", Again(1, 13, 1.0, ended=False))
    assert run.stages["blocks"][:2] == (18, 18)


def test_a_loss_in_a_pass_counts_no_fragment_twice() -> None:
    """Dask computes the lost fragments again; the pass continues and ends as without a loss."""
    events = ready()
    events[2:2] = [WorkerLost(time=1.5, worker="0", stage="statistics", round=0, reason="killed by signal 9")]
    assert run_of(events[:3]).interrupted
    assert not run_of(events[:4]).interrupted
    before = [*events[:8], *lost(6.5, "blocks"), Restarted(time=8.0, round=0, workers=2)]
    assert run_of(before).current_stage == "matrix"
    assert not run_of(before).recovering
    run = run_of([*before, *events[8:]])
    assert [stage.again for name, stage in run.stages.items() if name != "matrix"] == [None] * 3
    assert run.stages["matrix"] == (0, 0, 3.0, True, None)


def test_a_pass_that_was_cut_short_begins_again() -> None:
    events = [
        *ready()[:5],
        *lost(4.5, "blocks"),
        Restarted(time=6.0, round=0, workers=2),
        counted("blocks", 7.0, 2, 18),
    ]
    run = run_of(events)
    assert run.stages["blocks"][:2] == (2, 18)
    assert run.stages["blocks"].again is None
    assert run.current_stage == "blocks"


@pytest.mark.parametrize("after", [6.5, 9.5, 10.5])
def test_a_count_that_was_held_back_is_none_of_a_new_pass(after: float) -> None:
    """Counts are throttled: the last one may arrive after the pass's end, and have its time of arrival."""
    events = ready()
    events[5] = counted("blocks", after, 18, 18)
    run = run_of(sorted(events, key=lambda event: event.time))
    assert run.stages["blocks"] == (18, 18, 2.9, True, None)
    assert run.current_stage == "rounds"


def test_a_resumed_run_does_nothing_twice() -> None:
    run = run_of([Restarted(time=0.0, round=30, workers=2), *ready(1.0), round_done(31, 12.0)])
    assert [stage.again for stage in run.stages.values()] == [None] * 4
    assert run.current_stage == "rounds"


def test_the_best_round_is_one_that_counts() -> None:
    run = run_of(
        [*RECOVERED[:9], round_done(40, 20.0, best=0.7), *lost(21.0), Restarted(time=23.0, round=30, workers=3)]
    )
    assert (run.best_round, run.best) == (0, None)
    run = run_of(
        [*RECOVERED[:9], round_done(40, 20.0, best_round=25, best=0.7), Restarted(time=23.0, round=30, workers=3)]
    )
    assert (run.best_round, run.best) == (25, 0.7)


def test_the_metric_that_decides_is_the_one_with_the_best_value() -> None:
    metrics = {"train.logloss": 0.53, "validation.logloss": 0.55, "validation.auc": 0.65}
    first = RoundDone(time=1.0, round=1, rounds=9, metrics=metrics, best_round=1, best=0.55, rows_per_second=1.0)
    assert run_of([first]).deciding == "validation.logloss"
    later = round_done(5, 2.0, metrics={"validation.logloss": 0.6, "validation.auc": 0.7}, best_round=1, best=0.55)
    assert run_of([first, later]).deciding == "validation.logloss"
    assert run_of([later]).deciding == "validation.auc"  # the last one, where no event names it
