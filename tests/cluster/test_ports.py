"""Which ports are open during a training: loopback, but for XGBoost's own listener in each worker."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from distributed import Client, LocalCluster

import pipeline
from pipeline.cluster.memory import process_tree
from pipeline.cluster.scheduler_info import scheduler_info
from pipeline.config.job import Cluster, Job
from pipeline.data import fragments
from pipeline.run.connect import connect
from pipeline.runtime.placement import placement

WAIT_SECONDS = 60
SECTION = Cluster(device="cpu", workers=2, threads=1, memory="1GiB")


@dataclass(frozen=True, order=True)
class Port:
    """A listening socket of a process."""

    pid: int
    host: str
    number: int

    @property
    def loopback(self) -> bool:
        return self.host == "127.0.0.1"


def listening(pids: list[int] | None = None) -> set[Port]:
    """All listening TCP sockets, and all UDP sockets, of these processes; default: this one and all that it started."""
    found = set()
    for pid in process_tree() if pids is None else pids:
        try:
            connections = psutil.Process(pid).net_connections(kind="inet")
        except psutil.NoSuchProcess:  # one that only asked for something
            continue
        for connection in connections:
            if connection.status in (psutil.CONN_LISTEN, psutil.CONN_NONE) and connection.laddr:
                found.add(Port(pid, connection.laddr.ip, connection.laddr.port))
    return found


def hold(folder: str) -> None:
    """Makes the rounds in this process wait, once its communicator is connected, until a file releases them."""
    from pipeline.training.xgboost import rounds

    boost = rounds._Rounds.boost

    def wait_and_boost(self: Any) -> None:
        with open(os.path.join(folder, f"{os.getpid()}.stands"), "x"):
            pass
        deadline = time.monotonic() + 60
        while not os.path.exists(os.path.join(folder, "go")) and time.monotonic() < deadline:
            time.sleep(0.01)
        boost(self)

    rounds._Rounds.boost = wait_and_boost  # type: ignore[method-assign]


hold.__module__ = "__main__"  # workers do not have the tests: travels by value


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Files that are a fragment each, however small: also a worker that seems slow gets some."""
    monkeypatch.setattr(fragments, "MIN_FRAGMENT_NBYTES", 1)
    rng = np.random.default_rng(0)
    for number in range(12):
        x = rng.normal(size=500)
        pq.write_table(pa.table({"x": x, "y": rng.normal(size=500), "late": x > 0.3}), tmp_path / f"{number}.parquet")
    return tmp_path


@pytest.fixture
def others() -> set[Port]:
    """Of clusters that other tests share."""
    return listening()


@pytest.fixture
def client(others: set[Port]) -> Iterator[Client]:
    with connect(SECTION) as client:
        yield client


def job_of(data: Path, **cluster: Any) -> Job:
    return Job.parse(
        {
            "data": {"source": str(data / "*.parquet"), "target": "late"},
            "training": {"rounds": 4},
            "cluster": cluster,
            "output": {"model": str(data / "model"), "report": False},
        }
    )


@dataclass(frozen=True)
class Watched:
    """What was seen of the ports of a training of two workers."""

    before: set[Port]
    during: set[Port]  # with the communicator standing
    ever: set[Port]  # from the first moment to the last
    workers: set[int]  # pids


def watch(client: Client, job: Job, folder: Path) -> Watched:
    """Trains, holding the rounds in the folder until the ports have been looked at."""
    workers = set(client.run(os.getpid).values())
    client.run(hold, str(folder))
    before, during, ever = listening(), set[Port](), set[Port]()
    errors: list[BaseException] = []

    def train() -> None:
        try:
            pipeline.train(client, job)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=train)
    thread.start()
    try:
        while thread.is_alive():
            stand = all((folder / f"{pid}.stands").exists() for pid in workers)
            now = listening()
            ever |= now
            if stand and not during:
                during = now
                (folder / "go").touch()
            thread.join(0.01)
    finally:
        (folder / "go").touch()
        thread.join()
    assert errors == []
    assert during
    return Watched(before, during, ever, workers)


def test_all_ports_are_on_loopback_while_it_trains(
    client: Client, others: set[Port], data: Path, tmp_path: Path
) -> None:
    seen = watch(client, job_of(data), tmp_path)
    me = os.getpid()
    assert all(port.loopback for port in seen.before | seen.during)

    # XGBoost's own, on all addresses: while its ranks look for each other, and only in the workers
    exposed = {port for port in seen.ever if not port.loopback}
    assert {port.host for port in exposed} <= {"0.0.0.0"}
    assert {port.pid for port in exposed} <= seen.workers

    info = scheduler_info(client)
    ports = {port.number: port.pid for port in seen.during - others}
    assert ports[number_of(info["address"])] == me
    assert ports[info["services"]["dashboard"]] == me
    for address, facts in info["workers"].items():
        assert ports[number_of(address)] in seen.workers
        assert ports[number_of(facts["nanny"])] == me
        assert ports[facts["services"]["dashboard"]] in seen.workers  # its health and metrics
    new = seen.during - seen.before
    assert len(new) == 1  # the tracker
    assert {port.pid for port in new} <= seen.workers
    assert len(ports) == 2 + 2 * 3 + 1  # all that SECURITY.md's table lists

    until(lambda: listening() == seen.before)


@pytest.mark.slow
def test_xgboost_opens_its_listeners_to_all_when_left_alone(data: Path, tmp_path: Path) -> None:
    """What SECURITY.md says of the moment before they are closed."""
    with connect(SECTION) as client:
        client.run(leave_alone)
        seen = watch(client, job_of(data), tmp_path)
    exposed = [port for port in seen.during if not port.loopback]
    assert sorted(port.pid for port in exposed) == sorted(seen.workers)  # one each
    assert {port.host for port in exposed} == {"0.0.0.0"}


def leave_alone() -> None:
    import contextlib

    from pipeline.training.xgboost import ports as listeners

    listeners.close_listening_sockets = contextlib.nullcontext  # type: ignore[assignment]


leave_alone.__module__ = "__main__"


def number_of(address: str) -> int:
    return int(address.rpartition(":")[2])


@pytest.mark.slow
def test_one_worker_opens_nothing_for_xgboost(data: Path) -> None:
    with connect(Cluster(device="cpu", workers=1, threads=1)) as client:
        before = listening()
        assert {port.host for port in before} == {"127.0.0.1"}
        ever: set[Port] = set()
        pipeline.train(client, job_of(data), listen=lambda event: ever.update(listening()))
        assert ever == before


@pytest.mark.slow
def test_a_running_schedulers_dashboard_is_left_as_it_is(data: Path) -> None:
    """Neither started where it has none, nor put anywhere else, nor added to."""
    with LocalCluster(
        n_workers=1, threads_per_worker=1, processes=True, host="127.0.0.1", dashboard_address="127.0.0.1:0",
        scheduler_kwargs={"dashboard": False}, silence_logs=51,
    ) as cluster:  # fmt: skip
        applications = list(cluster.scheduler.http_application.applications)
        routes = [str(rule.matcher) for rule in cluster.scheduler.http_application.wildcard_router.rules]
        before = listening()
        section = Cluster(device="cpu", scheduler=cluster.scheduler_address)
        with connect(section) as client:
            link = placement(client, section).dashboard
            assert link is None or link == cluster.dashboard_link
            pipeline.train(client, job_of(data, scheduler=cluster.scheduler_address))
            assert listening() == before
        assert cluster.scheduler.http_application.applications == applications
        assert [str(rule.matcher) for rule in cluster.scheduler.http_application.wildcard_router.rules] == routes
        assert listening() == before
