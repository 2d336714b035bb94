"""What runs keep on workers and the scheduler: in one session each, by run, and gone when the run is closed."""

import json
import re
import subprocess
import sys
import threading
from types import SimpleNamespace
from typing import Any

import pytest
from distributed import Client
from distributed.protocol.pickle import dumps

import pipeline
from pipeline.cli import terminal
from pipeline.cli.main import cli
from pipeline.run.doctor import lines
from pipeline.runtime import scheduler_session, sessions
from pipeline.runtime.scheduler_session import SchedulerSession
from pipeline.runtime.worker_session import (
    NAME,
    Content,
    RunResource,
    WorkerSession,
    contents_on,
    session_of,
    worker_session,
)
from pipeline.training.handover import Handover


class Rows(RunResource):
    def __init__(self, run: str) -> None:
        self.run, self.closed, self.seen = run, False, 0

    def contents(self) -> list[Content]:
        return [Content("rows", 3)]

    def transition(self, start: str, finish: str) -> None:
        self.seen += 1

    def close(self) -> None:
        self.closed = True


class Files(RunResource):
    """Another class that keeps things, in its own way."""


def test_each_run_has_its_own_until_it_is_closed() -> None:
    session = WorkerSession()
    rows, others = session.of("a", Rows), session.of("b", Rows)
    assert rows is not None
    assert others is not None
    assert session.of("a", Rows) is session.find("a", Rows) is rows is not others
    assert session.find("a", Files) is None
    assert session.of("a", Files) is not None
    session.transition("task", "ready", "executing")
    assert (rows.seen, others.seen) == (1, 1)
    session.close("a")
    session.close("a")
    assert (rows.closed, others.closed) == (True, False)
    assert session.contents() == [("b", Content("rows", 3))]
    assert session.each(Rows) == {"b": others}


def test_nothing_is_kept_of_a_run_that_is_over() -> None:
    """Tasks may end later than their run, also of a run that had nothing here before."""
    session = WorkerSession()
    session.close("a")
    assert session.of("a", Rows) is None
    assert not session.put("a", Rows("a"))
    assert session.find("a", Rows) is None
    assert session.contents() == []


def test_the_latest_object_of_a_class_counts_and_comes_last() -> None:
    session = WorkerSession()
    for run in ("a", "b", "a"):
        session.put(run, Rows(run))
    assert list(session.each(Rows)) == ["b", "a"]
    latest = session.find("a", Rows)
    assert session.pop("a", Rows) is latest
    assert session.pop("a", Rows) is None


def test_many_threads_get_one_object() -> None:
    session, found, start = WorkerSession(), [], threading.Barrier(8)

    def get() -> None:
        start.wait()
        found.append(session.of("a", Rows))

    threads = [threading.Thread(target=get) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(map(id, found))) == 1


def test_a_worker_has_one_session_whoever_asks_first(client: Client) -> None:
    def forget(dask_worker: Any) -> None:
        dask_worker.plugins.pop(NAME, None)

    def of_task(_: int) -> int:
        return id(worker_session())

    def of_call(dask_worker: Any) -> int:
        return id(session_of(dask_worker))

    address = next(iter(client.scheduler_info()["workers"]))
    client.run(forget, workers=[address])
    try:
        tasks = client.map(of_task, range(4), workers=[address], pure=False)
        assert len({*client.gather(tasks), client.run(of_call, workers=[address])[address]}) == 1
    finally:
        client.run(of_call)


def test_outside_a_worker_there_is_none() -> None:
    assert worker_session() is None


@pytest.fixture
def scheduler() -> Any:
    """A scheduler with two clients, as far as its session uses one."""
    return SimpleNamespace(clients={"one": None, "two": None}, workers={})


def test_trainings_lock_all_their_workers_or_none(scheduler: Any) -> None:
    session = SchedulerSession(scheduler)
    assert session.lock(["w0", "w1"], "a", "one", "first")
    assert not session.lock(["w1", "w2"], "b", "two", "second")
    assert session.lock(["w2"], "b", "two", "second")
    session.unlock("first")
    assert session.lock(["w0"], "b", "two", "third")
    assert session.contents() == [("b", "the lock of worker w2"), ("b", "the lock of worker w0")]
    session.close_run("b")
    assert session.contents() == []


def test_an_attempt_releases_its_own_locks_only(scheduler: Any) -> None:
    """The release of an attempt may arrive after the next attempt of the same run has locked."""
    session = SchedulerSession(scheduler)
    session.lock(["w0"], "a", "one", "first")
    session.unlock("first")
    session.lock(["w0"], "a", "one", "second")
    session.unlock("first")
    assert not session.lock(["w0"], "b", "two", "third")


def test_a_lock_whose_answer_came_too_late_is_the_runs_own(scheduler: Any) -> None:
    """A client that lost a worker meanwhile gave up waiting for it, and nobody would release it."""
    session = SchedulerSession(scheduler)
    assert session.lock(["w0", "w1"], "a", "one", "given up")
    assert session.lock(["w0"], "a", "one", "next attempt")
    assert not session.lock(["w0"], "b", "one", "another run")
    assert not session.lock(["w1"], "b", "two", "another client")


