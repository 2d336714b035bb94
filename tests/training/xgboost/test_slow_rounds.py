"""Rounds that take unusually long, on a clock of our own."""

import math

from pipeline.events.types import RoundDone
from pipeline.training.xgboost.slow_rounds import SlowRoundDetector, Stall


class Scene:
    """A training of two workers."""

    def __init__(self, early_stopping: int = 0) -> None:
        self.now, self.words = 0.0, {"a": 0.0, "b": 0.0}
        self.pace = SlowRoundDetector(early_stopping, clock=lambda: self.now)

    def round(self, number: int, seconds: float, best: int | None = None, rounds: int = 100) -> None:
        self.now += seconds
        self.pace.heard(
            RoundDone(round=number, rounds=rounds, metrics={}, best_round=best or number, rows_per_second=1.0)
        )

    def after(self, seconds: float, *silent: str) -> str | None:
        """The note when the time has passed, and all but these workers have sent a heartbeat."""
        self.now += seconds
        self.words |= {worker: self.now for worker in self.words if worker not in silent}
        return self.pace.slow(lambda: dict(self.words))


def test_a_slow_round_is_reported_once() -> None:
    scene = Scene()
    for number in range(1, 6):
        scene.round(number, 2.4)
    assert scene.after(23) is None
    assert scene.after(1.5) is None  # from here on the workers are looked at
    said = "round 6 takes unusually long: 25 s so far, the median is 2.4 s; every worker answers"
    assert scene.after(0.5) == said
    assert scene.after(100) is None
    scene.round(6, 0.1)
    assert scene.after(25) is None
    assert str(scene.after(1)).startswith("round 7 takes unusually long")


def test_a_worker_that_is_silent_may_be_frozen() -> None:
    scene = Scene()
    for number in range(1, 6):
        scene.round(number, 1.0)
    assert scene.after(20, "b") is None
    assert scene.after(20, "b") is None
    assert scene.after(1) is not None


def test_events_leave_rounds_out() -> None:
    scene = Scene()
    for number in (10, 20, 30, 40):
        scene.round(number, 0.5)
    assert scene.after(9) is None  # many times the median, but not worth telling
    assert scene.after(2) is None
    said = "a round after 40 takes unusually long: 12 s so far, the median is 0.05 s; every worker answers"
    assert scene.after(1) == said


def test_what_follows_the_last_round_is_none() -> None:
    over, stopped = Scene(), Scene(early_stopping=3)
    for number in range(1, 8):
        over.round(number, 1.0, rounds=7)
        stopped.round(number, 1.0, best=min(number, 4))
    for scene in (over, stopped):
        assert scene.after(50) is None
        assert scene.after(50) is None


def test_nothing_to_compare_with() -> None:
    scene = Scene()
    assert scene.after(100) is None
    scene.round(1, 1.0)
    scene.round(2, 1.0)
    assert scene.after(100) is None
    assert scene.after(100) is None


def test_no_round_for_long_is_looked_into_again_and_again() -> None:
    now = 0.0
    stall = Stall(60.0, clock=lambda: now)
    now = 60.0
    assert not stall.due()
    stall.heard()
    now = 120.5
    assert stall.due()
    assert not stall.due()
    now = 181.0
    assert stall.due()
    assert not Stall(math.inf).due()
