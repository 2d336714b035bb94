"""Ranks that do not leave the rounds of a training that failed."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from distributed import Client, LocalCluster, get_worker

from pipeline.runtime.membership import WorkerMembership
from pipeline.runtime.worker_session import session_of
from pipeline.training.xgboost.rank_exit import STUCK, thread_cpu_seconds, training_thread, wait_until_ranks_exit


def wait_inside(run: str) -> None:
    with training_thread(session_of(get_worker()), run):
        threading.Event().wait()


def work_inside(run: str, seconds: float) -> None:
    with training_thread(session_of(get_worker()), run):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            sum(range(1_000))


wait_inside.__module__ = work_inside.__module__ = "__main__"  # workers do not have the tests: they travel by value


@pytest.fixture
def client() -> Iterator[Client]:
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0", host="127.0.0.1") as cluster,
        Client(cluster) as client,
    ):
        yield client


def begin(client: Client, task: Any, *arguments: Any, worker: str) -> Any:
    future = client.submit(task, *arguments, workers=[worker], pure=False)
    deadline = time.monotonic() + 20
    while client.run(thread_cpu_seconds, arguments[0], workers=[worker])[worker] is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return future


def test_a_working_rank_is_waited_for_and_a_stuck_one_is_ended(client: Client) -> None:
    lost: list[tuple[str, str]] = []
    with WorkerMembership(client) as members:
        members.lost = lambda address, reason: lost.append((address, reason))
        stuck, busy = sorted(members.refresh())
        working = begin(client, work_inside, "a", 3.0, worker=busy)
        waiting = begin(client, wait_inside, "a", worker=stuck)
        wait_until_ranks_exit(members, [stuck, busy], "a", stuck_seconds=1.0)
        assert client.run(thread_cpu_seconds, "a", workers=[busy]) == {busy: None}
        working.result(timeout=20)
        assert lost == [(stuck, STUCK)]
        del waiting


def test_who_does_not_answer_is_not_waited_for(client: Client) -> None:
    with WorkerMembership(client) as members:
        frozen, other = sorted(members.refresh())
        future = begin(client, wait_inside, "a", worker=frozen)
        pid = client.run(os.getpid, workers=[frozen])[frozen]
        os.kill(pid, signal.SIGSTOP)
        try:
            wait_until_ranks_exit(members, [frozen, other], "a", answer_seconds=0.5)
            assert frozen in members.refresh()
        finally:
            os.kill(pid, signal.SIGKILL)
        del future


def test_other_runs_do_not_count(client: Client) -> None:
    with WorkerMembership(client) as members:
        worker = sorted(members.refresh())[0]
        future = begin(client, work_inside, "another", 5.0, worker=worker)
        wait_until_ranks_exit(members, [worker], "a")
        assert not future.done()
