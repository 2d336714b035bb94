"""`pipeline watch`: a training that another client runs, seen from here."""

import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from distributed import Client, LocalCluster

from pipeline.cli.main import cli
from pipeline.cli.terminal import run as run_command
from pipeline.cluster.launchers import existing
from pipeline.config.job import Cluster
from pipeline.errors import ClusterError, SchedulerLostError, TrainingError, UserError
from pipeline.events.topics import RUN_EVENTS
from pipeline.events.types import Event, Failed, FragmentDone, Note, RoundDone, Saved, Started, StatisticsDone, encode
from pipeline.monitoring import follow as watching
from pipeline.monitoring import publish
from pipeline.monitoring.follow import RunFollower, latest, watch
from pipeline.monitoring.publish import publishing
from pipeline.runtime.sessions import close_run, open_run

ROOT = Path(__file__).resolve().parents[2]
SAVED = Saved(path="models/late", sha256="0" * 64)
QUIET: dict[str, Any] = {
    "n_workers": 0,
    "host": "127.0.0.1",
    "protocol": "tcp://",
    "dashboard_address": "127.0.0.1:0",
    "scheduler_kwargs": {"dashboard": False},
    "silence_logs": 51,
}


def round_done(number: int) -> RoundDone:
    return RoundDone(round=number, rounds=90, metrics={"train.auc": 0.5}, best_round=number, rows_per_second=1.0)


def begin(run: str) -> Started:
    return Started(verb="train", run=run)


def message(run: str, event: Event) -> dict[str, Any]:
    return {"run": run, "event": encode(event)}


@pytest.fixture
def scheduler() -> Iterator[Client]:
    """A client that trains there."""
    with LocalCluster(**QUIET) as cluster, Client(cluster) as client:
        yield client


class Watcher:
    """`watch` in a thread."""

    def __init__(self, address: str, **options: Any) -> None:
        self.heard: list[Event] = []
        self.result: dict[str, Any] | None = None
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._watch, args=(address,), kwargs=options)
        self._thread.start()

    def _watch(self, address: str, **options: Any) -> None:
        try:
            self.result = watch(address, Cluster(), self.heard.append, **options)
        except BaseException as error:
            self.error = error

    def until(self, condition: Callable[[list[Event]], bool]) -> None:
        deadline = time.monotonic() + 20
        while not condition(self.heard):
            assert self.error is None
            assert time.monotonic() < deadline, self.heard
            time.sleep(0.01)

    def join(self) -> None:
        self._thread.join(20)
        assert not self._thread.is_alive()


def test_it_takes_up_a_run_where_it_is_and_follows_it_to_its_end(scheduler: Client) -> None:
    with publishing(scheduler, "old") as listen:
        listen(begin("old"))
        listen(SAVED)
    with publishing(scheduler, "a") as listen:
        listen(begin("a"))
        for number in range(1, 4):
            listen(round_done(number))
            time.sleep(1.5 * publish.INTERVAL_SECONDS)  # each is sent
        watcher = Watcher(scheduler.scheduler.address)
        watcher.until(lambda heard: bool(heard) and isinstance(heard[-1], RoundDone))
        assert [type(event) for event in watcher.heard] == [Started, RoundDone]  # of the rounds, the last
        assert watcher.heard[-1].round == 3  # type: ignore[attr-defined]
        with publishing(scheduler, "b") as other:
            other(begin("b"))
            other(SAVED)
        listen(round_done(4))
        listen(SAVED)
    watcher.join()
    assert watcher.error is None
    assert watcher.result == {"run": "a", "model": SAVED.path, "sha256": SAVED.sha256}
    rounds = [event.round for event in watcher.heard if isinstance(event, RoundDone)]
    assert rounds == [3, 4]
    assert sum(isinstance(event, Saved) for event in watcher.heard) == 1  # of its own run


