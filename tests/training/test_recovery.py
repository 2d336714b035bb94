"""What is decided when workers come and go, without a cluster."""

from functools import reduce
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.training.recovery import (
    AttemptStarted,
    CheckpointKept,
    Departure,
    Interruption,
    Policy,
    Recovery,
    RecoveryEvent,
    WorkersJoined,
    WorkersPresent,
    begin,
    step,
)

POLICY = Policy(wait_seconds=30.0, max_restarts=2)
LOST = Interruption(at=100.0, line="worker 1 lost")
LEFT = Departure(at=100.0, line="worker 1 lost: it was retired")


def after(*seen: RecoveryEvent, workers: int = 2, policy: Policy = POLICY) -> Recovery:
    return reduce(lambda now, one: step(now, one, policy), seen, begin(workers))


@pytest.mark.parametrize(
    ("seen", "state"),
    [
        ([], "running"),
        ([LOST], "waiting"),
        ([LOST, WorkersPresent(at=101.0, workers=1)], "waiting"),
        ([LOST, WorkersPresent(at=101.0, workers=2)], "restarting"),
        ([LOST, WorkersPresent(at=130.0, workers=1)], "restarting"),
        ([LOST, WorkersPresent(at=130.0, workers=0)], "failed"),
        ([LOST, WorkersPresent(at=101.0, workers=2), AttemptStarted(2)], "running"),
        ([LEFT, WorkersPresent(at=101.0, workers=1)], "waiting"),
        ([LEFT, WorkersPresent(at=101.0, workers=2)], "restarting"),
        ([LEFT, WorkersPresent(at=110.0, workers=1)], "restarting"),  # few that leave as announced are replaced
        ([LEFT, WorkersPresent(at=110.0, workers=0)], "waiting"),
        ([LEFT, WorkersPresent(at=130.0, workers=0)], "failed"),
        ([WorkersJoined(at=100.0, workers=3)], "waiting"),
        ([WorkersJoined(at=100.0, workers=3), WorkersPresent(at=100.0, workers=3)], "restarting"),
        ([WorkersJoined(at=100.0, workers=3), WorkersPresent(at=100.0, workers=0)], "waiting"),
        ([WorkersJoined(at=100.0, workers=1), WorkersPresent(at=100.0, workers=2)], "restarting"),  # it has left again
    ],
)
def test_states(seen: list[RecoveryEvent], state: str) -> None:
    assert after(*seen).state == state


def back(at: float) -> list[RecoveryEvent]:
    """A loss, and its end."""
    return [Interruption(at=at, line=f"lost at {at:g}"), WorkersPresent(at=at + 1, workers=2), AttemptStarted(2)]


def test_too_many_restarts() -> None:
    now = after(*back(1), *back(2), Interruption(at=3, line="lost at 3"))
    assert now.state == "failed"
    assert now.events == ("lost at 1", "lost at 2", "lost at 3")
    assert now.reason == "given up after 2 restarts without progress (training.max_restarts = 2)"
    assert after(LOST, policy=Policy(30.0, max_restarts=0)).state == "failed"


def test_announced_departures_are_no_restarts() -> None:
    again = [LEFT, WorkersPresent(at=101.0, workers=2), AttemptStarted(2)]
    now = after(*again * 5)
    assert (now.state, now.restarts) == ("running", 0)
    assert after(*back(1), *back(2), *again, Interruption(at=3, line="lost at 3")).state == "failed"
    waiting = after(*again, LOST)
    assert waiting.wait_seconds(POLICY) == POLICY.wait_seconds


def test_progress_counts_restarts_from_zero() -> None:
    assert after(*back(1), *back(2), CheckpointKept(10), *back(3), *back(4)).state == "running"
    no_progress = after(
        CheckpointKept(10), *back(1), CheckpointKept(10), *back(2), CheckpointKept(10), Interruption(3, "again")
    )
    assert no_progress.state == "failed"


def test_fewer_workers_are_what_is_expected_from_then_on() -> None:
    now = after(LOST, WorkersPresent(at=131.0, workers=1), AttemptStarted(1), workers=2)
    assert now.expected == 1


ANYTHING = st.one_of(
    st.builds(Interruption, at=st.floats(0, 1e6), line=st.just("lost")),
    st.builds(Departure, at=st.floats(0, 1e6), line=st.just("left")),
    st.builds(WorkersPresent, at=st.floats(0, 1e6), workers=st.integers(0, 4)),
    st.builds(WorkersJoined, at=st.floats(0, 1e6), workers=st.integers(0, 6)),
    st.builds(CheckpointKept, round=st.integers(0, 100)),
    st.builds(AttemptStarted, workers=st.integers(1, 4)),
)


@given(st.lists(ANYTHING, max_size=40), st.integers(1, 4))
def test_whatever_happens(seen: list[Any], workers: int) -> None:
    policy = Policy(30.0, 3)
    now = begin(workers)
    for one in seen:
        before, now = now, step(now, one, policy)
        assert now.restarts <= policy.max_restarts
        assert now.progress >= before.progress
        assert len(now.events) >= len(before.events)
        if before.state == "failed":
            assert now is before
        if now.state == "failed":
            assert now.reason
        if now.state == "restarting" and before.state != "restarting":
            assert isinstance(one, WorkersPresent)  # only on workers that have just been seen
            assert one.workers > 0


def test_an_empty_cluster_has_patience_of_its_own() -> None:
    """`wait_seconds` is for one lost worker; replacements of all may be in a queue."""
    patient = Policy(wait_seconds=30.0, max_restarts=2, patience_seconds=600.0)
    waiting = after(LOST, WorkersPresent(at=500.0, workers=0), policy=patient)
    assert waiting.state == "waiting"
    failed = step(waiting, WorkersPresent(at=700.0, workers=0), patient)
    assert failed.state == "failed"
    assert failed.reason == "no worker is left, and none came back within 600 s (cluster.patience)"
    first = step(waiting, WorkersPresent(at=510.0, workers=1), patient)  # the others get as long as after a loss
    assert first.state == "waiting"
    assert step(first, WorkersPresent(at=539.0, workers=1), patient).state == "waiting"
    assert step(first, WorkersPresent(at=540.0, workers=1), patient).state == "restarting"
    assert step(first, WorkersPresent(at=520.0, workers=2), patient).state == "restarting"
