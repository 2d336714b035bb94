"""Alarms: emitted once for each episode, from events and from the clock, and their actions."""

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from pipeline.config.alarms import parse
from pipeline.config.job import Alarm
from pipeline.errors import AlarmError
from pipeline.events.types import (
    Checkpoint,
    Evaluated,
    Event,
    Failed,
    FragmentDone,
    Note,
    Place,
    Placed,
    Planned,
    Restarted,
    RoundDone,
    Saved,
    Started,
    Waiting,
    WorkerJoined,
    WorkerLost,
    WorkerRounds,
)
from pipeline.monitoring.alarms.alarm_inputs import AlarmInputs
from pipeline.monitoring.alarms.alarm_state import CALM_SECONDS, AlarmState, step
from pipeline.monitoring.alarms.listener import Alarms


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Watched:
    """Alarms of a run, a clock of the test, and the messages."""

    def __init__(self, *when: str, do: str = "log", tell: Callable[[str], None] | None = None) -> None:
        self.clock = Clock()
        self.said: list[str] = []
        self.alarms = Alarms(
            [Alarm(when=text, do=do) for text in when],  # type: ignore[arg-type]
            tell or self.said.append,
            clock=self.clock,
        )
        self.alarms(Started(verb="train", run="1f0c"))
        self.alarms(PLANNED)

    def hear(self, *events: Event, after: float = 0.0) -> list[str]:
        """The new messages after these events, this many seconds after the ones before."""
        self.clock.now += after
        before = len(self.said)
        for event in events:
            self.alarms(event)
        return self.said[before:]

    def tick(self, after: float) -> list[str]:
        self.clock.now += after
        before = len(self.said)
        self.alarms.tick()
        return self.said[before:]


PLANNED = Planned(rows=1, features=1, fragments=1, workers=2, threads=1, nbytes=1)


def done(
    number: int, metrics: Mapping[str, float] | None = None, *, speed: float = 1e6, best: float | None = None
) -> RoundDone:
    return RoundDone(
        round=number, rounds=100, metrics=metrics or {}, best_round=number, best=best, rows_per_second=speed
    )


def auc(number: int, value: float, best: float | None = None) -> RoundDone:
    return done(number, {"train.auc": 0.9, "validation.auc": value}, best=best)


def place(worker: str, limit: int = 1000) -> Place:
    return Place(worker, 100, 0.5, 0.5, 1, limit, 500)


def worked(worker: str, memory: int = 100, *, seconds: float = 1.0, cpu: float = 0.9, number: int = 1) -> WorkerRounds:
    return WorkerRounds(
        worker=worker, first=number, round=number, seconds=seconds, cpu_seconds=cpu, runqueue_seconds=0.0,
        bytes_sent=None, memory_nbytes=memory,
    )  # fmt: skip


# episodes


def told_at(text: str, *values: tuple[float, bool]) -> list[float]:
    """When an alarm fires whose condition holds, or does not, at these times."""
    condition, now, times = parse(text), AlarmState(), []
    for at, holds in values:
        now, tell = step(now, condition, holds, at)
        times += [at] if tell else []
    return times


def test_without_a_window_one_value_is_enough() -> None:
    assert told_at("pe < 0.6", (0, False), (1, True), (2, True), (3, True)) == [1]


def test_with_a_window_every_value_in_it_has_to_hold() -> None:
    assert told_at("pe < 0.6 for 10s", (0, True), (9, True), (10, True), (20, True)) == [10]
    assert told_at("pe < 0.6 for 10s", (0, True), (9, False), (10, True), (19.9, True)) == []
    assert told_at("pe < 0.6 for 10s", (0, True), (100, False)) == []  # one value that holds is no window


def test_a_value_that_goes_to_and_fro_is_one_episode() -> None:
    values = [(float(second), second % 3 > 0) for second in range(600)]
    assert told_at("pe < 0.6", *values) == [1]


def test_an_episode_ends_after_a_calm() -> None:
    calm = [(1.0 + second, False) for second in range(int(CALM_SECONDS) + 1)]
    assert told_at("pe < 0.6", (0, True), *calm, (62, True)) == [0, 62]
    assert told_at("pe < 0.6", (0, True), *calm[:-1], (62, True)) == [0]
    assert told_at("pe < 0.6", (0, True), (500, False), (501, True)) == [0]  # one value is no calm