def test_a_worker_whose_clock_is_behind_does_not_make_its_run_silent(scheduler: Client) -> None:
    """Workers emit the events of rounds, on machines whose clocks differ."""
    with publishing(scheduler, "behind") as listen:
        listen(begin("behind"))
        scheduler.log_event(
            RUN_EVENTS, {"run": "behind", "event": {**encode(round_done(1)), "time": time.time() - 300}}
        )
        watcher = Watcher(scheduler.scheduler.address)
        watcher.until(lambda heard: any(isinstance(event, RoundDone) for event in heard))
        listen(SAVED)
    watcher.join()
    assert [event for event in watcher.heard if isinstance(event, Note)] == []


def test_nothing_runs_so_it_waits_for_the_next(scheduler: Client) -> None:
    with publishing(scheduler, "old") as listen:
        listen(begin("old"))
        listen(SAVED)
    watcher = Watcher(scheduler.scheduler.address)
    watcher.until(lambda heard: bool(heard))
    (said,) = watcher.heard
    assert isinstance(said, Note)
    assert "waiting for the next one" in said.message
    with publishing(scheduler, "a") as listen:
        listen(begin("a"))
        listen(Failed(message="no target column"))
    watcher.join()
    assert isinstance(watcher.error, TrainingError)
    assert str(watcher.error) == "the training failed: no target column"


def test_a_named_run(scheduler: Client) -> None:
    with publishing(scheduler, "a") as one, publishing(scheduler, "b") as two:
        one(begin("a"))
        two(begin("b"))
        one(SAVED)
    watcher = Watcher(scheduler.scheduler.address, run="a")
    watcher.join()
    assert watcher.result is not None
    assert watcher.result["run"] == "a"


def test_what_comes_after_the_model_is_saved_is_shown_until_the_run_is_closed(scheduler: Client) -> None:
    note = Note(message="the model is saved; its report cannot be made: no space")
    open_run(scheduler, "a")
    with publishing(scheduler, "a") as listen:
        listen(begin("a"))
        watcher = Watcher(scheduler.scheduler.address)
        watcher.until(lambda heard: any(isinstance(event, Started) for event in heard))
        listen(SAVED)
        watcher.until(lambda heard: isinstance(heard[-1], Saved))
        with publishing(scheduler, "b") as other:
            other(begin("b"))
        listen(note)
        watcher.until(lambda heard: isinstance(heard[-1], Note))
        assert watcher.result is None
        close_run(scheduler, "a")
    watcher.join()
    assert watcher.error is None
    assert watcher.result == {"run": "a", "model": SAVED.path, "sha256": SAVED.sha256}
    assert isinstance(watcher.heard[-2], Saved)
    assert watcher.heard[-1].message == note.message  # type: ignore[attr-defined]


def test_what_came_after_the_model_was_saved_is_shown_of_a_named_run(scheduler: Client) -> None:
    with publishing(scheduler, "a") as listen:
        for event in (begin("a"), SAVED, Note(message="no report")):
            listen(event)
    watcher = Watcher(scheduler.scheduler.address, run="a")
    watcher.join()
    assert watcher.result is not None
    assert [type(event) for event in watcher.heard] == [Started, Saved, Note]


def test_a_scheduler_that_closes_once_the_model_is_saved_ends_the_run() -> None:
    with LocalCluster(**QUIET) as cluster, Client(cluster) as client:
        open_run(client, "a")
        with publishing(client, "a") as listen:
            listen(begin("a"))
            watcher = Watcher(cluster.scheduler_address)
            watcher.until(lambda heard: any(isinstance(event, Started) for event in heard))
            listen(SAVED)
            watcher.until(lambda heard: isinstance(heard[-1], Saved))
    watcher.join()
    assert watcher.error is None
    assert watcher.result == {"run": "a", "model": SAVED.path, "sha256": SAVED.sha256}


def test_a_run_that_stays_registered_and_is_silent_is_over(scheduler: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "SILENT_SECONDS", 0.5)
    open_run(scheduler, "a")
    with publishing(scheduler, "a") as listen:
        listen(begin("a"))
        listen(SAVED)
    watcher = Watcher(scheduler.scheduler.address, run="a")
    watcher.join()
    assert watcher.result is not None
    close_run(scheduler, "a")


