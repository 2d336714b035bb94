"""A running scheduler: reached or refused with one line, over TLS, with workers that can do the work."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
from distributed import LocalCluster
from distributed.security import Security

from pipeline.cluster import same_code
from pipeline.cluster.launchers import existing
from pipeline.config.job import Cluster
from pipeline.config.job import Security as Files
from pipeline.errors import ClusterError
from pipeline.run.connect import connect
from pipeline.runtime.membership import WorkerMembership
from pipeline.runtime.placement import placement

QUIET: dict[str, Any] = {
    "dashboard_address": "127.0.0.1:0",
    "scheduler_kwargs": {"dashboard": False},
    "silence_logs": 51,
    "processes": False,
    "threads_per_worker": 1,
    "host": "127.0.0.1",
}


@pytest.fixture(scope="module")
def running() -> Iterator[str]:
    """The address of a scheduler that another process started, with two workers and no nannies."""
    with LocalCluster(n_workers=2, protocol="tcp://", **QUIET) as cluster:
        yield cluster.scheduler_address


def test_running_scheduler_outlives_us(running: str) -> None:
    for _ in range(2):
        section = Cluster(device="cpu", scheduler=running, workers=2)
        with connect(section) as client:
            where = placement(client, section)
            assert client.submit(sum, [1, 2]).result() == 3
        assert not where.local
        assert not where.oversubscribed
        assert len(where.workers) == 2
        assert any("2 workers run without a nanny" in note for note in where.notes)


def test_fewer_workers_asked_than_there_are(running: str) -> None:
    section = Cluster(scheduler=running, workers=1, dashboard=False)
    with connect(section) as client:
        where = placement(client, section)
    assert len(where.workers) == 1
    assert where.dashboard is None
    assert where.device == "cpu"  # auto: the workers were asked


def test_more_workers_asked_than_there_are(running: str) -> None:
    with (
        pytest.raises(ClusterError, match=r"cluster.workers = 3, but tcp://.* has 2: start more"),
        connect(Cluster(scheduler=running, workers=3)),
    ):
        pass


def test_workers_without_a_gpu(running: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(existing, "gpu_reasons", lambda client, workers: dict.fromkeys(workers, "no driver"))
    section = Cluster(scheduler=running, device="cuda")
    with connect(section) as client, pytest.raises(ClusterError, match=r"2 of 2 workers cannot, e.g. .*: no driver"):
        placement(client, section)


def test_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    assert existing.TIMEOUT_SECONDS < 10
    monkeypatch.setattr(existing, "SILENT_SECONDS", 1)
    with socket.socket() as silent:  # accepts, and says nothing
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"tcp://127.0.0.1:{silent.getsockname()[1]}"
        begin = time.monotonic()
        with pytest.raises(ClusterError, match=f"cluster.scheduler = {address}: not reachable") as caught:
            connect(Cluster(scheduler=address)).__enter__()
    assert time.monotonic() - begin < 25  # less than the 30 of one that may be busy
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "tcp://no.such.host.invalid:8786", "carrier://pigeon"])
def test_not_reachable(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(existing, "TIMEOUT_SECONDS", 1)
    begin = time.monotonic()
    with pytest.raises(ClusterError, match="not reachable") as caught:
        connect(Cluster(scheduler=address)).__enter__()
    assert time.monotonic() - begin < 20  # Dask tries for 30
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        ("pipeline", r"do not match: pipeline not installed .* on 1 of 1 workers"),
        (
            "pipeline.training",
            r"do not match: pipeline cannot be imported \(.*\) on 1 of 1 workers, .*install dask-train",
        ),
    ],
)
def test_worker_without_our_code(broken: str, says: str) -> None:
    """A worker where importing it fails: it could not even unpickle a reference to a function of ours."""
    code = f"import sys; sys.modules['{broken}'] = None; from distributed.cli.dask_worker import main; main()"
    with LocalCluster(n_workers=0, protocol="tcp://", **QUIET) as cluster:
        address = cluster.scheduler_address
        command = [sys.executable, "-c", code, address, "--no-nanny", "--no-dashboard", "--nthreads", "1"]
        worker = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            cluster.wait_for_workers(1, timeout=30)
            with pytest.raises(ClusterError, match=says):
                connect(Cluster(scheduler=address)).__enter__()
            assert worker.poll() is None
            assert len(cluster.scheduler.workers) == 1  # other users' worker, too
        finally:
            worker.terminate()
            worker.wait()


class Answering:
    """A client whose scheduler and one worker answer so."""

    def __init__(self, scheduler: same_code.Answer, worker: same_code.Answer | Exception) -> None:
        self._scheduler, self._worker = scheduler, worker

    def run_on_scheduler(self, *_: object) -> same_code.Answer:
        return self._scheduler

    def run(self, *_: object, on_error: str) -> dict[str, same_code.Answer | Exception]:
        return {"tcp://1": self._worker}


def test_a_scheduler_without_our_code_and_a_worker_with_another() -> None:
    here = same_code.local_answer()
    assert here["code"] is not None
    same_code.check_same(Answering(here, here), "tcp://0")  # type: ignore[arg-type]
    lacking, other = {**here, "pipeline": None, "code": None}, {**here, "code": "0123456789"}
    with pytest.raises(
        ClusterError, match=r"the scheduler of tcp://0 does not match: pipeline not installed .* on the sch"
    ):
        same_code.check_same(Answering(lacking, here), "tcp://0")  # type: ignore[arg-type]
    with pytest.raises(
        ClusterError, match=r"workers of tcp://0 do not match: the code of pipeline differs .*hash 01234567"
    ):
        same_code.check_same(Answering(here, other), "tcp://0")  # type: ignore[arg-type]
    gone, broken = OSError("closed"), ValueError("pipeline.__spec__ is None")
    same_code.check_same(Answering(here, gone), "tcp://0")  # type: ignore[arg-type]
    with pytest.raises(
        ClusterError, match=r"a call to the worker tcp://1 failed: ValueError: pipeline.__spec__ is None"
    ):
        same_code.check_same(Answering(here, broken), "tcp://0")  # type: ignore[arg-type]


def test_a_cluster_without_workers_is_waited_for(running: str) -> None:
    with LocalCluster(n_workers=0, protocol="tcp://", **QUIET) as cluster:
        section = Cluster(device="cpu", scheduler=cluster.scheduler_address)
        refused = section.model_copy(update={"patience": "0s"})
        with pytest.raises(ClusterError, match=r"cluster.workers = auto, but tcp://.* has 0"):
            connect(refused).__enter__()
        with connect(section) as client, WorkerMembership(client) as members:
            notes: list[str] = []

            def note(message: str) -> None:
                notes.append(message)
                cluster.scale(1)

            members.note = note
            assert len(placement(client, section, members).workers) == 1
        assert notes == ["no worker is available yet: waiting for one, up to 5m (cluster.patience)"]


def test_tls(certificates: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(existing, "TIMEOUT_SECONDS", 2)
    files = {"tls_ca_file": certificates.ca_file, "require_encryption": True}
    for role in ("client", "worker", "scheduler"):
        files |= {f"tls_{role}_cert": certificates.cert_file, f"tls_{role}_key": certificates.key_file}
    with LocalCluster(n_workers=1, protocol="tls://", security=Security(**files), **QUIET) as cluster:
        section = Cluster(device="cpu", scheduler=cluster.scheduler_address, security=certificates)
        with connect(section) as client:
            assert client.submit(sum, [1, 2]).result() == 3
            assert placement(client, section).workers[0].address.startswith("tls://")
        with pytest.raises(ClusterError, match=r"give cluster.security"):
            connect(Cluster(scheduler=cluster.scheduler_address)).__enter__()


def test_bad_tls_files(certificates: Files) -> None:
    for change in ({"ca_file": "/no/such.pem"}, {"key_file": certificates.cert_file}):
        section = Cluster(scheduler="tls://127.0.0.1:1", security=certificates.model_copy(update=change))
        with pytest.raises(ClusterError, match=r"cluster.security"):
            connect(section).__enter__()
