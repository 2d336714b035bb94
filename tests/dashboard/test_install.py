"""The pages in the dashboards of real schedulers: the run's own, loaded late, and one that another process started."""

import contextlib
import importlib.util
import json
import re
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import dask
import distributed
import pytest
from distributed import Client, LocalCluster

from pipeline.cluster import ports
from pipeline.cluster.launchers import local
from pipeline.config.job import Cluster
from pipeline.dashboard import install, internals, lazy
from pipeline.dashboard.install import attached
from pipeline.events.topics import RUN_EVENTS, WORKER_EVENTS
from pipeline.events.types import Event, Failed, Note, RoundDone, Saved, Started, WorkerRounds, encode
from pipeline.monitoring.publish import publishing
from pipeline.run.connect import connect
from pipeline.runtime.placement import placement

pages = pytest.importorskip("pipeline.dashboard.pages.registry")

ROOT = Path(__file__).resolve().parents[2]
SECTION = Cluster(device="cpu", workers=1, threads=1)
ROUTES = [page.route for page in pages.PAGES]
PLOTS = [page.route for page in pages.INDIVIDUAL]
THEIRS: dict[str, Any] = {
    "n_workers": 0,
    "host": "127.0.0.1",
    "protocol": "tcp://",
    "dashboard_address": "127.0.0.1:0",
    "silence_logs": 51,
}


def read(link: str) -> str:
    with urllib.request.urlopen(link, timeout=20) as page:
        text: str = page.read().decode()
        return text


def refusal(link: str) -> tuple[int, str]:
    """The status and the reason with which a page is refused."""
    with pytest.raises(urllib.error.HTTPError) as caught:
        read(link)
    caught.value.close()
    return caught.value.code, caught.value.reason


def runs_of(client: Client) -> dict[str, str]:
    """The runs on the board of the client's scheduler, and their states."""

    def look(dask_scheduler: Any) -> dict[str, str]:
        board = dask_scheduler.plugins["pipeline-dashboard"].store
        return {name: run.state for name, run in board.runs.items()}

    look.__module__ = "__main__"  # a scheduler has no tests: travels by value
    found: dict[str, str] = client.run_on_scheduler(look)
    return found


def check_pages(base: str) -> None:
    """Every page answers, and appears once in the navigation of each, like Dask's own."""
    for route in (*ROUTES, "/status", "/workers"):
        text = read(base + route)
        for ours in ROUTES:
            assert text.count(f'<a href="{ours.strip("/")}">') == 1, (route, ours)
        for plot in PLOTS:
            assert text.count(f'<a href="{plot.strip("/")}">') == 1, (route, plot)
    for plot in PLOTS:
        assert "bokeh" in read(base + plot).lower()
    listed = json.loads(read(base + "/individual-plots.json"))
    assert set(PLOTS) <= set(listed.values())
    assert "/individual-task-stream" in listed.values()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def notes() -> list[str]:
    return []


def test_our_own_cluster(notes: list[str]) -> None:
    with connect(SECTION) as client:
        link = placement(client, SECTION).dashboard
        assert link is not None
        base = link.removesuffix("/status")
        with attached(client, notes.append), publishing(client, "a") as listen:
            listen(Started(verb="train", run="a"))
            check_pages(base)
        assert runs_of(client).keys() == {"a"}
        with attached(client, notes.append):  # the next run
            pass
        check_pages(base)
    assert notes == []


def test_a_page_may_be_the_first_that_is_visited() -> None:
    with connect(SECTION) as client:
        base = str(placement(client, SECTION).dashboard).removesuffix("/status")
        check_pages(base)


