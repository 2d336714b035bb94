"""States that wait on workers for the client, and announced departures during an attempt."""

from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.errors import CollectiveError, DepartureError, SchedulerLostError, TrainingError, WorkerLostError
from pipeline.runtime.worker_session import NAME, Content, WorkerSession
from pipeline.training import handover
from pipeline.training.handover import Handover
from pipeline.training.state import State
from pipeline.training.trainer import TrainingCallbacks
from pipeline.training.xgboost import dispatch

SPEC: Any = SimpleNamespace(run="run")
A, B, C = (f"tcp://127.0.0.1:{port}" for port in (1001, 1002, 1003))


def state(number: int, *, stopped: bool = False) -> State:
    return State(number, b"trees", {}, [0.1] * number, number, 0.5, stopped)


def test_what_waits_is_bounded_and_dropped() -> None:
    session = WorkerSession()
    worker = SimpleNamespace(plugins={NAME: session})
    for number in range(9):
        handover.put(session, f"run {number}", Handover(state(number)))
    assert list(session.each(Handover)) == [f"run {number}" for number in range(5, 9)]
    handover.put(session, "run 5", Handover(state(50)))
    handover.put(session, "run 9", Handover(state(9)))
    assert handover.pop_checkpoint("run 5", worker) == Handover(state(50))
    assert handover.pop_checkpoint("run 5", worker) is None
    handover.drop(session, "run 7")
    assert list(session.each(Handover)) == ["run 8", "run 9"]


class FakeClient:
    """Workers that have these states; None: one that never answers."""

    status = "running"

    def __init__(self, waiting: dict[str, Handover | Exception | None]) -> None:
        self.waiting = waiting
        self.asked: list[str] = []

    def run(self, function: Any, workers: list[str], on_error: str) -> dict[str, Any]:
        self.asked += workers
        assert (function.func, function.args, on_error) == (handover.pop_checkpoint, ("run",), "ignore")
        return {worker: self.waiting[worker] for worker in workers}


def members_of(client: FakeClient) -> Any:
    """Of a cluster whose workers are those that the client knows."""
    return SimpleNamespace(client=client, refresh=lambda: client.waiting)


def test_the_latest_state_is_collected() -> None:
    client: Any = FakeClient(
        {A: Handover(state(12)), B: Handover(state(12, stopped=True)), C: OSError("its worker has gone")}
    )
    assert handover.collect(client, [A, B, C], "run") == Handover(state(12, stopped=True))
    assert handover.collect(client, [C], "run") is None


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (CollectiveError("a worker is leaving"), DepartureError),
        (
            WorkerLostError(B, "its process ended"),
            DepartureError,
        ),  # SIGTERM: it was gone before the client saw it leave
        (DepartureError(B, "it was retired"), DepartureError),
        (TrainingError("label NaN"), TrainingError),
    ],
)
def test_a_departure_keeps_its_round_and_is_reported(error: Exception, raised: type[Exception]) -> None:
    members = members_of(FakeClient({A: Handover(state(131), (1,)), B: None}))
    kept: list[State] = []
    told = dispatch.keep_last_state(members, [A, B], SPEC, TrainingCallbacks(on_checkpoint=kept.append), error)
    assert type(told) is raised
    assert [one.round for one in kept] == [131]
    if isinstance(told, DepartureError):
        assert told.worker == B


def test_a_lost_worker_is_not_asked() -> None:
    """Dask tries to connect to it until the time to answer is over: a loss would cost as many seconds more."""
    members = members_of(FakeClient({A: Handover(state(131))}))  # which fails where it is asked for another worker
    kept: list[State] = []
    error = WorkerLostError(B, "killed by signal 9")
    assert dispatch.keep_last_state(members, [A, B], SPEC, TrainingCallbacks(on_checkpoint=kept.append), error) is error
    assert members.client.asked == [A]
    assert [one.round for one in kept] == [131]


def test_a_scheduler_that_is_lost_meanwhile_is_not_asked_for_states() -> None:
    def refresh() -> dict[str, object]:
        raise SchedulerLostError("the connection is closed")

    members: Any = SimpleNamespace(client=None, refresh=refresh)
    error = WorkerLostError(B, "killed by signal 9")
    assert dispatch.keep_last_state(members, [A, B], SPEC, TrainingCallbacks(), error) is error


class FakeMembership:
    """Says which workers have announced that they leave, and raises for them."""

    def __init__(self) -> None:
        self.leaving: dict[str, bool] = {}

    def announced(self, workers: Any) -> dict[str, bool]:
        return self.leaving

    def raise_if_lost(self, workers: Any) -> None:
        for worker in workers:
            if worker in self.leaving:
                raise DepartureError(worker, "it was retired")


def test_ranks_that_stay_end_the_attempt_themselves() -> None:
    now = 0.0
    members: Any = FakeMembership()
    departures = dispatch.Departures(members, [A, B, C], clock=lambda: now)
    departures.check({A, B, C})
    members.leaving = {B: True}
    departures.check({A, B, C})
    now = 1_000.0  # a long round
    departures.check({A, B})
    with pytest.raises(DepartureError):
        departures.check({B})
    members.leaving = {B: False}  # gone: its peers see that, or wait for ever
    departures.check({A, B})
    now += dispatch.GONE_SECONDS + 1
    with pytest.raises(DepartureError):
        departures.check({A})


def test_workers_that_cannot_reach_each_other() -> None:
    """The pair is named, and the run continues without one of them."""
    told: dict[str, str] = {}

    def raise_if_lost(workers: Any) -> None:
        for worker in workers:
            raise DepartureError(worker, told[worker])

    members: Any = SimpleNamespace(
        client=None,
        names={A: "0", B: "1", C: "2"},
        hang_seconds=60.0,
        leave_out=told.__setitem__,
        raise_if_lost=raise_if_lost,
        call=lambda ask, workers: ask(),
    )
    dispatch.leave_out_unreachable(members, [A, B, C], lambda *_: [])  # a long round
    with pytest.raises(DepartureError, match=r"workers 0 and 2 cannot reach each other .* without worker 2"):
        dispatch.leave_out_unreachable(members, [A, B, C], lambda *_: [(A, C)])
    assert list(told) == [C]


def test_what_is_put_after_the_end_of_a_run_is_dropped() -> None:
    """The ranks of an interrupted run end a moment after its client has put everything in order."""
    session, late = WorkerSession(), Handover(state(3))
    handover.put(session, "late", late)
    session.close("late")
    handover.put(session, "late", late)
    assert session.contents() == []
    handover.put(session, "another", late)
    assert session.contents() == [("another", Content("the state after round 3", 5))]
