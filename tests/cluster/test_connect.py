"""A local cluster: its workers, sockets, settings, silence, and that nothing is left of it."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipeline.cluster import affinity, ports
from pipeline.cluster.launchers.layout import layout
from pipeline.cluster.machine_checks import check_machine, lines
from pipeline.cluster.memory import process_tree
from pipeline.cluster.scheduler_info import scheduler_info
from pipeline.config.job import Cluster
from pipeline.dashboard import lazy
from pipeline.errors import ClusterError
from pipeline.run.connect import connect
from pipeline.runtime import capability
from pipeline.runtime.placement import Placement, placement

ROOT = Path(__file__).resolve().parents[2]
SECTION = Cluster(device="cpu", workers=2, threads=1, memory="1GiB")


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    """Two workers with one thread each, started as a user's environment would have it at its worst."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "7")
        with connect(SECTION) as client:
            assert os.environ["OMP_NUM_THREADS"] == "7"
            yield client


@pytest.fixture(scope="module")
def where(client: Any) -> Placement:
    return placement(client, SECTION)


def _settings() -> dict[str, Any]:
    import logging

    import dask

    import xgboost  # isort: skip

    model = xgboost.train({}, xgboost.DMatrix([[1.0], [2.0]], label=[0.0, 1.0]), 1)
    handlers = logging.getLogger("distributed").handlers
    return {
        "omp": os.environ["OMP_NUM_THREADS"],
        "waiting": os.environ["OMP_WAIT_POLICY"],
        "cores": os.sched_getaffinity(0),
        "spill": dask.config.get("distributed.worker.memory.spill"),
        "heavy": [
            name for name in ("pandas", "sklearn", "bokeh", "dask.dataframe", "matplotlib") if name in sys.modules
        ],
        "rounds": model.num_boosted_rounds(),
        "loud": [handler for handler in handlers if type(handler) is logging.StreamHandler and handler.level < 51],
        "script": "pytest" in sys.modules,
    }


_settings.__module__ = "__main__"  # workers do not have the tests: travels by value


def test_workers_are_set_up(client: Any) -> None:
    found = client.run(_settings)
    assert len(found) == 2
    for settings in found.values():
        assert settings["omp"] == "1"
        assert settings["waiting"] == os.environ.get("OMP_WAIT_POLICY", "PASSIVE")
        assert settings["spill"] is False
        assert settings["heavy"] == []  # XGBoost alone
        assert settings["rounds"] == 1
        assert settings["loud"] == []
        assert not settings["script"]
    if affinity.cores() >= 2 and affinity.cpu_quota() is None:
        first, second = (settings["cores"] for settings in found.values())
        assert not first & second


def test_placement(client: Any, where: Placement) -> None:
    assert where.device == "cpu"
    assert where.local
    assert [worker.name for worker in where.workers] == ["0", "1"]
    for worker in where.workers:
        assert (worker.threads, worker.memory_limit, worker.host) == (1, 2**30, "127.0.0.1")
        assert worker.capability > 0
    assert where.oversubscribed == (affinity.cores() < 2)
    with pytest.raises(ClusterError, match=r"cluster.workers = 5, but the cluster has 2"):
        placement(client, Cluster(workers=5))