def test_an_unknown_run(scheduler: Client) -> None:
    address = scheduler.scheduler.address
    with publishing(scheduler, "a") as listen:
        listen(begin("a"))
    with pytest.raises(UserError, match=f"^{address}: there is no run b; known there: a$"):
        watch(address, Cluster(), lambda event: None, run="b")


def test_the_scheduler_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "LOST_SECONDS", 0.5)
    with LocalCluster(**QUIET) as cluster:
        watcher = Watcher(cluster.scheduler_address)
        watcher.until(lambda heard: bool(heard))
    watcher.join()
    assert isinstance(watcher.error, SchedulerLostError)
    assert "was lost" in str(watcher.error)


def test_no_scheduler_there(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(existing, "TIMEOUT_SECONDS", 1)
    with pytest.raises(ClusterError, match="not reachable"):
        watch("tcp://127.0.0.1:1", Cluster(), lambda event: None)
    assert run_command(cli, ["watch", "tcp://127.0.0.1:1"]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_messages_of_another_version_are_passed_over(scheduler: Client) -> None:
    watcher = Watcher(scheduler.scheduler.address)
    watcher.until(lambda heard: bool(heard))
    strange = message("a", begin("a"))
    strange["event"]["version"] = 99
    scheduler.log_event(RUN_EVENTS, strange)
    scheduler.log_event(RUN_EVENTS, message("a", SAVED))
    watcher.join()
    assert watcher.error is None
    assert len(watcher.heard) == 2


def test_ctrl_c_leaves_the_training_alone(scheduler: Client) -> None:
    address = scheduler.scheduler.address
    with publishing(scheduler, "a") as listen:
        listen(begin("a"))
        listen(round_done(1))
        code = "import sys; from pipeline.__main__ import main; main()"
        command = [sys.executable, "-c", code, "watch", address]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 20
        while not any("pipeline" in name for name in _clients(scheduler)) and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
        assert (process.returncode, out) == (130, "")
        assert err.strip().splitlines()[-2:] == ["pipeline: interrupted", f"pipeline: {watching.LEFT_ALONE}"]
        assert "Traceback" not in err
        listen(SAVED)
    assert scheduler.status == "running"


def test_ctrl_c_where_no_training_runs(scheduler: Client) -> None:
    command = [sys.executable, "-m", "pipeline", "watch", scheduler.scheduler.address]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    assert "waiting for the next one" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    # Interrupted between writing and emptying its buffer, Python writes a line again.
    lines = [line for line in err.splitlines() if "waiting for the next one" not in line]
    assert lines == ["pipeline: interrupted", f"pipeline: {watching.STOPPED}"]


def _clients(client: Client) -> list[str]:
    found: list[str] = client.run_on_scheduler(lambda dask_scheduler: list(dask_scheduler.clients))
    return [name for name in found if name != client.id]


def test_the_command_ends_with_what_the_run_came_to(scheduler: Client) -> None:
    with publishing(scheduler, "a") as listen:
        listen(begin("a"))
        listen(StatisticsDone(rows=1_000, seconds=1.5))
        listen(round_done(1))
        command = [sys.executable, "-m", "pipeline", "watch", scheduler.scheduler.address, "--json"]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        first = process.stderr.readline()
        listen(round_done(90))
        listen(SAVED)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 0, err
    assert json.loads(out) == {"run": "a", "model": SAVED.path, "sha256": SAVED.sha256}
    assert first == "statistics: 1,000 rows in 1.5 s\n"
    assert re.search(r"round 90/90: train.auc 0.5", err)


def test_what_matters_of_what_was_recorded() -> None:
    fragments = [FragmentDone(stage=stage, done=done, total=9, rows=1) for stage in ("a", "b") for done in (1, 2)]
    said: list[Event] = [begin("a"), *fragments, round_done(1), Note(message="!"), round_done(2)]
    messages = [message("a", event) for event in said] + [message("b", begin("b")), message("b", SAVED)]
    shown = latest(messages)
    assert [one["run"] for one in shown] == ["a"] * 5
    assert [one["event"]["event"] for one in shown] == ["Started", "FragmentDone", "FragmentDone", "Note", "RoundDone"]
    assert [one["event"].get("done") for one in shown][1:3] == [2, 2]
    assert shown[-1]["event"]["round"] == 2
    assert len(latest(messages, "b")) == 2
    assert latest(messages, "c") == []
    assert latest([]) == []


def test_a_run_that_sent_an_event_after_its_end_has_ended() -> None:
    said = [
        {"run": "a", "event": encode(event)}
        for event in (Started(verb="train", run="a"), Saved(path="m", sha256=""), Note(message="by the way"))
    ]
    assert latest(said) == []


def test_a_silent_run_gives_way_to_one_that_begins() -> None:
    now = [0.0]
    following = RunFollower(clock=lambda: now[0])
    assert following.takes("a", begin("a"))
    assert not following.takes("b", begin("b"))
    now[0] += watching.SILENT_SECONDS + 1
    assert not following.takes("c", round_done(3))  # has begun before
    assert following.takes("b", begin("b"))
    assert not following.takes("a", round_done(3))
    named = RunFollower("a", clock=lambda: now[0])
    now[0] += watching.SILENT_SECONDS + 1
    assert not named.takes("b", begin("b"))
    assert named.takes("a", round_done(3))


LINK = "http://127.0.0.1:9999/training"


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Path, int, str | None]]:
    """What `pipeline watch FILE` was to serve: nothing is."""
    asked: list[tuple[Path, int, str | None]] = []

    def serve(path: Path, port: int, ready: Callable[[dict[str, Any]], None], *, run: str | None, debug: bool) -> None:
        asked.append((path, port, run))
        ready({"pages": LINK, "runs": [{"run": "a", "state": "running"}]})

    monkeypatch.setitem(sys.modules, "pipeline.dashboard.replay", SimpleNamespace(serve=serve))  # type: ignore[arg-type]
    return asked


