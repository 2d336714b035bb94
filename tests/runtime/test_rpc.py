"""Remote calls to processes that may not answer."""

import functools
import itertools
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from distributed import Client, LocalCluster

from pipeline.cluster.deadline import call_with_deadline
from pipeline.errors import SchedulerLostError, SourceError
from pipeline.runtime.membership import WorkerMembership
from pipeline.runtime.rpc import call_if_connected, translate_connection_errors


@pytest.fixture
def client() -> Iterator[Client]:
    with (
        LocalCluster(n_workers=0, dashboard_address=":0", host="127.0.0.1") as cluster,
        Client(cluster) as client,
    ):
        yield client


@pytest.fixture
def without_scheduler() -> Iterator[Client]:
    """A client that has just lost its scheduler, and gives up after a second."""
    with LocalCluster(n_workers=0, dashboard_address=":0", host="127.0.0.1") as cluster:
        client = Client(cluster.scheduler_address, timeout="1s")
    until(lambda: client.status != "running")
    with client:
        yield client


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_who_takes_too_long_is_not_waited_for() -> None:
    done, end = threading.Event(), threading.Event()
    try:
        call_with_deadline(0.1, "test", end.wait)
    finally:
        end.set()
    call_with_deadline(20.0, "test", done.set, lambda: None)
    assert done.is_set()


def test_no_call_is_made_without_a_process(without_scheduler: Client) -> None:
    def never() -> None:
        raise AssertionError

    assert call_if_connected(without_scheduler, never) is None
    until(lambda: without_scheduler.status == "closed")
    assert call_if_connected(without_scheduler, never) is None


def test_a_client_that_gives_up_while_it_is_asked_gives_nothing(without_scheduler: Client) -> None:
    client = without_scheduler
    until(lambda: client.status == "closed")

    def give_up(ask: Callable[[], object]) -> object:
        client.status = "closed"
        return ask()

    asks: list[Callable[[], object]] = [
        lambda: client.run(len, ""),  # AttributeError
        lambda: client.log_event("topic", "message"),
        lambda: client.subscribe_topic("topic", print),  # ClosedClientError
    ]
    for ask in asks:
        client.status = "running"  # as a moment before
        assert call_if_connected(client, functools.partial(give_up, ask)) is None


def test_other_errors_are_raised(client: Client) -> None:
    assert call_if_connected(client, lambda: 3) == 3
    with pytest.raises(KeyError):
        call_if_connected(client, lambda: {}["a"])
    with pytest.raises(RuntimeError, match="of its own"):
        call_if_connected(client, lambda: client.run_on_scheduler(fail))
    with pytest.raises(AttributeError), translate_connection_errors(client):
        raise AttributeError("a")


def fail() -> None:
    raise RuntimeError("of its own")


fail.__module__ = "__main__"


def test_what_fails_with_the_scheduler_is_reported_as_its_loss(without_scheduler: Client) -> None:
    lost = pytest.raises(SchedulerLostError, match="the scheduler was lost: the connection is closed")
    with lost, translate_connection_errors(without_scheduler):
        raise OSError("connection refused")
    with pytest.raises(SourceError), translate_connection_errors(without_scheduler):
        raise SourceError("a file")
    until(lambda: without_scheduler.status == "closed")
    with lost, translate_connection_errors(without_scheduler):
        without_scheduler.run(len, "")


def test_what_was_cancelled_with_the_connection_is_its_loss(client: Client) -> None:
    future = client.submit(len, "")  # there is no worker to run it
    client.cancel(future, reason="scheduler-connection-lost")
    with pytest.raises(SchedulerLostError), translate_connection_errors(client):
        future.result()


def test_a_loss_that_is_known_is_reported_at_once(client: Client) -> None:
    """Though the connection is open: a scheduler that has been stopped does not close it."""
    asked: list[object] = []

    def silent(client: Client, seconds: float) -> dict[str, object]:
        asked.append(client)
        raise TimeoutError

    now = itertools.count(step=10.0)
    members = WorkerMembership(client, 60.0, clock=lambda: next(now))
    members.scheduler_info, members.ask_again_seconds = silent, 0.0
    for _ in range(2):
        with pytest.raises(SchedulerLostError, match="it has not answered for"):
            members.refresh()
    assert len(asked) == 3
    with pytest.raises(SchedulerLostError, match="it has not answered for"), members.translate_connection_errors():
        raise KeyError("a")