def test_a_calm_is_as_long_as_the_window() -> None:
    on = [(0.0, True), (300.0, True)]
    assert told_at("pe < 0.6 for 5m", *on, (301, False), (600, False), (601, True), (1000, True)) == [300]
    assert told_at("pe < 0.6 for 5m", *on, (301, False), (601, False), (602, True), (902, True)) == [300, 902]


# quantities


def test_a_metric_against_a_number() -> None:
    watched = Watched("train.logloss > 1.5")
    assert watched.hear(done(1, {"train.logloss": 1.5})) == []
    assert watched.hear(done(2, {"train.logloss": 1.6})) == ["alarm: train.logloss > 1.5 (now 1.6, round 2)"]
    assert watched.hear(done(3, {"train.logloss": 1.7})) == []


def test_a_metric_that_drops_below_its_best() -> None:
    watched = Watched("validation.auc drops 0.02")
    assert watched.hear(auc(1, 0.7), auc(2, 0.8), auc(3, 0.7801)) == []
    assert watched.hear(auc(4, 0.78)) == ["alarm: validation.auc drops 0.02 (now 0.78, round 4)"]


def test_a_best_round_without_an_event_counts() -> None:
    watched = Watched("validation.auc drops 0.02")
    assert watched.hear(auc(5, 0.78, best=0.8)) == ["alarm: validation.auc drops 0.02 (now 0.78, round 5)"]


def test_a_loss_that_rises_above_its_best() -> None:
    watched = Watched("validation.logloss rises 0.1")
    rounds = [done(number + 1, {"validation.logloss": value}) for number, value in enumerate((0.7, 0.5, 0.55, 0.6))]
    assert watched.hear(*rounds[:3]) == []
    assert watched.hear(rounds[3]) == ["alarm: validation.logloss rises 0.1 (now 0.6, round 4)"]


def test_a_metric_that_is_not_measured_is_reported_once() -> None:
    watched = Watched("validation.auc < 0.5", "train.logloss > 9")
    assert watched.hear(done(1)) == []  # not measured in this round
    assert watched.hear(done(2, {"train.logloss": 1.0})) == [
        "the alarm validation.auc < 0.5 could not be watched for: this run measures train.logloss alone"
    ]
    assert watched.hear(done(3, {"train.logloss": 1.0}), Saved(path="m", sha256="")) == []


def test_metrics_of_training_rows_may_be_measured_later() -> None:
    watched = Watched("train.logloss > 1", "train.auc > 0.5")
    assert watched.hear(done(137, {"validation.auc": 0.5})) == []
    assert watched.hear(done(200, {"train.logloss": 2.0, "validation.auc": 0.5})) == [
        "the alarm train.auc > 0.5 could not be watched for: this run measures train.logloss, validation.auc alone",
        "alarm: train.logloss > 1 (now 2, round 200)",
    ]


def test_a_metric_that_is_no_number_is_none() -> None:
    watched = Watched("validation.auc drops 0.02")
    assert watched.hear(auc(1, float("nan")), auc(2, 0.8), auc(3, float("nan")), auc(4, 0.79)) == []


def test_rows_per_second_for_a_while() -> None:
    watched = Watched("rows_per_second < 1e6 for 30s")
    assert watched.hear(done(1, speed=5e5)) == []
    assert watched.hear(done(2, speed=5e5), after=29) == []
    assert watched.hear(done(3, speed=0.0), after=1) == []  # the last round's may be missing
    assert watched.hear(done(4, speed=123456.7), after=1) == [
        "alarm: rows_per_second < 1e6 for 30s (now 1.2346e+05, round 4)"
    ]


def test_memory_is_that_of_the_worker_nearest_to_its_limit() -> None:
    watched = Watched("memory > 0.9")
    watched.hear(Placed(workers=(place("0"), place("1", limit=2000), place("2", limit=0))))
    watched.hear(worked("0", 900), worked("1", 950), worked("2", 10**9), worked("nobody", 10**9))
    assert watched.tick(1) == []
    watched.hear(worked("1", 1900))
    assert watched.tick(1) == ["alarm: memory > 0.9 (now 0.95)"]