def test_a_recorded_run_is_served(
    served: list[tuple[Path, int, str | None]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "events.jsonl"
    for arguments, said in (
        (["--port", "9999"], f"pages: {LINK} (Ctrl-C ends)\n"),
        (["--run", "a", "--quiet"], f"{LINK}\n"),
    ):
        assert run_command(cli, ["watch", str(path), *arguments]) == 0
        assert capsys.readouterr().out == said
    assert run_command(cli, ["watch", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"pages": LINK, "runs": [{"run": "a", "state": "running"}]}
    assert served == [(path, 9999, None), (path, 8787, "a"), (path, 8787, None)]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["127.0.0.1:8786"], "127.0.0.1:8786: no such file; a scheduler is given as tcp://127.0.0.1:8786"),
        (["localhost:8786"], "a scheduler is given as tcp://localhost:8786"),
        (["a.jsonl", "--port", "99999"], "99999 is not in the range 0<=x<=65535"),
        (["a.jsonl", "--port", "-5"], "-5 is not in the range 0<=x<=65535"),
        (["a.jsonl", "--set", "cluster.nosuch=1"], "--set cluster.nosuch=1: has no effect on a recorded file"),
    ],
)
def test_what_does_not_go_with_a_file(
    served: list[tuple[Path, int, str | None]], capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert run_command(cli, ["watch", *arguments]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
    assert served == []


def test_a_recorded_run_without_bokeh(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "bokeh", None)  # type: ignore[arg-type]
    assert run_command(cli, ["watch", str(tmp_path / "events.jsonl")]) == 2
    assert re.fullmatch(r"pipeline: error: .*need Bokeh, .*pip install 'bokeh>=3.9'\n", capsys.readouterr().err)


def test_a_host_that_is_not_known_is_reported_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    begin = time.monotonic()
    with pytest.raises(ClusterError, match=r"the host name nosuch is not known \(Name or service not known\)"):
        watch("tcp://nosuch:8786", Cluster(), lambda event: None)
    assert time.monotonic() - begin < existing.TIMEOUT_SECONDS / 2