def test_the_doorbell_is_rung_by_two_at_once() -> None:
    with connect(SECTION) as client:
        base = str(placement(client, SECTION).dashboard).removesuffix("/status")
        threads = [threading.Thread(target=read, args=(base + route,)) for route in (*ROUTES, "/status")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        check_pages(base)


@pytest.mark.parametrize("of", ["scheduler", "worker"])
def test_preloads_of_the_user_are_kept(of: Literal["scheduler", "worker"]) -> None:
    key = f"distributed.{of}.preload"
    with dask.config.set({key: "a.py"}):
        assert local.preloads(of, "ours") == {key: ["a.py", "ours"]}
    with dask.config.set({key: ["a.py", "b.py"], f"{key}-argv": [["-v"], []]}):
        assert local.preloads(of, "ours") == {key: ["a.py", "b.py", "ours"], f"{key}-argv": [["-v"], [], []]}
    with dask.config.set({key: "a.py", f"{key}-argv": ["-v"]}):
        assert local.preloads(of, "ours") == {key: ["a.py", "ours"]}
    assert local.preloads(of, "ours") == {key: ["ours"]}


def test_a_cluster_of_ours_loads_them_all(tmp_path: Path) -> None:
    (tmp_path / "theirs.py").write_text("def dask_setup(server):\n    server.theirs = True\n")
    theirs = str(tmp_path / "theirs.py")
    with (
        dask.config.set({"distributed.worker.preload": theirs, "distributed.scheduler.preload": theirs}),
        connect(SECTION) as client,
    ):
        (found,) = client.run(lambda dask_worker: (dask_worker.theirs, len(dask_worker.preloads))).values()
        assert found == (True, 3)  # theirs, ours for cores, ours for its web server
        assert client.run_on_scheduler(lambda dask_scheduler: dask_scheduler.theirs)
        assert client.run_on_scheduler(lambda dask_scheduler: install.NAME in dask_scheduler.plugins)


def test_no_plugin_without_a_dashboard() -> None:
    with connect(SECTION.model_copy(update={"dashboard": False})) as client:
        plugins: list[str] = client.run_on_scheduler(lambda dask_scheduler: list(dask_scheduler.plugins))
        assert install.NAME not in plugins


@contextlib.contextmanager
def dask_scheduler(*arguments: str, code: str = "") -> Iterator[tuple[str, str]]:
    """A `dask scheduler` process: its address and its dashboard's."""
    with socket.socket() as one, socket.socket() as two:
        one.bind(("127.0.0.1", 0))
        two.bind(("127.0.0.1", 0))
        port, web = one.getsockname()[1], two.getsockname()[1]
    begin = f"{code}; from distributed.cli.dask_scheduler import main; main()"
    command = [
        sys.executable, "-c", begin.lstrip("; "), "--host", "127.0.0.1", "--port", str(port),
        "--dashboard-address", f"127.0.0.1:{web}", *arguments,
    ]  # fmt: skip
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield f"tcp://127.0.0.1:{port}", f"http://127.0.0.1:{web}"
    finally:
        process.terminate()
        process.wait(20)


@contextlib.contextmanager
def client_of(address: str) -> Iterator[Client]:
    with Client(address, timeout=30) as client:
        yield client


def test_a_running_scheduler_and_two_clients(notes: list[str]) -> None:
    with dask_scheduler() as (address, base), client_of(address) as one, client_of(address) as two:
        assert ROUTES[0] not in read(base + "/status")
        with (
            attached(one, notes.append), publishing(one, "a") as first,
            attached(two, notes.append), publishing(two, "b") as second,
        ):  # fmt: skip
            first(Started(verb="train", run="a"))
            second(Started(verb="train", run="b"))
            first(Saved(path="m", sha256=""))
        assert runs_of(one) == {"a": "finished", "b": "running"}
        check_pages(base)
    assert notes == []


def test_a_scheduler_with_our_preload() -> None:
    with dask_scheduler("--preload", "pipeline.dashboard.install") as (address, base), client_of(address):
        check_pages(base)


def test_behind_a_prefix(notes: list[str]) -> None:
    with dask_scheduler("--dashboard-prefix", "/dask") as (address, base), client_of(address) as client:
        with attached(client, notes.append):
            pass
        assert f'<a href="{ROUTES[0].strip("/")}">' in read(f"{base}/dask/status")
        assert "bokeh" in read(f"{base}/dask{ROUTES[0]}").lower()
        assert set(PLOTS) <= set(json.loads(read(f"{base}/dask/individual-plots.json")).values())
    assert notes == []


def told(client: Client) -> list[str]:
    """What the command says of the dashboard as a run begins, and then the run itself."""
    said: list[str] = []

    def listen(event: Event) -> None:
        if isinstance(event, Note):
            said.append(event.message)

    hear = lazy.telling(client, listen)
    hear(Started(verb="train", run="62aa"))
    with attached(client, lambda note: hear(Note(message=note))):
        pass
    return said


def told_without_a_run(client: Client) -> list[Event]:
    said: list[Event] = []
    lazy.tell(client, said.append)
    return said


def test_the_link_leads_to_the_pages_of_a_running_scheduler() -> None:
    with LocalCluster(**THEIRS) as cluster, client_of(cluster.scheduler_address) as client:
        base = cluster.dashboard_link.removesuffix("/status")
        for _ in range(2):
            assert told(client) == [f"dashboard at {base}/training (run 62aa)"]
        assert "bokeh" in read(f"{base}/training").lower()
        (note,) = told_without_a_run(client)
        assert isinstance(note, Note)
        assert note.message == f"dashboard at {base}/status"


def test_the_link_behind_a_prefix() -> None:
    with dask_scheduler("--dashboard-prefix", "/dask") as (address, base), client_of(address) as client:
        assert told(client) == [f"dashboard at {base}/dask/training (run 62aa)"]
        with dask.config.set({"distributed.dashboard.link": "https://hub/proxy/dask/status"}):
            assert told(client) == ["dashboard at https://hub/proxy/dask/training (run 62aa)"]
        with dask.config.set({"distributed.dashboard.link": "https://hub/ours"}):
            assert told(client) == ["dashboard at https://hub/ours (run 62aa)"]


def test_no_link_to_a_scheduler_without_a_dashboard() -> None:
    options = {"scheduler_kwargs": {"dashboard": False}, **THEIRS}
    with LocalCluster(**options) as cluster, client_of(cluster.scheduler_address) as client:
        assert told(client) == [f"no dashboard (run 62aa): {install.NO_DASHBOARD}"]
        assert told_without_a_run(client) == []


def test_no_link_to_a_scheduler_without_bokeh() -> None:
    hidden = "import sys; sys.modules['bokeh'] = None"
    with dask_scheduler(code=hidden) as (address, _), client_of(address) as client:
        assert told(client) == [f"no dashboard (run 62aa): {install.NO_BOKEH}"]
        assert told_without_a_run(client) == []


def test_the_link_to_a_scheduler_without_our_code() -> None:
    hidden = "import sys; sys.modules['pipeline'] = None"
    with dask_scheduler(code=hidden) as (address, base), client_of(address) as client:
        (line,) = told(client)
        why = f"dashboard at {base}/status (run 62aa), without training pages: the scheduler has no module "
        assert line.startswith(why)


def test_the_link_to_a_scheduler_of_an_unknown_version(monkeypatch: pytest.MonkeyPatch) -> None:
    def prefix(client: Client) -> str:
        raise AttributeError("no http_application")

    monkeypatch.setattr(internals, "prefix", prefix)
    with LocalCluster(**THEIRS) as cluster, client_of(cluster.scheduler_address) as client:
        (line,) = told(client)
        assert line.startswith(f"dashboard at {cluster.dashboard_link.removesuffix('status')}training (run ")


def test_the_link_to_a_cluster_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    with connect(SECTION) as client:
        port = int(client.dashboard_link.rpartition(":")[2].partition("/")[0])
        monkeypatch.setattr(ports, "PORT", port)
        assert told(client) == [f"dashboard at http://127.0.0.1:{port}/training (run 62aa)"]
        monkeypatch.setattr(ports, "PORT", 1)
        assert told(client) == [f"dashboard at http://127.0.0.1:{port}/training (run 62aa; port 1 is in use)"]


def test_a_killed_client_fails_its_runs(notes: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(install, "RETURN_SECONDS", 0.1)
    with LocalCluster(**THEIRS) as cluster, Client(cluster) as other:
        with client_of(cluster.scheduler_address) as client, attached(client, notes.append):
            with publishing(client, "a") as listen:
                listen(Started(verb="train", run="a"))
            with publishing(client, "b") as listen:
                listen(Started(verb="train", run="b"))
                listen(Saved(path="m", sha256=""))
                listen(Note(message="by the way"))
            assert runs_of(other) == {"a": "running", "b": "finished"}
        until(lambda: runs_of(other)["a"] != "running")
        assert runs_of(other) == {"a": "failed", "b": "finished"}
        said = [message["event"] for _, message in other.get_events(RUN_EVENTS) if message["run"] == "a"]
        assert said[-1] == encode(Failed(message=install.CLIENT_GONE, time=said[-1]["time"]))


def test_a_client_that_comes_back_has_not_gone(notes: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(install, "RETURN_SECONDS", 3.0)
    with (
        LocalCluster(**THEIRS) as cluster, Client(cluster) as other, client_of(cluster.scheduler_address) as client,
        attached(client, notes.append), publishing(client, "a") as listen,
    ):  # fmt: skip
        listen(Started(verb="train", run="a"))
        until(lambda: runs_of(other) == {"a": "running"})
        client.sync(lose_connection, client)
        time.sleep(4)  # a moment more than it has
        assert runs_of(other) == {"a": "running"}


async def lose_connection(client: Any) -> None:
    client.scheduler_comm.comm.abort()


def test_a_run_whose_client_had_gone_before_has_failed(notes: list[str]) -> None:
    with LocalCluster(**THEIRS) as cluster, Client(cluster) as client:
        said = {"run": "a", "event": encode(Started(verb="train", run="a")), "client": "nobody"}
        client.log_event(RUN_EVENTS, said)
        with attached(client, notes.append):
            until(lambda: runs_of(client) == {"a": "failed"})


def test_what_was_recorded_before_is_taken_up_and_workers_are_heard(notes: list[str]) -> None:
    done = RoundDone(round=1, rounds=2, metrics={}, best_round=1, rows_per_second=1.0)
    rounds = WorkerRounds(
        worker="0", first=1, round=1, seconds=1.0, cpu_seconds=1.0, runqueue_seconds=0.0, bytes_sent=0, memory_nbytes=1
    )
    with LocalCluster(**THEIRS) as cluster, Client(cluster) as client:
        client.log_event(RUN_EVENTS, {"run": "a", "event": encode(Started(verb="train", run="a"))})
        with attached(client, notes.append):
            client.log_event(WORKER_EVENTS, {"run": "w", "event": encode(rounds)})
            client.log_event(WORKER_EVENTS, {"run": "r", "event": encode(done)})  # comes on the other topic, too
            client.log_event(WORKER_EVENTS, {"run": "a", "checkpoint": 3})
            client.log_event("somebody-elses", "text")
            assert runs_of(client).keys() == {"a", "w"}


def test_a_client_of_another_version_gets_one_note_and_no_other_client_does(notes: list[str]) -> None:
    strange = encode(Started(verb="train", run="a")) | {"version": 99}
    with (
        LocalCluster(**THEIRS) as cluster, Client(cluster) as client, client_of(cluster.scheduler_address) as another,
        attached(another, lambda note: pytest.fail(note)), attached(client, notes.append),
    ):  # fmt: skip
        for _ in range(3):
            client.log_event(RUN_EVENTS, {"run": "a", "event": strange, "client": client.id})
        until(lambda: bool(notes))
        with client_of(cluster.scheduler_address) as late, attached(late, lambda note: pytest.fail(note)):
            time.sleep(0.2)
    assert len(notes) == 1
    assert "another version of the pipeline" in notes[0]


def test_a_scheduler_without_a_dashboard_is_left_so(notes: list[str]) -> None:
    with LocalCluster(scheduler_kwargs={"dashboard": False}, **THEIRS) as cluster, Client(cluster) as client:
        applications = list(cluster.scheduler.http_application.applications)
        for _ in range(2):
            with attached(client, notes.append):
                pass
        assert cluster.scheduler.http_application.applications == applications
    assert set(notes) == {f"no training pages in the dashboard: {install.NO_DASHBOARD}"}
    assert len(notes) == 2  # once a run


def test_a_scheduler_without_bokeh(notes: list[str]) -> None:
    hidden = "import sys; sys.modules['bokeh'] = None"
    with dask_scheduler(code=hidden) as (address, _), client_of(address) as client, attached(client, notes.append):
        pass
    assert notes == [f"no training pages in the dashboard: {install.NO_BOKEH}"]


def test_a_scheduler_without_our_code(notes: list[str]) -> None:
    hidden = "import sys; sys.modules['pipeline'] = None"
    with dask_scheduler(code=hidden) as (address, base), client_of(address) as client, attached(client, notes.append):
        assert client.scheduler_info()["type"] == "Scheduler"  # nothing happened to it
        assert "Status" in read(base + "/status")
    (note,) = notes
    assert re.search(r"the scheduler has no module pipeline\S*: install dask-train-pipeline \S+ there, too", note)


@pytest.mark.parametrize("broken", ["distributed.dashboard.core.BokehApplication", "distributed.http.scheduler.info"])
def test_internals_of_an_unknown_version(broken: str, notes: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with LocalCluster(**THEIRS) as cluster, Client(cluster) as client:
        base = cluster.dashboard_link.removesuffix("/status")
        with monkeypatch.context() as patch:
            if broken.endswith("BokehApplication"):
                patch.setattr(broken, lambda applications: None)
            else:
                patch.setitem(sys.modules, broken, None)  # type: ignore[arg-type]
            with attached(client, notes.append):
                assert client.scheduler_info()["type"] == "Scheduler"
        assert ROUTES[0] not in read(base + "/status")
        assert refusal(base + ROUTES[0])[0] == 404
    (note,) = notes
    assert f"they do not fit the dashboard of distributed {distributed.__version__}" in note
    assert "\n" not in note


def test_an_unknown_version_seen_at_the_first_visit(notes: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a cluster of ours, whose dashboard is loaded late."""
    with connect(SECTION) as client, attached(client, notes.append):
        link = str(placement(client, SECTION).dashboard)
        assert notes == []
        time.sleep(0.2)  # a subscription takes effect a moment later
        with monkeypatch.context() as patch:
            patch.setattr("distributed.dashboard.core.BokehApplication", lambda applications: None)
            assert "Status" in read(link)  # Dask's own pages are there
        until(lambda: bool(notes))
    assert len(notes) == 1


def test_a_dashboard_that_cannot_be_loaded(notes: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """In a version that loads it in another way: noted once, and tried again at the next visit."""
    with connect(SECTION) as client, attached(client, notes.append):
        link = str(placement(client, SECTION).dashboard)
        time.sleep(0.2)  # a subscription takes effect a moment later
        with monkeypatch.context() as patch:
            patch.setattr("distributed.dashboard.scheduler.connect", lambda: None)
            for _ in range(2):
                assert refusal(link) == (503, "No dashboard: it does not fit this version of Dask")
        assert "Status" in read(link)
    assert len(notes) == 1
    assert f"they do not fit the dashboard of distributed {distributed.__version__}" in notes[0]


def test_a_web_server_of_an_unknown_version(notes: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def offer(*_: object) -> None:
        raise AttributeError("no http_application")

    monkeypatch.setattr(internals, "lazy_mount", offer)
    with connect(SECTION) as client, attached(client, notes.append):
        assert client.scheduler_info()["type"] == "Scheduler"
    (note,) = notes
    assert f"they do not fit the dashboard of distributed {distributed.__version__}" in note


def test_our_own_cluster_without_bokeh(notes: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "bokeh" else find(name, *rest))
    monkeypatch.setitem(sys.modules, "distributed.dashboard.scheduler", None)  # type: ignore[arg-type]
    with connect(SECTION) as client, attached(client, notes.append):
        link = str(placement(client, SECTION).dashboard)
        assert refusal(link) == (503, "No dashboard: Dask needs Bokeh for it")
        assert told(client) == [f"no dashboard (run 62aa): {install.NO_BOKEH}"]
        assert told_without_a_run(client) == []
    assert notes == [f"no training pages in the dashboard: {install.NO_BOKEH}"]
