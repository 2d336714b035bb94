"""Asking where nobody may be there to answer."""

import time

import pytest
from distributed import Client, LocalCluster

from pipeline.cluster.asking import if_there, in_time
from pipeline.cluster.members import Members
from pipeline.errors import SchedulerLostError, SourceError


def test_who_takes_too_long_is_not_waited_for() -> None:
    done: list[str] = []

    def slow() -> None:
        time.sleep(5.0)
        done.append("slow")

    in_time(0.5, "test", slow, lambda: done.append("fast"))
    assert done == ["fast"]


@pytest.fixture
def closed() -> Client:
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=":0", host="127.0.0.1") as cluster,
        Client(cluster) as client,
    ):
        client.subscribe_topic("topic", print)
    return client


def test_a_closed_client_is_not_asked(closed: Client) -> None:
    def never() -> None:
        raise AssertionError

    assert if_there(closed, never) is None


def test_a_client_that_closes_while_it_is_asked_gives_nothing(closed: Client) -> None:
    closed.status = "running"  # as before it gave up
    try:
        assert if_there(closed, lambda: closed.run(len, "")) is None
        assert if_there(closed, lambda: closed.log_event("topic", "message")) is None
        with pytest.raises(KeyError):
            if_there(closed, lambda: {}["a"])
    finally:
        closed.status = "closed"
    assert if_there(closed, lambda: closed.unsubscribe_topic("topic")) is None


def test_an_error_of_ours_is_no_lost_connection() -> None:
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=":0", host="127.0.0.1") as cluster,
        Client(cluster) as client,
    ):
        assert if_there(client, lambda: 3) == 3
        with pytest.raises(AttributeError):
            if_there(client, lambda: client.nothing)
        with pytest.raises(AttributeError), Members(client).telling_loss():
            raise AttributeError("a")


def test_what_fails_with_the_scheduler_is_told_as_its_loss(closed: Client) -> None:
    members = Members(closed)
    with (
        pytest.raises(SchedulerLostError, match="the scheduler was lost: the connection is closed"),
        members.telling_loss(),
    ):
        closed.run(len, "")
    with pytest.raises(SourceError), members.telling_loss():
        raise SourceError("a file")