def test_memory_of_a_lost_worker_is_forgotten() -> None:
    watched = Watched("memory > 0.9")
    watched.hear(Placed(workers=(place("0"), place("1"))), worked("0", 950), worked("1", 100))
    watched.hear(WorkerLost(worker="0", stage="rounds", round=3, reason="killed"))
    assert watched.tick(1) == []


def test_restarts_are_those_after_failures() -> None:
    lost = WorkerLost(worker="1", stage="rounds", round=3, reason="killed")
    watched = Watched("restarts > 1")
    assert watched.hear(lost, Waiting(workers=1, expected=2, seconds=30), Restarted(round=2, workers=2)) == []
    assert watched.hear(WorkerJoined(worker="2"), Restarted(round=5, workers=3)) == []
    assert watched.hear(Restarted(round=9, workers=2)) == ["alarm: restarts > 1 (now 2)"]
    assert watched.hear(lost, Restarted(round=9, workers=2)) == []  # the same episode, that nothing can end


def test_a_training_that_begins_again_is_not_measured_by_the_rounds_it_has_lost() -> None:
    watched = Watched("validation.auc drops 0.02")
    watched.hear(auc(1, 0.7), auc(137, 0.9))
    watched.hear(WorkerLost(worker="1", stage="rounds", round=137, reason="killed"), Restarted(round=0, workers=2))
    assert watched.hear(auc(1, 0.7), auc(2, 0.75)) == []
    assert watched.hear(auc(3, 0.72)) == ["alarm: validation.auc drops 0.02 (now 0.72, round 3)"]


def test_the_best_round_before_a_loss_counts_where_training_continues_from_it() -> None:
    watched = Watched("validation.auc drops 0.02")
    watched.hear(auc(1, 0.7), auc(137, 0.9), Restarted(round=130, workers=1))
    later = RoundDone(
        round=131, rounds=200, metrics={"validation.auc": 0.8}, best_round=120, best=0.9, rows_per_second=1.0
    )
    assert len(watched.hear(later)) == 1


def test_resuming_as_asked_is_no_restart() -> None:
    readings = AlarmInputs(0.0)
    assert readings.take(Restarted(round=9, workers=2), 1.0) == {"restarts": 0}
    readings.take(PLANNED, 2.0)
    assert readings.take(Restarted(round=9, workers=2), 3.0) == {"restarts": 1}


def test_no_progress_needs_no_event() -> None:
    watched = Watched("no_progress for 120s")
    assert watched.tick(119) == []
    assert watched.tick(1) == ["alarm: no_progress for 120s (now 120 s)"]
    assert watched.tick(500) == []


PROGRESS: list[Event] = [
    FragmentDone(stage="blocks", done=1, total=2, rows=1), done(7), worked("0"), Evaluated(metrics={}, seconds=1),
    Checkpoint(round=3, path="m", seconds=0.1),
]  # fmt: skip
STANDSTILL: list[Event] = [
    Waiting(workers=1, expected=2, seconds=30),
    Restarted(round=2, workers=1),
    Placed(workers=()),
]


@pytest.mark.parametrize("event", PROGRESS, ids=lambda event: type(event).__name__)
def test_what_is_progress(event: Event) -> None:
    watched = Watched("no_progress for 120s")
    assert watched.hear(event, after=100) == []
    assert watched.tick(119) == []
    assert len(watched.tick(1)) == 1


@pytest.mark.parametrize("event", STANDSTILL, ids=lambda event: type(event).__name__)
def test_what_is_none(event: Event) -> None:
    watched = Watched("no_progress for 120s")
    watched.hear(event, after=100)
    assert len(watched.tick(20)) == 1


@pytest.mark.parametrize("event", [Saved(path="m", sha256=""), Failed(message="no")], ids=["saved", "failed"])
def test_a_run_that_is_over_makes_no_progress(event: Event) -> None:
    watched = Watched("no_progress for 120s")
    watched.hear(event)
    assert watched.tick(1000) == []


