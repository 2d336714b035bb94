"""One count of restarts, for pages, Prometheus and alarms: those after failures."""

import itertools
from collections.abc import Sequence

import pytest

from pipeline.events.types import Event, Place, Placed, Planned, Restarted, WorkerJoined, WorkerLost
from pipeline.monitoring import prometheus
from pipeline.monitoring.alarms.alarm_inputs import AlarmInputs
from pipeline.monitoring.state.bounds import INCIDENTS
from pipeline.monitoring.state.restarts import Restarts
from pipeline.monitoring.state.run_store import RunStore
from tests.monitoring.state.test_run_store import worker_rounds

PLANNED = Planned(time=2.0, rows=1, features=1, fragments=1, workers=2, threads=1, nbytes=1)


def again(time: float) -> Restarted:
    return Restarted(time=time, round=9, workers=2)


def lost(time: float) -> WorkerLost:
    return WorkerLost(time=time, worker="1", stage="rounds", round=9, reason="killed")


def joined(time: float) -> WorkerJoined:
    return WorkerJoined(time=time, worker="2")


CASES: dict[str, tuple[Sequence[Event], int]] = {
    "resumed": ((again(1.0), PLANNED), 0),
    "resumed, then lost one": ((again(1.0), PLANNED, lost(3.0), again(4.0)), 1),
    "one joined": ((PLANNED, joined(3.0), again(4.0)), 0),
    "one joined, then the network failed": ((PLANNED, joined(3.0), again(4.0), again(5.0)), 1),
    "one lost while another joined": ((PLANNED, lost(3.0), joined(3.5), again(4.0)), 1),
    "heard of late": ((lost(3.0), again(4.0)), 1),
}


@pytest.mark.parametrize("case", CASES)
def test_only_those_after_failures_count(case: str) -> None:
    said, expected = CASES[case]
    for order in itertools.permutations(said):
        board = RunStore()
        for event in (*order, *order):
            board.apply("a", event)
        assert board.runs["a"].restarts == expected
        found = [value for name, _, value in prometheus.samples(board) if name == "run_restarts_total"]
        assert found == [expected]
    readings, told = AlarmInputs(0.0), {}
    for at, event in enumerate(said):
        told |= readings.take(event, float(at))
    assert told.get("restarts", 0) == expected


def test_very_many_are_counted_and_not_kept() -> None:
    restarts = Restarts()
    restarts.take(PLANNED)
    for number in range(1_000):
        restarts.take(lost(10.0 * number + 10))
        restarts.take(again(10.0 * number + 11))
    assert restarts.count == 1_000
    assert len(restarts.kept) <= INCIDENTS


def placed(time: float, *names: str) -> Placed:
    return Placed(time=time, workers=tuple(
        Place(worker=name, rows=1, share=0.5, capability=0.5, threads=1, memory_limit_nbytes=0, planned_nbytes=0)
        for name in names
    ))  # fmt: skip


def test_no_worker_is_missing_when_as_many_continue_as_there_were() -> None:
    board = RunStore()
    board.apply("a", placed(1.0, "1", "2"))
    board.apply("a", worker_rounds("1", 1, 2.0))
    board.apply("a", lost(3.0))
    assert board.runs["a"].missing == ["1"]
    board.apply("a", Restarted(time=4.0, round=0, workers=1))
    assert board.runs["a"].missing == ["1"]
    board.apply("a", again(5.0))
    assert board.runs["a"].missing == []
    assert len(board.runs["a"].training) == 2


@pytest.mark.parametrize(("name", "back"), [("1", True), ("3", False)])
def test_who_has_come_back_is_known_when_workers_are_placed(name: str, back: bool) -> None:
    board = RunStore()
    for event in (placed(1.0, "1", "2"), lost(3.0), again(5.0), placed(7.0, name, "2")):
        board.apply("a", event)
    run = board.runs["a"]
    assert (run.workers["1"].away, run.workers["1"].begins) == ((False, [7.0]) if back else (True, []))
    assert {worker.name for worker in run.training} == {name, "2"}
    assert run.missing == []