def test_more_threads_than_cores_is_noted(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(affinity, "cores", lambda: 1)
    found = placement(client, SECTION)
    assert found.oversubscribed
    assert found.notes == ("oversubscribed: 2 workers x 1 threads on 1 cores",)


def test_workers_that_are_busy_are_waited_for_and_a_note_says_so(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capability, "BUSY_SECONDS", 0.2)
    other = [client.submit(time.sleep, 3.0, workers=[worker], pure=False) for worker in client.nthreads()]
    told: list[bool] = []
    found = placement(client, SECTION, busy=lambda: told.append(other[0].done()))
    assert told == [False]
    assert len(found.workers) == 2
    assert all(future.done() for future in other)


def test_only_loopback(client: Any) -> None:
    listening = [
        (pid, connection.laddr.ip)
        for pid in process_tree()
        for connection in psutil.Process(pid).net_connections(kind="inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert len({pid for pid, _ in listening}) >= 3  # this process and two workers
    assert {ip for _, ip in listening} == {"127.0.0.1"}


@pytest.mark.slow
def test_dashboard_is_loaded_at_the_first_visit() -> None:
    code = """
        import sys, urllib.request
        from pipeline.run.connect import connect
        from pipeline.runtime.placement import placement
        from pipeline.config.job import Cluster
        section = Cluster(device="cpu", workers=1, threads=1)
        with connect(section) as client:
            link = placement(client, section).dashboard
            assert link.startswith("http://127.0.0.1:"), link
            assert "bokeh" not in sys.modules
            for _ in range(2):
                with urllib.request.urlopen(link) as page:
                    assert page.status == 200 and b"bokeh" in page.read().lower()
            with urllib.request.urlopen(link.replace("status", "")) as page:
                assert page.status == 200
            assert "bokeh" in sys.modules
    """
    done = _script(code)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_no_dashboard_unless_asked() -> None:
    section = Cluster(device="cpu", workers=1, threads=1, dashboard=False)
    with connect(section) as client:
        assert placement(client, section).dashboard is None
        port = scheduler_info(client)["services"]["dashboard"]
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/status")


def test_next_free_port() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with ports.free_address(port=port) as found:
            assert found != f"127.0.0.1:{port}"
            assert int(found.removeprefix("127.0.0.1:")) in (0, *range(port + 1, port + 10))
    with ports.free_address(port=port) as found:
        assert found == f"127.0.0.1:{port}"
    with ports.free_address(port=65_535) as found:
        assert found in ("127.0.0.1:65535", "127.0.0.1:0")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux has names that vanish with a process")
def test_clusters_that_start_at_once_get_ports_of_their_own() -> None:
    free = 20_000 + os.getpid() % 10_000  # clusters of other tests use the usual ones
    with contextlib.ExitStack() as stack:
        given = [stack.enter_context(ports.free_address(port=free)) for _ in range(3)]
    assert len(set(given)) == 3


def test_the_link_says_why_it_is_not_the_usual_one(monkeypatch: pytest.MonkeyPatch) -> None:
    with connect(Cluster(device="cpu", workers=1, threads=1)) as client:
        port = int(client.dashboard_link.rpartition(":")[2].partition("/")[0])
        monkeypatch.setattr(ports, "PORT", port)
        assert lazy.link(client, "training") == f"http://127.0.0.1:{port}/training"
        monkeypatch.setattr(ports, "PORT", port - 1)
        assert lazy.link(client) == f"http://127.0.0.1:{port}/status (port {port - 1} is in use)"


@pytest.mark.parametrize(
    ("given", "nodes", "cores", "workers", "threads"),
    [
        ({}, ((0, 1, 2, 3),), 4, 1, 4),
        ({}, ((0, 1), (2, 3)), 4, 2, 2),
        ({}, ((0, 1), (2, 3)), 1, 1, 1),
        ({"workers": 3}, ((0, 1, 2, 3),), 4, 3, 1),
        ({"threads": 2}, ((0, 1, 2, 3),), 4, 1, 2),
        ({"workers": 9}, ((0, 1),), 2, 9, 1),
    ],
)
def test_auto(given: Any, nodes: Any, cores: int, workers: int, threads: int) -> None:
    plan = layout(Cluster(device="cpu", **given), nodes, cores, 9 * 2**30)
    assert (plan.workers, plan.threads) == (workers, threads)
    assert plan.memory_limit_nbytes == 9 * 2**30 // workers
    assert plan.oversubscribed == (workers * threads > cores)


def test_doctor() -> None:
    checks = check_machine()
    assert checks["worker"]["error"] is None
    assert checks["worker"]["omp_num_threads"] == str(checks["worker"]["threads"])
    assert checks["problems"] == []
    assert checks["ports"]["loopback"]
    assert [what for what, _ in lines(checks)] == [
        "versions",
        "cores",
        "memory",
        "GPU",
        "ports",
        "TLS",
        "worker",
        "problems",
    ]


def test_entered_in_another_thread() -> None:
    context = connect(Cluster(device="cpu", workers=1, threads=1))
    clients: list[Any] = []
    thread = threading.Thread(target=lambda: clients.append(context.__enter__()))
    thread.start()
    thread.join()
    pids = process_tree()
    assert clients[0].submit(sum, [1, 2]).result() == 3
    context.__exit__(None, None, None)
    assert all(_is_gone(pid) for pid in pids if pid not in process_tree())


BUSY = """
    import os, signal, sys, threading, time
    import ctypes
    from pipeline.run.connect import connect
    from pipeline.cluster.memory import process_tree
    from pipeline.config.job import Cluster

    def hog():
        ctypes.PyDLL(None).sleep(60)  # never lets go of the interpreter

    def interrupt(seconds):
        timer = threading.Timer(seconds, os.killpg, [0, signal.SIGINT])
        timer.daemon = True
        timer.start()
"""


@pytest.mark.parametrize("seconds", [0.05, 0.3])
def test_interrupted_while_starting(seconds: float) -> None:
    code = f"""
        interrupt({seconds})
        with connect(Cluster(device="cpu", workers=2, threads=1)):
            time.sleep(60)
    """
    done, took = _interrupted(code)
    assert took < 30
    assert done.returncode in (1, 130, -signal.SIGINT)
    assert _errors(done) == ["KeyboardInterrupt"]


def test_interrupted_while_busy() -> None:
    code = """
        with connect(Cluster(device="cpu", workers=2, threads=1)) as client:
            tasks = [client.submit(hog, pure=False) for _ in range(2)]
            time.sleep(0.5)
            interrupt(0)
            time.sleep(60)
    """
    done, took = _interrupted(code)
    assert took < 30
    assert _errors(done) == ["KeyboardInterrupt"]


def test_an_error_inside_and_a_dead_worker_leave_nothing_and_say_nothing_else() -> None:
    code = """
        with connect(Cluster(device="cpu", workers=2, threads=1)) as client:
            task = client.submit(time.sleep, 60)
            workers = client.run(os.getpid)
            os.kill(next(iter(workers.values())), signal.SIGKILL)
            time.sleep(0.3)
            raise ValueError("inside")
    """
    done, took = _interrupted(code)
    assert took < 30
    assert _errors(done) == ["ValueError: inside"]


def test_a_killed_client_takes_its_workers_along(tmp_path: Path) -> None:
    notes = tmp_path / "pids"
    code = f"""
        with connect(Cluster(device="cpu", workers=2, threads=1)) as client:
            open({str(notes)!r}, "w").write(" ".join(map(str, client.run(os.getpid).values())))
            os.kill(os.getpid(), signal.SIGKILL)
    """
    done, _ = _interrupted(code)
    assert done.returncode == -signal.SIGKILL
    pids = list(map(int, notes.read_text().split()))
    deadline = time.monotonic() + 5
    while not all(map(_is_gone, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert all(map(_is_gone, pids))


def _interrupted(code: str) -> tuple[subprocess.CompletedProcess[str], float]:
    """Runs the code in a process group of its own; nothing of the group may be left."""
    begin = time.monotonic()
    whole = textwrap.dedent(BUSY) + textwrap.dedent(code)
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", whole],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    out, err = process.communicate(timeout=60)  # ends when the last holder of the pipes has ended
    took = time.monotonic() - begin
    time.sleep(0.1)
    left = [p for p in psutil.process_iter() if not _is_gone(p.pid) and _group(p.pid) == process.pid]
    assert left == []
    return subprocess.CompletedProcess(process.args, process.returncode, out, err), took


def _group(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None


def _is_gone(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def _errors(done: subprocess.CompletedProcess[str]) -> list[str]:
    """The lines at the left margin of stderr, tracebacks' heads aside: one line per error, and any noise."""
    return [
        line
        for line in done.stderr.splitlines()
        if line and not line.startswith((" ", "Traceback", "During handling", "The above exception"))
    ]


def _script(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