def test_a_window_restarts_with_a_restart() -> None:
    watched = Watched("rows_per_second < 1e6 for 60s")
    watched.hear(done(1, speed=1.0))
    watched.hear(Restarted(round=0, workers=1), after=50)
    assert watched.hear(done(2, speed=1.0), after=10) == []
    assert len(watched.hear(done(3, speed=1.0), after=60)) == 1


def test_the_efficiency_of_the_last_rounds() -> None:
    watched = Watched("pe < 0.6 for 10s", "lb < 0.9")
    watched.hear(Placed(workers=(place("0"), place("1"))))
    lines: list[str] = []
    for second in range(15):
        events = (worked("0", cpu=0.9, number=second + 1), worked("1", cpu=0.1, number=second + 1))
        watched.hear(*events, done(second + 1))
        lines += watched.tick(1)
    assert len(lines) == 2
    assert lines[0].startswith("alarm: lb < 0.9 (now 0.55")
    assert lines[1].startswith("alarm: pe < 0.6 for 10s (now 0.5")


def test_an_efficiency_that_is_never_known_is_reported_at_the_end() -> None:
    watched = Watched("pe < 0.6")
    assert watched.tick(1) == []
    assert watched.hear(Saved(path="m", sha256="")) == [
        "the alarm pe < 0.6 could not be watched for: the run had no value of it"
    ]


# what is done


def test_exit_is_raised_where_the_run_waits() -> None:
    watched = Watched("no_progress for 120s", do="exit")
    watched.hear(done(37))
    watched.alarms.check()
    assert watched.tick(121) == []  # one line: the error's
    with pytest.raises(AlarmError) as caught:
        watched.alarms.check()
    assert str(caught.value) == "stopped by the alarm no_progress for 120s (now 121 s, round 37)"
    assert caught.value.exit_code == 1


def test_the_first_alarm_that_ends_a_run_is_the_one_that_is_named() -> None:
    watched = Watched("train.auc > 0.5", "restarts > 0", do="exit")
    watched.hear(auc(1, 0.7), Restarted(round=0, workers=1))
    with pytest.raises(AlarmError, match=r"train\.auc > 0\.5 \(now 0\.9, round 1\)"):
        watched.alarms.check()


def test_an_error_of_the_handler_reaches_the_run_and_not_the_emitter() -> None:
    def broken(line: str) -> None:
        raise ValueError("gone")

    watched = Watched("restarts > 0", tell=broken)
    watched.alarms(Restarted(round=0, workers=1))
    with pytest.raises(ValueError, match="gone"):
        watched.alarms.check()


def test_notes_come_back_without_harm() -> None:
    watched = Watched("restarts > 0", tell=lambda line: watched.alarms(Note(message=line)))
    watched.hear(Restarted(round=0, workers=1))
    watched.alarms.check()


def test_a_thread_looks_at_the_clock() -> None:
    told = threading.Event()
    with Alarms([Alarm(when="no_progress for 0.1s")], lambda event: told.set(), tick_seconds=0.01):
        assert told.wait(10)
    assert "alarms" not in {thread.name for thread in threading.enumerate()}


def test_without_alarms_there_is_no_thread() -> None:
    with Alarms([], lambda event: None) as alarms:
        alarms(done(1))
        alarms.check()
        assert "alarms" not in {thread.name for thread in threading.enumerate()}


def test_events_may_come_from_many_threads() -> None:
    said: list[Any] = []
    conditions = [Alarm(when="train.auc > 0.5"), Alarm(when="memory > 0.5")]
    with Alarms(conditions, said.append, tick_seconds=0.0001) as alarms:
        alarms(Placed(workers=(place("0"),)))

        def speak() -> None:
            for number in range(300):
                alarms(auc(number + 1, 0.5))
                alarms(worked("0", 900))

        threads = [threading.Thread(target=speak) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        deadline = time.monotonic() + 10
        while len(said) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
    assert sorted(line.split(" (")[0] for line in said) == ["alarm: memory > 0.5", "alarm: train.auc > 0.5"]