def test_locks_of_a_client_that_is_gone_are_free(scheduler: Any) -> None:
    session = SchedulerSession(scheduler)
    session.lock(["w0"], "a", "one", "first")
    del scheduler.clients["one"]
    assert session.lock(["w0"], "b", "two", "second")


def test_runs_of_clients_that_are_gone_are_named(scheduler: Any) -> None:
    session = SchedulerSession(scheduler)
    assert session.open_run("a", "one", b"") == []
    del scheduler.clients["one"]
    assert session.open_run("b", "two", b"") == ["a"]
    session.close_run("a")
    session.close_run("a")
    assert session.contents() == [("b", "registered by two")]


WITHOUT_PACKAGE = """
import pickle, sys
from types import SimpleNamespace
sys.modules["pipeline"] = None
call = pickle.loads(sys.stdin.buffer.read())
scheduler = SimpleNamespace(plugins={}, clients={"one": None})
scheduler.add_plugin = lambda plugin, name: scheduler.plugins.update({name: plugin})
assert call("open_run", "a", "one", b"", dask_scheduler=scheduler) == []
assert call("lock", ["w0"], "a", "one", "first", dask_scheduler=scheduler)
assert not call("lock", ["w0"], "b", "one", "second", dask_scheduler=scheduler)
assert len(scheduler.plugins) == 1
"""


def test_a_scheduler_needs_no_package_of_ours() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_PACKAGE], input=dumps(scheduler_session.call), capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()


def _keep(run: str, dask_worker: Any) -> None:
    from pipeline.runtime.task_ledger import Ledger
    from pipeline.runtime.worker_session import session_of

    session_of(dask_worker).put(run, Ledger(run))


_keep.__module__ = "__main__"  # workers do not have the tests: it travels by value


def test_doctor_lists_what_runs_keep(client: Client) -> None:
    address = client.scheduler.address
    worker, other = sorted(client.scheduler_info()["workers"])
    names = {at: str(facts["name"]) for at, facts in client.scheduler_info()["workers"].items()}
    for run in ("doctors-a", "doctors-b"):
        sessions.open_run(client, run)
        client.run(_keep, run, workers=[worker])
    found = pipeline.doctor(address)
    registered = f"registered by {client.id}"
    ours = [kept for kept in found["kept"] if kept["run"].startswith("doctors-")]
    assert ours == [{"run": run, "what": registered, "nbytes": None} for run in ("doctors-a", "doctors-b")]
    kept = {each["worker"]: each["kept"] for each in found["workers"]}
    ledger = "the ledger of its tasks"
    assert kept[names[worker]] == [{"run": run, "what": ledger, "nbytes": None} for run in ("doctors-a", "doctors-b")]
    assert kept[names[other]] == []
    sessions.close_run(client, "doctors-a")
    rows = [tuple(cell for cell in row if cell) for row in lines(pipeline.doctor(address))]
    assert (f"worker {names[worker]}", "run doctors-b", ledger) in rows
    assert (f"worker {names[other]}", "nothing") in rows
    assert not [row for row in rows if "run doctors-a" in row]
    sessions.close_run(client, "doctors-b")
    assert list(client.run(contents_on).values()) == [[], []]


def test_the_command_lists_it_as_text_and_as_json(client: Client, capfd: pytest.CaptureFixture[str]) -> None:
    worker = min(client.scheduler_info()["workers"])
    client.run(_keep, "commands", workers=[worker])
    try:
        assert terminal.run(cli, ["doctor", "--scheduler", client.scheduler.address, "--json"]) == 0
        (found,) = [each for each in json.loads(capfd.readouterr().out)["workers"] if each["kept"]]
        assert found["kept"] == [{"run": "commands", "what": "the ledger of its tasks", "nbytes": None}]
        assert terminal.run(cli, ["doctor", "--scheduler", client.scheduler.address]) == 0
        assert re.search(r"^worker \S+ +run commands +the ledger of its tasks$", capfd.readouterr().out, re.MULTILINE)
    finally:
        sessions.close_run(client, "commands")


def test_a_setting_of_a_cluster_that_is_not_asked_is_refused(capfd: pytest.CaptureFixture[str]) -> None:
    assert terminal.run(cli, ["doctor", "--set", "cluster.device=auto", "--set", "cluster.workers=2"]) == 2
    assert "cluster.workers has an effect with a scheduler only" in capfd.readouterr().err


def test_a_worker_that_does_not_answer_is_listed() -> None:
    found = {"scheduler": "tcp://a:1", "kept": [], "workers": [{"worker": "0", "kept": None}]}
    assert lines(found) == [("scheduler", "nothing"), ("worker 0", "does not answer")]


def test_a_state_is_listed_with_its_bytes() -> None:
    state: Any = SimpleNamespace(round=7, content=b"trees")
    assert Handover(state).contents() == (Content("the state after round 7", 5),)
